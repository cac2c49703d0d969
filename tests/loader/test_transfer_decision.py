"""When page-locked memory and a stream of its own are used for copies to a GPU, from numbers alone."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.loader import mover
from pytest_loaderperf.loader.mover import CopyTimes, decide, measure_copy

MIB = 1 << 20
LEAST = 256 << 10
FITTING = 16 * 6 * MIB  # the least free memory for two batches of 1 MiB ahead and four with the consumer
FACTS = {
    "batch_nbytes": MIB,
    "pinned_nbytes_needed": 8 * MIB,
    "memory_budget_nbytes": None,
    "free_device_nbytes": 1 << 30,
    "times": CopyTimes(pageable_s=100e-6, pinned_s=40e-6, pinning_s=50e-6),
}
ASKED = "page-locked copies: pin_memory=True was given; "


def timed(us, nbytes="1,048,576"):
    return f"copies: a batch of {nbytes} bytes takes {us} us page-locked, 100 us pageable"


def ahead_of(free, ahead=2, needed="6,291,456"):
    return f"{ahead} ahead on a stream: {ahead + 4} batches take {needed} of the device's {free} free bytes"


def crowded(free):
    share = f"1/16 of the device's {free} free bytes"
    return f"no stream: 5 batches would take 5,242,880 bytes, more than {share}"


STREAM = ahead_of("1,073,741,824")
PAYS = f"page-locked {timed(40)}; "


def decided(**facts):
    facts = FACTS | facts
    times = facts.pop("times")
    return decide(**facts, measure=lambda: times)


@pytest.mark.parametrize(
    "facts, pin, ahead, reason",
    [
        ({}, True, 2, PAYS + STREAM),
        # size
        ({"batch_nbytes": 0}, False, 0, "pageable copies: a batch of 0 bytes is below 262,144"),
        ({"batch_nbytes": LEAST - 1}, False, 0, "pageable copies: a batch of 262,143 bytes is below 262,144"),
        (
            {"batch_nbytes": LEAST},
            True,
            2,
            f"page-locked {timed(40, '262,144')}; {ahead_of('1,073,741,824', needed='1,572,864')}",
        ),
        # budget
        ({"memory_budget_nbytes": 8 * MIB}, True, 2, PAYS + STREAM),
        (
            {"memory_budget_nbytes": 8 * MIB - 1},
            False,
            0,
            "pageable copies: the 8,388,608 bytes to page-lock exceed the memory budget of 8,388,607",
        ),
        # measurement
        ({"times": CopyTimes(100e-6, 80e-6, 9)}, True, 2, f"page-locked {timed(80)}; {STREAM}"),
        ({"times": CopyTimes(100e-6, 81e-6, 0)}, False, 0, f"pageable {timed(81)}, and pays from 80 us down"),
        ({"times": CopyTimes(100e-6, 130e-6, 0)}, False, 0, f"pageable {timed(130)}, and pays from 80 us down"),
        ({"times": None}, False, 0, "pageable copies: this host cannot page-lock memory"),
        # the copy into page-locked memory, where batches do not lie there
        (
            {"in_ring": False, "times": CopyTimes(100e-6, 40e-6, 40e-6)},
            True,
            2,
            f"page-locked {timed(80)}; {STREAM}",
        ),
        ({"in_ring": False}, False, 0, f"pageable {timed(90)}, and pays from 80 us down"),
        # free device memory
        ({"free_device_nbytes": FITTING}, True, 2, PAYS + ahead_of("100,663,296")),
        ({"free_device_nbytes": FITTING - 1}, True, 1, PAYS + ahead_of("100,663,295", 1, "5,242,880")),
        ({"free_device_nbytes": 80 * MIB}, True, 1, PAYS + ahead_of("83,886,080", 1, "5,242,880")),
        ({"free_device_nbytes": 80 * MIB - 1}, True, 0, PAYS + crowded("83,886,079")),
        ({"free_device_nbytes": 0}, True, 0, PAYS + crowded("0")),
        # the user's word
        ({"pin_memory": False}, False, 0, "pageable copies: pin_memory=False was given"),
        ({"pin_memory": True}, True, 2, ASKED + STREAM),
        ({"pin_memory": True, "memory_budget_nbytes": 1}, True, 2, ASKED + STREAM),
        ({"pin_memory": True, "times": CopyTimes(1, 2, 3)}, True, 2, ASKED + STREAM),
        ({"pin_memory": True, "free_device_nbytes": 0}, True, 0, ASKED + crowded("0")),
        (
            {"pin_memory": True, "batch_nbytes": LEAST - 1},
            True,
            0,
            f"{ASKED}no stream: a batch of 262,143 bytes is below 262,144",
        ),
    ],
)
def test_the_decision_at_and_around_each_limit(facts, pin, ahead, reason):
    made = decided(**facts)
    assert (made.pin, made.stream, made.ahead) == (pin, ahead > 0, ahead)
    assert made.reason == reason


@pytest.mark.parametrize(
    "facts", [{"batch_nbytes": LEAST - 1}, {"memory_budget_nbytes": 1}, {"pin_memory": False}, {"pin_memory": True}]
)
def test_nothing_is_page_locked_to_measure_what_is_settled_already(facts):
    def measure():
        raise AssertionError("measured")

    facts = FACTS | facts
    del facts["times"]
    assert decide(**facts, measure=measure).reason


def test_the_reason_is_logged_once(caplog):
    with caplog.at_level(logging.INFO, logger="pytest_loaderperf"):
        made = decided()
    assert [(r.name, r.levelname, r.message) for r in caplog.records] == [
        ("pytest_loaderperf", "INFO", f"transfer: {made.reason}")
    ]


@pytest.mark.parametrize("facts, most", [({}, 4), ({"free_device_nbytes": 0}, 2), ({"pin_memory": False}, 1)])
def test_a_decision_says_how_many_host_batches_the_transfer_holds(facts, most):
    assert decided(**facts).host_batches == most


class Clocked:
    """Copies that take a time by the clock of the test, by where their bytes come from."""

    def __init__(self, monkeypatch):
        self.now, self.pinned, self.copied, self.delays_s = 0.0, [], [], []
        monkeypatch.setattr(mover, "perf_counter", lambda: self.now)

    def pinned_empty(self, shape, dtype):
        self.pinned.append(np.empty(shape, dtype))
        return self.pinned[-1]

    def copy(self, leaf, *, non_blocking):
        assert non_blocking
        pinned = any(leaf.data_ptr() == array.ctypes.data for array in self.pinned)
        self.copied.append(leaf.nbytes)
        self.now += leaf.nbytes / (4e9 if pinned else 1e9)

    def record(self):
        return self

    def synchronize(self):
        self.now += self.delays_s.pop(0) if self.delays_s else 0


@pytest.fixture
def runtime(monkeypatch):
    made = Clocked(monkeypatch)
    monkeypatch.setattr(mover, "pinned_empty", made.pinned_empty)
    return made


@pytest.mark.parametrize("nbytes", [1 << 20, 4 << 20, 1 << 30])
def test_copies_are_timed_from_both_kinds_of_memory_and_scaled_to_the_batch(runtime, nbytes):
    times = measure_copy(runtime, nbytes)
    assert times.pageable_s == pytest.approx(nbytes / 1e9, rel=1e-3)
    assert times.pinned_s == pytest.approx(nbytes / 4e9, rel=1e-3)
    assert times.pinning_s == 0  # the host's own copies do not move this clock


def test_a_measurement_moves_a_bounded_number_of_bytes_and_page_locks_4_mib_at_most(runtime):
    measure_copy(runtime, 1 << 40)
    assert [array.nbytes for array in runtime.pinned] == [4 << 20]
    assert sum(runtime.copied) <= 200 << 20


def test_the_median_leaves_out_the_first_copy_and_disturbed_ones(runtime):
    runtime.delays_s = [9, 0, 9, 0, 0, 9]
    assert measure_copy(runtime, 1 << 20).pageable_s == pytest.approx((1 << 20) / 1e9)


def test_a_host_that_cannot_page_lock_is_not_measured(monkeypatch, runtime):
    def refuse(shape, dtype):
        raise LoaderPerfError("no")

    monkeypatch.setattr(mover, "pinned_empty", refuse)
    assert measure_copy(runtime, 1 << 20) is None
    assert runtime.copied == []
