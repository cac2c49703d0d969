"""When page-locked memory and a stream of its own are used for copies to a GPU, from numbers alone."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pytest_loaderperf.loader import mover
from pytest_loaderperf.loader.mover import Mover, pays

MIB = 1 << 20
LEAST = 256 << 10
FITTING = 16 * 6 * MIB  # the least free memory for two batches of 1 MiB ahead and four with the consumer
ASKED = "page-locked copies: pin_memory=True was given; "


@dataclass
class Sized:
    """A tensor of so many bytes."""

    nbytes: int

    def to(self):
        raise AssertionError("nothing is copied")


@pytest.fixture
def decided(monkeypatch):
    """A loader's decision for batches of ``nbytes``, and its engine; ``measured``: what a measurement would say."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)

    def made(nbytes=MIB, *, budget=None, free_nbytes=1 << 30, measured=(True, "it pays"), pin_memory=None, buffers=8):
        def measure(runtime, size, *, in_ring):
            assert measured is not None, "measured"
            assert (size, in_ring) == (nbytes, buffers is not None)
            return measured

        monkeypatch.setattr(mover, "pays", measure)
        monkeypatch.setattr(mover, "CudaRuntime", lambda device: SimpleNamespace(free_nbytes=free_nbytes))
        held = SimpleNamespace(plan=SimpleNamespace(batches=buffers), empty=np.empty)
        engine = SimpleNamespace(buffers=held if buffers else None)
        moved = Mover("cuda", memory_budget=budget, pin_memory=pin_memory)
        return moved._decide({"x": Sized(nbytes // 2), "y": [Sized(nbytes - nbytes // 2), "text"]}, engine), held

    return made


def ahead_of(free, ahead, holds):
    room = f"1/16 of the device's {free} free bytes holds {holds} batches"
    return f"{ahead} ahead on a stream: {room}, and the consumer has up to 4"


STREAM = ahead_of("1,073,741,824", 2, 64)
PAYS = "page-locked copies: it pays; "


@pytest.mark.parametrize(
    "facts, pin, ahead, reason",
    [
        ({}, True, 2, PAYS + STREAM),
        # size
        ({"nbytes": 0}, False, 0, "pageable copies: a batch of 0 bytes is below 262,144"),
        ({"nbytes": LEAST - 1}, False, 0, "pageable copies: a batch of 262,143 bytes is below 262,144"),
        ({"nbytes": LEAST}, True, 2, PAYS + ahead_of("1,073,741,824", 2, 256)),
        # budget
        ({"budget": 8 * MIB}, True, 2, PAYS + STREAM),
        (
            {"budget": 8 * MIB - 1},
            False,
            0,
            "pageable copies: the 8,388,608 bytes to page-lock exceed memory_budget=8,388,607",
        ),
        ({"budget": 2 * MIB, "buffers": None}, True, 2, PAYS + STREAM),
        (
            {"budget": 2 * MIB - 1, "buffers": None},
            False,
            0,
            "pageable copies: the 2,097,152 bytes to page-lock exceed memory_budget=2,097,151",
        ),
        (
            {"budget": 16 * MIB - 1, "nbytes": MIB + 2},  # each half takes the next power of two
            False,
            0,
            "pageable copies: the 16,777,216 bytes to page-lock exceed memory_budget=16,777,215",
        ),
        # measurement
        ({"measured": (False, "it does not pay")}, False, 0, "pageable copies: it does not pay"),
        # free device memory
        ({"free_nbytes": FITTING}, True, 2, PAYS + ahead_of("100,663,296", 2, 6)),
        ({"free_nbytes": FITTING - 1}, True, 1, PAYS + ahead_of("100,663,295", 1, 5)),
        ({"free_nbytes": 80 * MIB}, True, 1, PAYS + ahead_of("83,886,080", 1, 5)),
        ({"free_nbytes": 80 * MIB - 1}, True, 0, PAYS + ahead_of("83,886,079", 0, 4)),
        ({"free_nbytes": 0}, True, 0, PAYS + ahead_of("0", 0, 0)),
        # the user's word
        ({"pin_memory": False}, False, 0, "pageable copies: pin_memory=False was given"),
        ({"pin_memory": True}, True, 2, ASKED + STREAM),
        ({"pin_memory": True, "budget": 1}, True, 2, ASKED + STREAM),
        ({"pin_memory": True, "measured": (False, "it does not pay")}, True, 2, ASKED + STREAM),
        ({"pin_memory": True, "free_nbytes": 0}, True, 0, ASKED + ahead_of("0", 0, 0)),
        (
            {"pin_memory": True, "nbytes": LEAST - 1},
            True,
            0,
            f"{ASKED}no stream: a batch of 262,143 bytes is below 262,144",
        ),
    ],
)
def test_the_decision_at_and_around_each_limit(decided, facts, pin, ahead, reason):
    made, _ = decided(**facts)
    assert (made.pin, made.ahead) == (pin, ahead)
    assert made.reason == reason


@pytest.mark.parametrize("facts", [{"nbytes": LEAST - 1}, {"budget": 1}, {"pin_memory": False}, {"pin_memory": True}])
def test_nothing_is_page_locked_to_measure_what_is_settled_already(decided, facts):
    assert decided(**facts, measured=None)[0].reason


def test_the_reason_is_logged_once(decided, caplog):
    with caplog.at_level(logging.INFO, logger="pytest_loaderperf"):
        made, _ = decided()
    assert [(r.name, r.levelname, r.message) for r in caplog.records] == [
        ("pytest_loaderperf", "INFO", f"transfer: {made.reason}")
    ]


@pytest.mark.parametrize(
    "facts, empty",
    [({}, mover.pinned_empty), ({"pin_memory": False}, np.empty), ({"buffers": None}, np.empty)],
    ids=["pinned", "pageable", "no ring"],
)
def test_a_ring_is_page_locked_where_the_decision_says_so(decided, facts, empty):
    assert decided(**facts)[1].empty is empty


class Pinned:
    """Page-locked memory that takes a time by the clock of the test to fill."""

    def __init__(self, runtime, nbytes):
        self.runtime, self.nbytes = runtime, nbytes

    def copy_(self, pageable):
        assert pageable.nbytes == self.nbytes
        self.runtime.now_s += self.runtime.pinning_s
        return self


class Clocked:
    """Copies that take a time by the clock of the test, by where their bytes come from."""

    def __init__(self, pageable_s, pinned_s, pinning_s=0):
        self.pageable_s, self.pinned_s, self.pinning_s = pageable_s, pinned_s, pinning_s
        self.now_s, self.pinned, self.copied, self.delays_s = 0, [], [], []

    def pin(self, leaf):
        self.pinned.append(leaf.nbytes)
        return Pinned(self, leaf.nbytes)

    def copy(self, leaf):
        self.copied.append(leaf.nbytes)
        self.now_s += self.pinned_s if isinstance(leaf, Pinned) else self.pageable_s

    def record(self):
        return self

    def synchronize(self):
        self.now_s += self.delays_s.pop(0) if self.delays_s else 0


@pytest.fixture
def measured(monkeypatch):
    def made(runtime, nbytes=MIB, *, in_ring=True):
        monkeypatch.setattr(mover, "perf_counter", lambda: runtime.now_s)
        return pays(runtime, nbytes, in_ring=in_ring)

    return made


def timed(nbytes, pinned_s, pageable_s, most_s):
    seconds = f"{pinned_s},000,000 us page-locked, {pageable_s},000,000 us pageable"
    return f"a batch of {nbytes} bytes takes {seconds}, and pays from {most_s},000,000 us down"


@pytest.mark.parametrize(
    "pinned_s, pinning_s, in_ring, counted_s",
    [
        (4, 9, True, 4),
        (8, 9, True, 8),
        (9, 0, True, 9),
        # the copy into page-locked memory, where batches do not lie there
        (4, 4, False, 8),
        (4, 5, False, 9),
    ],
)
def test_page_locked_memory_pays_from_four_fifths_of_the_time_down(measured, pinned_s, pinning_s, in_ring, counted_s):
    runtime = Clocked(10, pinned_s, pinning_s)
    assert measured(runtime, in_ring=in_ring) == (counted_s <= 8, timed("1,048,576", counted_s, 10, 8))


def test_times_are_scaled_to_a_batch_larger_than_what_is_measured(measured):
    assert measured(Clocked(10, 5), 12 * MIB) == (True, timed("12,582,912", 15, 30, 24))


def test_a_measurement_moves_a_bounded_number_of_bytes_and_page_locks_4_mib_at_most(measured):
    runtime = Clocked(10, 5)
    measured(runtime, 1 << 40, in_ring=False)
    assert runtime.pinned == [4 << 20]
    assert sum(runtime.copied) <= 200 << 20


def test_the_median_leaves_out_the_first_copy_and_disturbed_ones(measured):
    runtime = Clocked(10, 5)
    runtime.delays_s = [900, 0, 900, 0, 0, 900]
    assert measured(runtime) == (True, timed("1,048,576", 5, 10, 8))


def test_a_host_that_cannot_page_lock_is_not_measured(measured):
    class Refusing(Clocked):
        def pin(self, leaf):
            raise RuntimeError("no")

    runtime = Refusing(10, 5)
    assert measured(runtime) == (False, "this host cannot page-lock memory")
    assert runtime.copied == []
