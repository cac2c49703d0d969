"""Loaders that cannot be measured, and claims without a meaning: what is said about each."""

from __future__ import annotations

import math
import re

import hypothesis  # noqa: F401 else its plugin imports it anew in every inner run, a second each
import pytest
import torch
from torch.utils.data import DataLoader

import pytest_loaderperf.plugin.hooks
import pytest_loaderperf.runs.results  # noqa: F401 one copy of each module for all inner runs
from pytest_loaderperf import measure, ms, s
from pytest_loaderperf.errors import ClaimError, LoaderError, LoaderPerfError, MeasureError
from pytest_loaderperf.measurement import side as side_module

BATCH = torch.zeros(4, 8)
GOOD = [BATCH] * 12


def raises():
    raise OSError("disk gone")


def forgets_to_return():
    pass


def returns_a_number():
    return 5


def makes_generator():
    yield from GOOD


def makes_few():
    return iter(GOOD[:3])


@pytest.fixture
def run():
    with measure(lambda: GOOD, budget=0.5, against=lambda: GOOD) as made:
        yield made


BAD = [
    (
        5,
        (
            "the loader: expected a factory, a function without arguments that returns a loader, got int, "
            "which can be neither called nor iterated. Write: lambda: DataLoader(...)."
        ),
    ),
    (None, "got NoneType, which can be neither called nor iterated."),
    (
        raises,
        "the loader factory raises() raised OSError: disk gone. Expected a loader; the traceback above says where.",
    ),
    (lambda needed: GOOD, "raised TypeError: "),
    (
        forgets_to_return,
        "the loader factory forgets_to_return() returned None. Expected a loader: is its return statement missing?",
    ),
    (
        returns_a_number,
        "the loader factory returns_a_number() returned a int, which cannot be iterated. Expected a loader.",
    ),
    (
        makes_generator(),
        (
            "the loader: expected a factory, or a loader for many epochs, got a one-shot generator. "
            "Give the function that makes it, without calling it."
        ),
    ),
    (
        iter(GOOD),
        "expected a factory, or a loader for many epochs, got a one-shot list_iterator.",
    ),
    (
        list,
        (
            "the loader gave no batch. Expected at least one: is the dataset empty, is drop_last dropping "
            "everything, or does it give one epoch only? Then give a factory."
        ),
    ),
    (lambda: DataLoader([1, 2, 3], batch_size=4, drop_last=True), "the loader gave no batch."),
    (
        lambda: GOOD[:3],
        (
            "the loader gives 3 batches an epoch, but a trial needs at least 5: 1 untimed, as many as it may "
            "prefetch, and 4 timed. Use more samples, a smaller batch_size, or fewer workers."
        ),
    ),
    (lambda: GOOD[:1], "the loader gives 1 batch an epoch, but a trial needs at least 5"),
    (makes_few, "the loader gives 3 batches an epoch, but a trial needs at least 5: 1 untimed"),
    (
        lambda: [object()] * 12,
        (
            "cannot count the samples of a batch of type object: nothing in it has a length. Expected tensors, arrays "
            "or lists; give count=, a function from a batch to its number of samples."
        ),
    ),
    (lambda: [7] * 12, "cannot count the samples of a batch of type int"),
    (lambda: [torch.tensor(1.0)] * 12, "cannot count the samples of a batch of type Tensor"),
    (
        lambda: [{"x": BATCH, "y": BATCH[:3]}] * 12,
        (
            "cannot count the samples of a batch: its parts differ in length (batch['x']: 4, batch['y']: 3). "
            "Give count=, a function from a batch to its number of samples."
        ),
    ),
    (
        lambda: [BATCH[:0]] * 12,
        (
            "the loader: expected an integer of at least 1 as the number of samples of a batch, got 0. "
            "Fix count=, or keep empty batches out of the loader."
        ),
    ),
]


@pytest.mark.parametrize("source, words", BAD, ids=range(len(BAD)))
def test_a_loader_that_cannot_be_measured_is_refused(source, words):
    with pytest.raises(LoaderError, match=re.escape(words)):
        measure(source, budget=0.5)


@pytest.mark.parametrize("source, words", [BAD[0], BAD[2], BAD[8], BAD[10]], ids=["type", "raises", "empty", "short"])
def test_the_other_side_is_refused_in_the_same_words_under_its_own_name(source, words):
    words = words.replace("the loader", "the against loader").replace("the loader factory", "the against factory")
    with pytest.raises(LoaderError, match=re.escape(words)):
        measure(lambda: GOOD, against=source, budget=0.5)


