"""Changes that the doctor makes itself: the changed line gives what the fixed one would."""

from __future__ import annotations

import copy
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from pytest_loaderperf.diagnosis.ledger import EpochSeen, Ledger
from pytest_loaderperf.diagnosis.passes import changes, fixes
from pytest_loaderperf.diagnosis.passes.changes import Change, Changed, ratios
from pytest_loaderperf.diagnosis.passes.naming import callee_name


def changed(rule, function):
    return Changed(Change(rule, "data.py", 7, callee_name(function, getattr(function, "__self__", None))))


@pytest.mark.parametrize("rule", ["repeated-work", "read-amplification"])
def test_repeated_work_is_done_once(rule):
    calls = []

    def parse(text):
        calls.append(text)
        return [text]

    probe = changed(rule, parse)
    assert [probe.call(1, parse, text) for text in ("a", "a", "b", "a")] == [["a"], ["a"], ["b"], ["a"]]
    assert calls == ["a", "b"]


def test_other_calls_of_the_line_are_left_alone():
    probe = changed("repeated-work", len)
    drawn = [probe.call(1, np.random.default_rng().random) for _ in range(2)]
    assert drawn[0] != drawn[1]


def test_a_pool_is_kept_open():
    probe = changed("executor-per-item", ThreadPoolExecutor)
    for _ in range(3):
        with probe.call(1, ThreadPoolExecutor, 1) as pool:
            assert list(pool.map(abs, [-1])) == [1]
        pool.shutdown()
    assert probe.call(1, ThreadPoolExecutor, 1) is pool


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (torch.tensor, [np.arange(4)]),
        (np.array, [np.arange(4)]),
        (np.copy, [np.arange(4)]),
        (torch.arange(4).clone, []),
        (np.arange(4).astype, [np.int64]),
        (copy.deepcopy, [{"a": 1}]),
    ],
)
def test_a_copy_becomes_what_it_copies(function, args):
    made = changed("needless-copy", function).call(1, function, *args)
    expected = function(*args)
    assert np.array_equal(made, expected) if hasattr(expected, "shape") else made == expected


def test_a_setting_is_an_argument_of_the_loader():
    assert Change("workers-restarted", "data.py", 7, "").settings == {"persistent_workers": True}
    assert not Change("slow-exit", "data.py", 7, "threading.Thread.join").possible
    assert not Change("repeated-work", "data.py", 7, "").possible


@pytest.mark.parametrize(
    ("rule", "callee", "kind"),
    [
        ("repeated-work", "json.loads", "call"),
        ("repeated-work", "dict.__getitem__", "item"),
        ("list-to-array", "torch.tensor", "line"),
        ("repeated-work", "comprehension", "line"),
        ("float64-round-trip", "Sub", "operator"),
        ("float64-round-trip", "numpy.asarray", "call"),
    ],
)
def test_only_what_the_rule_named_is_rewritten(rule, callee, kind):
    change = Change(rule, "data.py", 7, callee)
    places = [(line, one) for line in (7, 8) for one in ("call", "item", "line", "loop", "operator")]
    assert [place for place in places if change.register("data.py", place[1], place[0], "f")] == [(7, kind)]


def test_only_the_operator_that_was_named_is_computed_in_float32():
    probe = Changed(Change("float64-round-trip", "data.py", 7, "Sub"))
    rows = np.arange(3, dtype=np.int16)
    assert probe.operate(1, "Div", rows, 2.0).dtype == np.float64
    assert not probe.used
    made = probe.operate(1, "Sub", rows, np.float64(0.5))
    assert made.dtype == np.float32
    assert np.array_equal(made, rows - 0.5)
    assert probe.used


def test_what_is_handed_over_narrow_makes_other_batches():
    rules = ["large-hand-over", "float64-round-trip", "repeated-work"]
    assert [Change(rule, "data.py", 7, "numpy.ndarray.astype").keeps_kind for rule in rules] == [False, True, True]


@pytest.mark.parametrize("rule", ["repeated-work", "list-to-array"])
def test_what_the_doctors_own_code_takes_is_not_the_loaders(monkeypatch, rule):
    clock = itertools.count(0, 1_000)
    for module in (changes, fixes):
        monkeypatch.setattr(module, "perf_counter_ns", lambda: next(clock))

    def works():
        for _ in range(1_000):
            next(clock)
        return "made"

    probe = changed(rule, works)
    probe.replay("", works) if rule == "list-to-array" else probe.call(1, works)
    assert 1_000 <= probe.paused_ns() < 10_000  # of a million and more


def timed(*epochs_ms):
    return Ledger(timed=tuple(EpochSeen(1, 10, 0, int(ms * 1e6), 0, whole=True) for ms in epochs_ms))


def test_ratios_are_of_epochs_after_the_first():
    assert ratios([timed(99, 20), timed(99, 30)], [timed(99, 10), timed(99, 10)]) == (2.0, 2.5, 3.0)


@pytest.mark.parametrize("batches, told", [(8, (16.0, 20.0, 24.0)), (7, None)])
def test_some_batches_of_a_slow_loader_tell_its_pace(batches, told):
    begun = Ledger(timed=(EpochSeen(batches, 10, 0, int(200 * 1e6), 0, whole=False),))
    assert ratios([begun], [timed(10, 10)]) == told


def test_one_epoch_is_too_few_of_the_fast_loader():
    assert ratios([timed(20)], [timed(10)]) is None
    assert ratios([timed(20)], [timed(10, 10)]) == (1.6, 2.0, 2.4)
