"""Rounds: every side that a claim compares is observed once, in random order, while the others are idle."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement.activity import PATIENCE_SECONDS, wait_until_idle
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.disturbance import Disturbance, Log, Machine, disturbance
from pytest_loaderperf.measurement.kinds import Kind, Steady
from pytest_loaderperf.measurement.prefetched import helpers
from pytest_loaderperf.measurement.record import Record, SteadyRecord
from pytest_loaderperf.measurement.side import MIN_TRIAL_BATCHES, ShortEpochError, Side
from pytest_loaderperf.measurement.slices import in_slices

_TRIAL_SECONDS = 0.005  # of the fastest side: long against the clock, short against the machine's moods
_LONGEST_TRIAL_SECONDS = 0.06  # of the slowest side
_INLINE_TRIAL_SECONDS, _LONGEST_INLINE_TRIAL_SECONDS = 0.002, 0.012  # in slices, a mood strikes all sides
_SLOW_SECONDS = 0.01  # a batch; cold caches cost far less than that
_PROBE_SECONDS = 0.01
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
    """One record for each key, measured in one go that took ``seconds``."""

    records: Mapping[Key, Record]
    seconds: float


class Rounds:
    """Measures ``sides`` in rounds, each under ``conditions``; keeps every record; ``close()`` closes the sides."""

    def __init__(self, sides: Mapping[str, Side], conditions: Conditions) -> None:
        self.sides: dict[str, Side] = {}
        self.done: list[Round] = []
        self.seconds = 0.0
        self.never_idle: set[str] = set()
        self._batch_seconds: dict[str, float] = {}
        self._since_build: dict[str, float] = {}
        self._seconds_since_build: dict[str, float] = {}
        self._conditions = conditions
        for side in sides.values():
            self.add(side)
        self._last: str | None = None
        self._helpers: frozenset[int] = frozenset()  # when slices ended; none: not looked since
        self._log = Log(Machine(conditions.cpus))
        self._order = random.Random()  # noqa: S311 no secret depends on it

    def add(self, side: Side) -> None:
        """Measure one side more from now on: or what has the same methods."""
        try:
            with self._conditions.hold():
                batch_seconds = self._batch_seconds[side.name] = _probe(side)
            side.slow = batch_seconds > _SLOW_SECONDS
        except BaseException:
            side.close()  # nobody else knows it yet
            raise
        # What was probed is ahead of the others by chance: all begin anew, in step, as soon as that is cheap.
        self._since_build[side.name], self._seconds_since_build[side.name] = _REBUILD_ROUNDS, 0.0
        self.sides[side.name] = side

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Observe within this block, and the machine is read around it."""
        self._log.begin()
        try:
            yield
        finally:
            self._log.end()

    def disturbance(self) -> Disturbance:
        """How much of the watched time was disturbed, and by what."""
        return disturbance(self._log.spans, self._log.machine.cpus)

    def observe(self, keys: Sequence[Key], longer: int = 1) -> Round:
        """Measure one round of ``keys``, so many times ``longer``, and keep it. A longer one is not rebuilt for."""
        began_s = time.perf_counter()
        self._log.tick(began_s)
        names = list(dict.fromkeys(key.side for key in keys))
        if longer == 1:
            self._rebuild_if_due(names)
        halvings = 0
        for tries_left in reversed(range(_TRIES)):
            inline = [self.sides[name].inline for name in names]
            try:
                records = self._one_round(keys, names, halvings, longer)
            except ShortEpochError:  # now the length of the epoch is known, and a shorter trial fits
                if tries_left == 0:
                    raise
                halvings += 1
                continue
            if inline == [self.sides[name].inline for name in names]:
                break  # else a side has begun to run ahead meanwhile, and is treated as such from now on
        self._note_pace(records)
        took_s = time.perf_counter() - began_s
        self.done.append(Round(records, took_s))
        self.seconds += took_s
        for name in names:
            self._since_build[name] += 1
            self._seconds_since_build[name] += took_s
        return self.done[-1]

    def sliced(self, names: Sequence[str]) -> bool:
        """Whether these sides take turns within a trial: several, whose batches are made by the asking thread alone."""
        return len(names) > 1 and all(self.sides[name].inline for name in names)

    def _note_pace(self, records: Mapping[Key, Record]) -> None:
        """Follow each side's pace: caches that were cold when it was probed grow warm."""
        for key, record in records.items():
            if isinstance(record, SteadyRecord):
                side, some = self.sides[key.side], record.latencies_ns[:_PROBE_BATCHES]
                seconds = max(1, statistics.median(some)) / 1e9
                pace = self._batch_seconds[key.side] = (self._batch_seconds[key.side] + seconds) / 2
                if side.slow != (pace > _SLOW_SECONDS):
                    side.slow = not side.slow

    def _one_round(self, keys: Sequence[Key], names: Sequence[str], halvings: int, longer: int) -> dict[Key, Record]:
        if self.sliced(names) and all(isinstance(key.kind, Steady) for key in keys):
            seconds, longest = longer * _INLINE_TRIAL_SECONDS, longer * _LONGEST_INLINE_TRIAL_SECONDS
            batches = self._trial_batches(keys, seconds, longest, halvings)
            taken = self._in_slices([self.sides[name] for name in names], batches)
            return {key: taken[key.side] for key in keys}
        self._helpers = frozenset()  # others may begin meanwhile
        batches = self._trial_batches(keys, _TRIAL_SECONDS, _LONGEST_TRIAL_SECONDS, halvings)
        records: dict[Key, Record] = {}
        for key in self._order.sample(list(keys), len(keys)):
            self._quieten()
            records[key] = self.sides[key.side].observe(key.kind, batches[key.side], self._conditions)
            self._last = key.side
        return records

    def _in_slices(self, sides: list[Side], batches: Mapping[str, int]) -> dict[str, SteadyRecord]:
        self._quieten()
        self._last = sides[-1].name
        conditions = self._conditions
        if any(side.elsewhere for side in sides):
            conditions = conditions.on_one_cpu(self._order)
        for side in sides:
            side.conditions = conditions
        before, self._helpers = self._helpers or helpers(), frozenset()
        try:
            return in_slices(sides, batches, self._batch_seconds, self._order, conditions)
        finally:
            self._conditions.restore()
            self._helpers = helpers()
            if self._helpers - before:
                for side in sides:
                    side.note_helpers()

    def _quieten(self) -> None:
        last = self._last
        if last is None or self.sides[last].inline:
            return
        children = [pid for side in self.sides.values() for pid in side.children]
        patience_s = _IMPATIENT_SECONDS if last in self.never_idle else PATIENCE_SECONDS
        if not wait_until_idle(children, patience_s):
            self.never_idle.add(last)

    def _affordable(self, name: str) -> int:
        """Most timed batches that one epoch of a side allows."""
        side = self.sides[name]
        return _ENDLESS if side.epoch_batches is None else side.epoch_batches - side.warmup_batches

    def _trial_batches(
        self, keys: Sequence[Key], seconds: float, longest_seconds: float, halvings: int
    ) -> dict[str, int]:
        """How many batches a trial of each side times: as many of each, unless one is far slower than the others."""
        names = {key.side for key in keys}
        shortest = min(names, key=self._affordable)
        affordable = self._affordable(shortest)
        if affordable < MIN_TRIAL_BATCHES and any(isinstance(key.kind, Steady) for key in keys):
            raise self.sides[shortest].short_epoch_error()
        affordable = max(min(affordable, MIN_TRIAL_BATCHES), affordable >> halvings)
        # Not fewer than a side may have ready: batches come from its workers in bursts.
        least = max(1, *(self.sides[name].warmup_batches for name in names))
        fastest = min(self._batch_seconds[name] for name in names)
        wanted = max(seconds, min(MIN_TRIAL_BATCHES * fastest, longest_seconds)) / fastest
        most = {name: longest_seconds / self._batch_seconds[name] for name in names}
        return {name: min(max(least, round(min(wanted, most[name]))), affordable) for name in names}

    def rebuild(self, names: Sequence[str]) -> None:
        """Make sides anew from their factories; those that have none begin a new epoch.

        In random order: the first one may get the memory that the last one had, and keep what is better or worse of it.
        """
        for side in map(self.sides.__getitem__, self._order.sample(list(names), len(names))):
            side.build()
            self._helpers = frozenset()
            self._since_build[side.name] = 0 if side.rebuildable else -math.inf  # never due by itself
            self._seconds_since_build[side.name] = 0.0

    def _rebuild_if_due(self, names: Sequence[str]) -> None:
        """Rebuild all or none: who is ahead of the other pays alone for what they share, and who is newer is colder."""
        if max(self._since_build[name] for name in names) < _REBUILD_ROUNDS:
            return
        sides = [self.sides[name] for name in names]
        cost_s = sum(
            side.build_seconds + side.starts[-1].first_batch_ns * 1e-9 + side.release_seconds for side in sides
        )
        if cost_s <= _REBUILD_SHARE * max(self._seconds_since_build[name] for name in names):
            self.rebuild(names)

    def close(self) -> None:
        """Close every side. May be called twice."""
        inline = all(side.inline for side in self.sides.values())
        for side in self.sides.values():
            side.close()
        self._conditions.restore()
        if not inline:
            gc.collect()  # iterators in cycles hold threads and processes


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