def test_a_bad_factory_fails_its_item_alone_with_the_users_own_traceback(pytester):
    pytester.makepyfile(
        """
        def broken():
            raise OSError("disk gone")

        def test_broken(loaderperf):
            loaderperf(broken)

        def test_good(loaderperf):
            loaderperf(lambda: [[0]] * 12)
        """
    )
    result = pytester.runpytest_inprocess("--loaderperf")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        ["*raise OSError(*disk gone*", "E *LoaderError: the loader factory broken() raised OSError: disk gone.*"]
    )


@pytest.mark.parametrize("whole", [False, True])
def test_an_error_of_ours_ends_at_the_users_line_unless_the_whole_traceback_is_asked_for(pytester, whole):
    pytester.makepyfile(
        """
        def broken():
            raise OSError("disk gone")

        def test_short(loaderperf):
            loaderperf(lambda: [[0]] * 3)

        def test_broken(loaderperf):
            loaderperf(broken)
        """
    )
    result = pytester.runpytest_inprocess("--loaderperf", *["--full-trace"] * whole)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["*:5: ShortEpochError", "*raise OSError(*", "*:2: OSError", "*:8: LoaderError"] * (not whole)
    )
    assert any("measurement/side.py:" in line for line in result.outlines) is whole


def test_bad_input_fails_its_own_items_leaves_nothing_behind_and_the_others_go_on(pytester):
    pytester.makepyfile(
        """
        import gc
        import signal
        import threading

        import pytest
        from pytest_loaderperf.measurement import side

        GOOD = [[0, 1]] * 12
        HANDLER = signal.getsignal(signal.SIGINT)

        def shrinking():
            lengths = iter([40, 20, *[3] * 1000])

            class Shrinking:
                def __iter__(self):
                    return iter(GOOD[:1] * next(lengths))

            return Shrinking()

        @pytest.mark.loaderperf(budget=0)
        def test_no_budget(loaderperf):
            loaderperf(lambda: GOOD)

        def test_clock(loaderperf, monkeypatch):
            ticks = iter(range(10**9, 0, -1))
            monkeypatch.setattr(side, "_clock", lambda: next(ticks))
            loaderperf(lambda: GOOD)

        SHRINKING = shrinking()

        def test_length(loaderperf):
            run = loaderperf(SHRINKING)
            assert run.throughput >= 1e-6

        def test_good(loaderperf):
            run = loaderperf(lambda: GOOD)
            assert run.throughput >= 1e-6
            assert gc.isenabled()
            assert signal.getsignal(signal.SIGINT) is HANDLER

        def test_nothing_is_left():
            assert [t.name for t in threading.enumerate() if t.name.startswith("loaderperf") and t.is_alive()
                    and not t.join(10) and t.is_alive()] == []
        """
    )
    result = pytester.runpytest_inprocess("--loaderperf", "--loaderperf-budget=2")
    failed = result.parseoutcomes().get("failed", 0) + result.parseoutcomes().get("errors", 0)
    assert (failed, result.parseoutcomes()["passed"]) == (3, 2)
    result.stdout.fnmatch_lines_random(
        [
            "*budget: expected a positive time, got 0.*",
            "*MeasureError: expected a positive time for*stands still or goes backwards, so nothing can be timed.*",
            "*ShortEpochError: the loader gives 3 to * batches an epoch, but a trial needs at least *",
        ]
    )


@pytest.mark.parametrize("came", [0, -1, 2.5, True, None, "4"])
def test_a_count_that_is_no_number_of_samples_is_refused(came):
    with pytest.raises(LoaderError, match=f"as the number of samples of a batch, got {came!r}. Fix count="):
        measure(lambda: GOOD, count=lambda batch: came, budget=0.5)


def test_count_is_the_way_out_for_batches_without_a_countable_size():
    with measure(lambda: [object()] * 12, count=lambda batch: 3, budget=0.5) as run:
        assert run.throughput >= 1e-6
        assert run.rounds.sides["loader"].batch_samples == 3
        with pytest.raises(LoaderError, match="no roofline for batches of type object: they contain no arrays to copy"):
            _ = run.roofline


@pytest.mark.parametrize("against", [{}, {"loader": list}, {"roofline": list}, {3: list}])
def test_names_of_other_sides_must_be_free_strings(against):
    expected = "Expected at least one string, and none of 'loader', 'base' and 'roofline'."
    words = f"got the names {list(against)}. {expected}"
    with pytest.raises(LoaderError, match=re.escape(words)):
        measure(lambda: GOOD, against=against)


