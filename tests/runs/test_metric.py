"""What a metric compares with, and what it refuses; with a run that only takes notes."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from torch.utils.data import DataLoader

from pytest_loaderperf import measure, ms, s
from pytest_loaderperf.errors import ClaimError
from pytest_loaderperf.measurement.record import EpochRecord, ResourceRecord, StartRecord, SteadyRecord, StepRecord
from pytest_loaderperf.runs.metric import DEFINITIONS, Measured, Metric, Others, limit_text
from pytest_loaderperf.units import BYTE, SAMPLES_PER_SECOND, Quantity


class NotedRun:
    """Keeps the claims that are made of it, and knows one estimate."""

    def __init__(self):
        self.claims = []

    def claim(self, left, op, right):
        self.claims.append((left.text, op, limit_text(right)))
        return self.claims[-1]

    def estimate(self, key, definition):
        return SimpleNamespace(value=200.0)


@pytest.fixture
def run():
    return NotedRun()


@pytest.fixture
def loader(run):
    return Measured(run, "loader", "")


@pytest.fixture
def other(run):
    return Measured(run, "against", "against.")


@pytest.mark.parametrize(
    "compare, claim",
    [
        (lambda a, b: a.throughput >= b.throughput, ("throughput", ">=", "against.throughput")),
        (lambda a, b: a.throughput > 0.8 * b.throughput, ("throughput", ">", "0.8 * against.throughput")),
        (lambda a, b: 2 * a.throughput * 3 >= b.throughput, ("6 * throughput", ">=", "against.throughput")),
        (lambda a, b: a.throughput >= 5000, ("throughput", ">=", "5,000 samples/s")),
        (lambda a, b: a.throughput >= Quantity(5e3, SAMPLES_PER_SECOND), ("throughput", ">=", "5,000 samples/s")),
        (lambda a, b: a.batch_latency.p99 <= 5 * ms, ("batch_latency.p99", "<=", "5.00 ms")),
        (lambda a, b: 2 * s > a.first_batch, ("first_batch", "<", "2.00 s")),
        (lambda a, b: 5000 <= a.throughput, ("throughput", ">=", "5,000 samples/s")),  # noqa: SIM300 what is tested
        (lambda a, b: a.peak_memory <= 1 << 20, ("peak_memory", "<=", "1.00 MiB")),
        (lambda a, b: a.data_wait(step=10 * ms) <= 0.1, ("data_wait(step=10 ms)", "<=", "0.1")),
    ],
)
def test_a_comparison_is_a_claim_with_a_text(run, loader, other, compare, claim):
    assert compare(loader, other) == claim
    assert run.claims == [claim]


UNLIKE = (
    "Compare like with like: a throughput with samples/s, a latency with a time such as 5 * ms, a memory with bytes."
)
BOTH = "Measure both in one: loaderperf(a, against=b), then compare with run.against."
OTHERS = "Compare with run.base, run.against or run.roofline, or with a number."
KINDS = "expected a number, a quantity such as 5 * ms, or a metric of the same run"


@pytest.mark.parametrize(
    "compare, text",
    [
        (
            lambda a, b: a.throughput >= b.batch_latency.p50,
            f"throughput is in samples/s, but against.batch_latency.p50 is in s. {UNLIKE}",
        ),
        (lambda a, b: a.throughput >= 5 * ms, f"throughput is in samples/s, but 0.005 s is in s. {UNLIKE}"),
        (
            lambda a, b: a.data_wait(5 * ms) <= 5 * ms,
            f"data_wait(step=5 ms) is in a plain ratio, but 0.005 s is in s. {UNLIKE}",
        ),
        (
            lambda a, b: a.peak_memory <= b.bytes_per_second,
            f"peak_memory is in B, but against.bytes_per_second is in B/s. {UNLIKE}",
        ),
        (lambda a, b: a.first_batch <= Quantity(1, BYTE), f"first_batch is in s, but 1 B is in B. {UNLIKE}"),
        (
            lambda a, b: a.batch_latency.p99 <= 5,
            "batch_latency.p99: expected a time, got the bare number 5. Write 5 * ms or 2 * s.",
        ),
        (
            lambda a, b: 0.5 >= a.first_batch,  # noqa: SIM300 what is tested
            "first_batch: expected a time, got the bare number 0.5. Write 5 * ms or 2 * s.",
        ),
        (
            lambda a, b: a.throughput == b.throughput,
            "throughput is measured, and two measurements are never equal. Compare with >= or <=.",
        ),
        (
            lambda a, b: a.throughput != 5,
            "throughput is measured, and two measurements are never equal. Compare with >= or <=.",
        ),
        (lambda a, b: a.throughput >= True, f"throughput: {KINDS}, got bool."),
        (lambda a, b: a.throughput >= None, f"throughput: {KINDS}, got NoneType."),
        (lambda a, b: a.throughput >= "fast", f"throughput: {KINDS}, got str."),
        (lambda a, b: a.batch_latency.p50 <= True, f"batch_latency.p50: {KINDS}, got bool."),
        (
            lambda a, b: a.throughput >= Measured(NotedRun(), "loader", "").throughput,
            f"throughput and throughput come from two runs, which were not measured together. {BOTH}",
        ),
        (
            lambda loader, _: loader.throughput >= 0.9 * loader.throughput,
            f"throughput: expected another loader's metric, got the same one as 0.9 * throughput. {OTHERS}",
        ),
        (lambda a, b: a.throughput >= 0, "throughput: expected a positive, finite value, got 0 samples/s."),
        (lambda a, b: a.throughput >= -5, "throughput: expected a positive, finite value, got -5 samples/s."),
        (
            lambda a, b: a.throughput >= Quantity(math.nan, SAMPLES_PER_SECOND),
            "throughput: expected a positive, finite value, got nan samples/s.",
        ),
        (
            lambda a, b: a.first_batch <= math.inf * s,
            "first_batch: expected a positive, finite value, got inf s.",
        ),
        (lambda a, b: a.throughput * 0, "expected a positive, finite factor for a metric, got 0."),
        (lambda a, b: -1.5 * a.throughput, "expected a positive, finite factor for a metric, got -1.5."),
        (
            lambda a, b: math.inf * a.throughput,
            "expected a positive, finite factor for a metric, got inf.",
        ),
        (
            lambda a, b: math.nan * a.throughput,
            "expected a positive, finite factor for a metric, got nan.",
        ),
        (
            lambda a, b: a.data_wait(step=0.01),
            (
                "the step of data_wait(step=...): expected a positive time, got 0.01 without a unit. "
                "Write data_wait(step=10 * ms), with `from pytest_loaderperf import ms, s`."
            ),
        ),
    ],
)
def test_a_comparison_without_meaning_is_refused(run, loader, other, compare, text):
    with pytest.raises(ClaimError) as caught:
        compare(loader, other)
    assert str(caught.value) == text
    assert run.claims == []


@pytest.mark.parametrize(
    "compute",
    [
        *(lambda a, b, factor=factor: a.throughput * factor for factor in (True, "2", None, 2 * ms)),
        lambda a, b: a.throughput / b.throughput,
        lambda a, b: a.throughput - 0.9 * b.throughput,
        lambda a, b: 1 / a.throughput,
        lambda a, b: 5 + a.throughput,
        lambda a, b: -a.throughput,
        lambda a, b: abs(a.throughput),
    ],
)
def test_a_metric_is_multiplied_and_divided_by_numbers_alone(run, loader, other, compute):
    with pytest.raises(ClaimError) as caught:
        compute(loader, other)
    assert str(caught.value) == (
        "throughput is measured: expected a comparison of it, at most times or over a number, got other arithmetic. "
        "Write assert run.throughput >= 0.9 * run.base.throughput, with a metric on each side."
    )
    assert run.claims == []


def test_a_metric_over_a_number_is_its_part(loader):
    assert (loader.throughput / 4).value == 50.0
    assert (np.float32(0.5) * loader.throughput).value == 100.0
    with pytest.raises(ClaimError, match="positive, finite factor"):
        loader.throughput / 0


def test_a_metric_cannot_be_hashed_because_it_has_no_equal(loader):
    with pytest.raises(TypeError, match="unhashable type: 'Metric'"):
        hash(loader.throughput)


def test_a_metric_is_formatted_as_its_value_or_with_its_name(loader):
    assert f"{loader.throughput:.1f} {2 * loader.throughput:,.0f}" == "200.0 400"
    assert f"{loader.throughput}" == "<throughput: 200 samples/s>"


def test_a_factor_counts_in_the_value_but_not_in_the_unit(loader):
    half = 0.5 * loader.throughput
    assert (half.value, float(half), half.unit) == (100.0, 100.0, "samples/s")
    assert repr(half) == "<0.5 * throughput: 100 samples/s>"


STEADY = SteadyRecord(
    latencies_ns=(1_000_000, 3_000_000, 2_000_000, 4_000_000), wall_ns=10_000_000, samples=64, nbytes=4096
)

EPOCH = EpochRecord(1_000_000_000, 1_000_000_000, 9, 500_000_000, 10, 1000)


@pytest.mark.parametrize(
    "name, record, value",
    [
        ("throughput", STEADY, 6400.0),
        ("bytes_per_second", STEADY, 409_600.0),
        ("batch_latency_p50", STEADY, 0.002),
        ("batch_latency_p95", STEADY, 0.004),
        ("batch_latency_p99", STEADY, 0.004),
        ("first_batch", StartRecord(250_000_000), 0.25),
        ("epoch_exit", EPOCH, 0.5),
        ("epoch", EPOCH, 2.5),
        ("epoch_throughput", EPOCH, 400.0),
        ("cpu_seconds_per_1k", ResourceRecord(1 << 20, 2_000_000, 500), 0.004),
        ("peak_memory", ResourceRecord(1 << 20, 2_000_000, 500), 1 << 20),
    ],
)
def test_a_metric_of_one_record(loader, name, record, value):
    metric = loader.metric(name)
    assert metric.of(record) == pytest.approx(value)
    assert (2 * metric).of(record) == pytest.approx(2 * value)


def test_the_data_wait_is_the_share_of_the_loop_spent_waiting(loader):
    assert loader.data_wait(step=10 * ms).of(StepRecord(wait_ns=25, total_ns=100)) == 0.25


def test_every_metric_has_the_name_and_unit_of_the_result_file():
    assert {name: definition.unit for name, definition in DEFINITIONS.items()} == {
        "throughput": "samples/s",
        "batch_latency_p50": "s",
        "batch_latency_p95": "s",
        "batch_latency_p99": "s",
        "first_batch": "s",
        "epoch_exit": "s",
        "epoch": "s",
        "epoch_throughput": "samples/s",
        "bytes_per_second": "B/s",
        "cpu_seconds_per_1k": "s",
        "peak_memory": "B",
    }


@pytest.mark.parametrize(
    "name", sorted(set(DEFINITIONS) - {"batch_latency_p50", "batch_latency_p95", "batch_latency_p99"})
)
def test_every_metric_is_an_attribute_of_its_side(loader, name):
    metric = getattr(loader, name)
    assert isinstance(metric, Metric)
    assert (metric.definition.name, metric.key.side) == (name, "loader")


def test_a_real_loader_is_measured_and_its_claims_are_kept():
    """What comes out is not asserted: only that every loader meets a claim that asks for next to nothing."""
    data = list(range(2000))
    with measure(lambda: DataLoader(data, 8), against=lambda: DataLoader(data, 8), budget=1 * s) as run:
        assert run.throughput >= 1e-3 * run.against.throughput
        assert run.throughput.value > 0
        [verdict] = run.verdicts
        assert verdict.claim == "throughput >= 0.001 * against.throughput"
        assert (verdict.unit, verdict.counted, verdict.alpha) == ("1", "pairs", 0.0005)
        assert verdict.ruling.n >= 12
        assert run.last_verdict(run.throughput, ">=", 1e-3 * run.against.throughput) is verdict
    with pytest.raises(ClaimError, match="this run is closed: its loaders are released"):
        run.rounds  # noqa: B018 the access is what is tested


def test_threads_measure_one_after_another():
    inside, most = [], []

    class Loader:
        def __iter__(self):
            for _ in range(400):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0002)
                inside.pop()
                yield [0, 1]

    def check(run):
        return bool(run.throughput >= 1)

    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda budget: measure(Loader, budget=budget), [0.2 * s] * 2))
        assert all(pool.map(check, [*runs, *runs]))
    for run in runs:
        run.close()
    assert max(most) == 1


def test_several_others_are_asked_for_by_name():
    other = Measured(None, "two", "")
    others = Others(one=other, two=other)
    assert others["two"] is other
    with pytest.raises(ClaimError, match=r"no loader called 'three'\. Expected one of 'one', 'two'"):
        others["three"]
    with pytest.raises(AttributeError, match=r"Name one of them: run.against\['one'\].throughput"):
        others.throughput  # noqa: B018 an attribute that raises
