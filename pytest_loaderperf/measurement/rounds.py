"""Rounds: every side that a claim compares is observed once, in random order, while the others are idle."""

from __future__ import annotations

import gc
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement.activity import PATIENCE_SECONDS, wait_until_idle
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.disturbance import Counters, Machine, grown
from pytest_loaderperf.measurement.kinds import Kind, Steady
from pytest_loaderperf.measurement.record import Record
from pytest_loaderperf.measurement.side import MIN_TRIAL_BATCHES, ShortEpochError, Side

_TRIAL_SECONDS = 0.005  # of the fastest side: long against the clock, short against the machine's moods
_LONGEST_TRIAL_SECONDS = 0.06  # of the slowest side
_SLOW_SECONDS = 0.01  # a batch; cold caches cost far less than that
_PROBE_SECONDS = 0.02
_PROBE_BATCHES = 64
_REBUILD_ROUNDS = 8  # where memory happened to land is noise too, so it is drawn anew
_REBUILD_SHARE = 0.25  # of the measuring time at most
_TRIES = 4  # epochs whose lengths vary may each turn out shorter than the one before
_IMPATIENT_SECONDS = 0.01  # for a side that has shown never to be idle


@dataclass(frozen=True, slots=True)
class Key:
    """What is observed: ``kind`` of the side called ``side``."""

    side: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Round:
    """One record for each key, measured in one go that took ``seconds``, and what the machine did in these."""

    records: Mapping[Key, Record]
    seconds: float
    counters: Counters


class Rounds:
    """Measures ``sides`` in rounds, each under ``conditions``; keeps every record; ``close()`` closes the sides."""

    def __init__(self, sides: Mapping[str, Side], conditions: Conditions) -> None:
        self.sides: dict[str, Side] = {}
        self.done: list[Round] = []
        self.seconds = 0.0
        self.never_idle: set[str] = set()
        self._batch_seconds: dict[str, float] = {}
        self._since_build: dict[str, int] = {}
        self._seconds_since_build: dict[str, float] = {}
        for side in sides.values():
            self.add(side)
        self._last: str | None = None
        self._conditions = conditions
        self.machine = Machine(conditions.cpus)
        self._order = random.Random()  # noqa: S311 no secret depends on it

    def add(self, side: Side) -> None:
        """Measure one side more from now on: or what has the same methods."""
        try:
            self._batch_seconds[side.name] = _probe(side)
            side.slow = self._batch_seconds[side.name] > _SLOW_SECONDS
        except BaseException:
            side.close()  # nobody else knows it yet
            raise
        self._since_build[side.name], self._seconds_since_build[side.name] = 0, 0.0
        self.sides[side.name] = side

    def observe(self, keys: Sequence[Key]) -> Round:
        """Measure one round of ``keys`` and keep it."""
        began_s, before = time.perf_counter(), self.machine.read()
        names = list(dict.fromkeys(key.side for key in keys))
        for name in names:
            self._rebuild_if_due(self.sides[name])
        for tries_left in reversed(range(_TRIES)):
            try:
                records = self._one_round(keys, self._trial_batches(keys))
                break
            except ShortEpochError:  # now the length of the epoch is known, and a shorter trial fits
                if tries_left == 0:
                    raise
        counters = grown(before, self.machine.read())
        took_s = time.perf_counter() - began_s
        self.done.append(Round(records, took_s, counters))
        self.seconds += took_s
        for name in names:
            self._since_build[name] += 1
            self._seconds_since_build[name] += took_s
        return self.done[-1]

    def _one_round(self, keys: Sequence[Key], batches: int) -> dict[Key, Record]:
        records: dict[Key, Record] = {}
        for key in self._order.sample(list(keys), len(keys)):
            self._quieten()
            records[key] = self.sides[key.side].observe(key.kind, batches, self._conditions)
            self._last = key.side
        return records

    def _quieten(self) -> None:
        last = self._last
        if last is None:
            return
        children = [pid for side in self.sides.values() for pid in side.children]
        patience_s = _IMPATIENT_SECONDS if last in self.never_idle else PATIENCE_SECONDS
        if not wait_until_idle(children, patience_s):
            self.never_idle.add(last)

    def _affordable(self, name: str) -> int:
        """Most timed batches that one epoch of a side allows."""
        side = self.sides[name]
        return _ENDLESS if side.epoch_batches is None else side.epoch_batches - side.warmup_batches

    def _trial_batches(self, keys: Sequence[Key]) -> int:
        names = {key.side for key in keys}
        shortest = min(names, key=self._affordable)
        if self._affordable(shortest) < MIN_TRIAL_BATCHES and any(isinstance(key.kind, Steady) for key in keys):
            raise self.sides[shortest].short_epoch_error()
        fastest = min(self._batch_seconds[name] for name in names)
        slowest = max(self._batch_seconds[name] for name in names)
        wanted = min(_TRIAL_SECONDS / fastest, _LONGEST_TRIAL_SECONDS / slowest)
        # Not fewer than a side may have ready: batches come from its workers in bursts.
        least = max(1, *(self.sides[name].warmup_batches for name in names))
        return min(max(least, round(wanted)), self._affordable(shortest))

    def rebuild(self, names: Sequence[str]) -> None:
        """Make sides anew from their factories, where they have one."""
        for side in map(self.sides.__getitem__, names):
            if side.rebuildable:
                side.build()
                self._since_build[side.name] = 0
                self._seconds_since_build[side.name] = 0.0

    def _rebuild_if_due(self, side: Side) -> None:
        name = side.name
        if not side.rebuildable or self._since_build[name] < _REBUILD_ROUNDS:
            return
        if side.build_seconds > _REBUILD_SHARE * self._seconds_since_build[name]:
            return
        self.rebuild([name])

    def close(self) -> None:
        """Close every side. May be called twice."""
        for side in self.sides.values():
            side.close()
        self._conditions.restore()
        gc.collect()


_ENDLESS = 1 << 20


def _probe(side: Side) -> float:
    """Median seconds a batch takes, from the first few."""
    if side.iterator is None:
        side.start()
    latencies: list[int] = []
    deadline_s = time.perf_counter() + _PROBE_SECONDS
    while len(latencies) < _PROBE_BATCHES and (time.perf_counter() < deadline_s or not latencies):
        record = side.take(1)
        if record is None:
            break
        latencies.append(record.wall_ns)
    if not latencies:
        raise LoaderError(
            f"{side.called} gives 1 batch an epoch, but a trial needs at least "
            f"{side.warmup_batches + MIN_TRIAL_BATCHES}. Use more samples, a smaller batch_size, or fewer workers."
        )
    return max(1, statistics.median(latencies)) / 1e9