@pytest.mark.parametrize("now", [0, float("nan")])
def test_a_clock_that_gives_no_duration_is_reported(monkeypatch, now):
    words = f"got {now} ns: this machine's clock stands still or goes backwards"
    monkeypatch.setattr(side_module, "_clock", lambda: now)
    with pytest.raises(MeasureError, match=words), measure(lambda: GOOD, budget=0.5) as run:
        assert run.throughput >= 1


def test_a_clock_that_goes_backwards_is_reported(monkeypatch):
    ticks = iter(range(10**9, 0, -1))
    monkeypatch.setattr(side_module, "_clock", lambda: next(ticks))
    with pytest.raises(MeasureError, match="stands still or goes backwards, so nothing can be timed"):
        measure(lambda: GOOD, budget=0.5)


SWAPPED = [
    (
        lambda r: r.throughput >= 5 * ms,
        (
            "throughput is in samples/s, but 0.005 s is in s. Compare like with like: a throughput with samples/s, "
            "a latency with a time such as 5 * ms, a memory with bytes."
        ),
    ),
    (
        lambda r: r.batch_latency.p99 <= r.against.throughput,
        "batch_latency.p99 is in s, but against.throughput is in samples/s.",
    ),
    (lambda r: r.data_wait(step=1 * ms) <= 1 * s, "data_wait(step=1 ms) is in a plain ratio, but 1 s is in s."),
    (
        lambda r: r.batch_latency.p50 <= 0.005,
        "batch_latency.p50: expected a time, got the bare number 0.005. Write 5 * ms or 2 * s.",
    ),
    (lambda r: r.first_batch <= 2, "first_batch: expected a time, got the bare number 2."),
    (
        lambda r: r.throughput == 5,
        "throughput is measured, and two measurements are never equal. Compare with >= or <=.",
    ),
    (lambda r: r.throughput != r.against.throughput, "two measurements are never equal."),
    (
        lambda r: r.throughput >= "fast",
        "throughput: expected a number, a quantity such as 5 * ms, or a metric of the same run, got str.",
    ),
    (lambda r: r.throughput >= True, "of the same run, got bool."),
    (
        lambda r: r.throughput >= math.nan,  # noqa: PLW0177 the mistake under test
        "throughput: expected a positive, finite value, got nan",
    ),
    (lambda r: r.throughput >= 0, "throughput: expected a positive, finite value, got 0"),
    (
        lambda r: -1 * r.throughput,
        "expected a positive, finite factor for a metric, got -1.",
    ),
    (
        lambda r: r.data_wait(step=10),
        (
            "the step of data_wait(step=...): expected a positive time, got 10 without a unit. "
            "Write data_wait(step=10 * ms), with `from pytest_loaderperf import ms, s`."
        ),
    ),
]


@pytest.mark.parametrize("claim, words", SWAPPED, ids=range(len(SWAPPED)))
def test_a_claim_without_a_meaning_is_refused(run, claim, words):
    with pytest.raises(ClaimError, match=re.escape(words)):
        claim(run)


def test_two_runs_do_not_compare(run):
    words = (
        "throughput and throughput come from two runs, which were not measured together. "
        "Measure both in one: loaderperf(a, against=b), then compare with run.against."
    )
    with measure(lambda: GOOD, budget=0.5) as other, pytest.raises(ClaimError, match=re.escape(words)):
        assert run.throughput >= other.throughput


def test_what_a_run_lacks_is_said_with_the_way_to_get_it():
    with measure(lambda: GOOD, budget=0.5) as run:
        with pytest.raises(ClaimError, match=re.escape("Write loaderperf(make_loader, against=other_loader).")):
            _ = run.against
        with pytest.raises(LoaderError, match=re.escape("loaderperf(make_loader, dataset_nbytes=...)")):
            _ = run.dataset_nbytes
    with pytest.raises(ClaimError, match="this run is closed: its loaders are released"):
        assert run.throughput >= 1


@pytest.mark.parametrize(
    "keywords, words",
    [
        ({"budget": 0}, "budget: expected a positive time, got 0. Write 10 * s."),
        ({"budget": "x"}, "budget: expected a positive time, got 'x'. Write 10 * s."),
        ({"timeout": -1 * s}, "timeout: expected a positive time, got -1 s. Write 60 * s."),
        ({"device": "tpu"}, "unknown device 'tpu'. Expected one of: cpu, cuda, auto."),
    ],
)
def test_measure_refuses_bad_arguments(keywords, words):
    with pytest.raises(LoaderPerfError, match=re.escape(words)):
        measure(lambda: GOOD, **keywords)


def test_an_error_raised_by_the_loader_reaches_the_user_as_it_is():
    def broken():
        yield from GOOD
        raise OSError("bad sector")

    with pytest.raises(OSError, match="bad sector"):
        measure(broken, budget=0.5)
