"""Turns of loaders that run ahead, each until it has ready again what it may have ready."""

from __future__ import annotations

import random
import threading
import time
from itertools import pairwise
from queue import Queue
from types import SimpleNamespace

import pytest

from pytest_loaderperf.errors import MeasureError, ShortEpochError
from pytest_loaderperf.measurement import Refilled, observations
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.record import Effort, SteadyRecord
from pytest_loaderperf.measurement.refills import in_refills
from pytest_loaderperf.measurement.trials import REFILLS, Pace

MS = 1_000_000
CONDITIONS = Conditions.now()
PACES = {"a": Pace(0.004, 4), "b": Pace(0.004, 4)}


class Scripted:
    """A side whose n-th turn takes so many milliseconds by the clock, and half as many of CPU time."""

    warmup_batches = 4

    def __init__(self, name, asked, *turns_ms, ready=True):
        self.name, self._asked, self._turns_ms, self._ready = name, asked, iter(turns_ms), ready

    def ready(self, batches, *, warm):
        self._asked.append((self.name, "ready", batches))
        return self._ready

    def observe(self, kind, batches, conditions):
        assert kind == Refilled()
        assert conditions is self.conditions is CONDITIONS
        self._asked.append((self.name, batches))
        wall_ns = next(self._turns_ms) * MS
        return SteadyRecord((wall_ns,) * batches, wall_ns, batches, 0, effort=Effort(0, wall_ns // 2, 0.9))

    def short_epoch_error(self):
        return ShortEpochError(self.name)


def test_sides_take_strict_turns_after_one_that_fills_them():
    asked = []
    sides = [Scripted("a", asked, 100, 10, 20, 30, 40, 50), Scripted("b", asked, 100, 10, 10, 10, 10, 10)]
    records = in_refills(sides, PACES, random.Random(0), CONDITIONS)  # noqa: S311 no secret depends on it
    (batches,) = {number for _, number in asked[4:]}
    assert asked[:2] == [(name, "ready", (REFILLS + 1) * batches + 4) for name in "ab"]
    assert [name for name, _ in asked[2:4]] == ["a", "b"]
    turns = [name for name, _ in asked[4:]]
    pairs = list(zip(turns[::2], turns[1::2], strict=True))
    assert len(pairs) == REFILLS
    assert all(pair == other[::-1] for pair, other in pairwise(pairs))
    assert all(set(pair) == {"a", "b"} for pair in pairs)
    record = records["a"]
    assert (record.wall_ns, record.samples) == (150 * MS, REFILLS * batches)
    assert record.slices_ns == tuple(ms * MS / batches for ms in (10, 20, 30, 40, 50))
    assert record.cpu_slices_ns == tuple(ns / 2 for ns in record.slices_ns)


def test_epochs_that_are_too_short_are_said_to_be():
    for sides, paces in [
        ([Scripted("a", [], ready=False), Scripted("b", [])], PACES),
        ([Scripted("a", []), Scripted("b", [])], {name: Pace(0.004, 4, affordable=3) for name in "ab"}),
    ]:
        with pytest.raises(ShortEpochError):
            in_refills(sides, paces, random.Random(0), CONDITIONS)  # noqa: S311 no secret depends on it


class Ahead:
    """A thread makes ``ahead`` batches ahead, each of which takes it a while of work."""

    def __init__(self, work_s, ahead=4, batches=200, *, rests=True):
        self._work_s, self._ahead, self._batches, self._rests = work_s, ahead, batches, rests
        self.made = 0

    def __iter__(self):
        done, stopped = Queue(self._ahead), threading.Event()

        def fill():
            for _ in range(self._batches):
                self._work()
                self.made += 1
                done.put([0] * 8)
            while not self._rests and not stopped.is_set():
                pass

        thread = threading.Thread(target=fill, daemon=True)
        thread.start()
        try:
            for _ in range(self._batches):
                yield done.get()
        finally:
            stopped.set()

    def _work(self):
        ends_s = time.thread_time() + self._work_s
        while time.thread_time() < ends_s:
            pass


def test_a_turn_holds_all_the_work_of_its_batches_and_no_other(side):
    """Taken from full to full, so many batches are made as were taken; all of them were ready when they were asked."""
    work_s, batches = 0.003, 4
    loader = Ahead(work_s)
    one = side(lambda: loader, len)
    one.observe(Refilled(), batches, CONDITIONS)  # fills it
    before = loader.made
    record = one.observe(Refilled(), batches, CONDITIONS)
    assert loader.made - before == batches
    assert record.samples == 8 * batches
    assert record.wall_ns >= batches * work_s * 1e9
    assert sum(record.latencies_ns) < record.wall_ns
    assert record.effort.cpu_ns >= batches * work_s * 1e9


def test_a_loader_that_never_rests_is_no_part_of_it(side, monkeypatch):
    monkeypatch.setattr(observations, "PATIENCE_SECONDS", 0.3)
    one = side(lambda: Ahead(0.0001, ahead=0, batches=40, rests=False), len)
    one.take(30)
    with pytest.raises(MeasureError, match=r"expected it to rest within .* s without requests, got more work"):
        one.observe(Refilled(), 4, CONDITIONS)


def test_an_epoch_that_ends_within_a_turn_is_too_short(side):
    with pytest.raises(ShortEpochError):
        side(lambda: Ahead(0.0001, batches=10), len).observe(Refilled(), 20, SimpleNamespace(hold=CONDITIONS.hold))
