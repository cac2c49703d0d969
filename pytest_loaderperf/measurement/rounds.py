"""Rounds: every side that a claim compares is observed once, in random order, while the others are idle."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement.activity import PATIENCE_SECONDS, wait_until_idle
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.disturbance import Disturbance, Log, Machine, disturbance
from pytest_loaderperf.measurement.kinds import Kind, Steady, Work
from pytest_loaderperf.measurement.prefetched import helpers
from pytest_loaderperf.measurement.record import Record, SteadyRecord
from pytest_loaderperf.measurement.side import ShortEpochError, Side
from pytest_loaderperf.measurement.slices import in_slices
from pytest_loaderperf.measurement.trials import (
    ENDLESS,
    MIN_TRIAL_BATCHES,
    Pace,
    piece_batches,
    rhythm_of,
    sliced_batches,
)

_SLOW_SECONDS = 0.01  # a batch; cold caches cost far less than that
_PROBE_SECONDS = 0.01
_PROBE_BATCHES = 64
_RHYTHM_BATCHES = 4096  # the latest latencies, in which a rhythm shows
_REBUILD_ROUNDS = 8  # where memory happened to land is noise too, so it is drawn anew
_REBUILD_SHARE = 0.25  # of the measuring time at most
_TRIES = 4  # epochs whose lengths vary may each turn out shorter than the one before
_WORK_SHARE = 0.5  # of the workers' CPU time, of which serializing and neighbours on the same core take a part
_OWN_SHARE = 0.5  # of a batch's time, that the consumer may work itself
_IMPATIENT_SECONDS = 0.01  # for a side that has shown never to be idle
_LONGEST_PATIENCE_SECONDS = 30.0  # for workers that fill up what they may have ready


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


@dataclass(slots=True)
class _Standing:
    """How a side stands: its pace, what lies between its trials, and how long ago it was built."""

    batch_seconds: float
    overhead_seconds: float = 0.0
    latencies_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_RHYTHM_BATCHES))
    # What was probed is ahead of the others by chance: all begin anew, in step, as soon as that is cheap.
    rounds_since_build: float = _REBUILD_ROUNDS
    seconds_since_build: float = 0.0

    def pace(self, side: Any) -> Pace:
        affordable = ENDLESS if side.epoch_batches is None else side.epoch_batches - side.warmup_batches
        rhythm = 1 if side.inline else rhythm_of(self.latencies_ns)
        return Pace(self.batch_seconds, side.warmup_batches, affordable, self.overhead_seconds, rhythm)

    def note(self, record: SteadyRecord, side: Any) -> None:
        """Follow the pace: caches that were cold when it was probed grow warm."""
        if side.inline:
            seconds = statistics.median(record.latencies_ns[:_PROBE_BATCHES]) / 1e9
        else:  # batches come in bursts, of which the median may be none
            seconds = record.wall_ns / len(record.latencies_ns) / 1e9
            self.latencies_ns.extend(record.latencies_ns)
        self.batch_seconds = (self.batch_seconds + max(1e-9, seconds)) / 2
        if side.slow != (self.batch_seconds > _SLOW_SECONDS):
            side.slow = not side.slow

    def built(self, *, rebuildable: bool) -> None:
        self.rounds_since_build = 0 if rebuildable else -math.inf  # never due by itself
        self.seconds_since_build = 0.0


class Rounds:
    """Measures ``sides`` in rounds, each under ``conditions``; keeps every record; ``close()`` closes the sides.

    ``replay`` makes of a side, and a seed that all sides share, one that does the work of its workers in turns; None
    where it cannot.
    """

    def __init__(
        self,
        sides: Mapping[str, Side],
        conditions: Conditions,
        replay: Callable[[Any, int], Any] = lambda side, seed: None,
    ) -> None:
        self.sides: dict[str, Any] = {}
        self.done: list[Round] = []
        self.seconds = 0.0
        self.never_idle: set[str] = set()
        self._standings: dict[str, _Standing] = {}
        self._replay = replay
        self._replays: dict[str, Any] = {}
        self._replay_standings: dict[str, _Standing] = {}
        self._conditions = conditions
        self._order = random.Random()  # noqa: S311 no secret depends on it
        self._seed = self._order.getrandbits(31)
        for side in sides.values():
            self.add(side)
        self._last: str | None = None
        self._helpers: frozenset[int] = frozenset()  # when slices ended; none: not looked since
        self._log = Log(Machine(conditions.cpus))

    def add(self, side: Any) -> None:
        """Measure one side more from now on: or what has the same methods."""
        try:
            with self._conditions.hold():
                self._standings[side.name] = _Standing(batch_seconds := _probe(side))
            side.slow = batch_seconds > _SLOW_SECONDS
        except BaseException:
            side.close()  # nobody else knows it yet
            raise
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
        worked = any(isinstance(key.kind, Work) for key in keys)
        standings = self._replay_standings if worked else self._standings
        sides = self._playing(names) if worked else {name: self.sides[name] for name in names}
        records = self._tried(keys, sides, standings, longer)
        for key, record in records.items():
            if isinstance(record, SteadyRecord):
                standings[key.side].note(record, sides[key.side])
        took_s = time.perf_counter() - began_s
        self.done.append(Round(records, took_s))
        self.seconds += took_s
        for name in names:
            self._standings[name].rounds_since_build += 1
            self._standings[name].seconds_since_build += took_s
        return self.done[-1]

    def _tried(
        self, keys: Sequence[Key], sides: Mapping[str, Any], standings: Mapping[str, _Standing], longer: int
    ) -> dict[Key, Record]:
        """One round, anew where an epoch turns out shorter than a trial, or a side begins to run ahead."""
        halvings = 0
        for tries_left in reversed(range(_TRIES)):
            inline = [side.inline for side in sides.values()]
            try:
                records = self._one_round(keys, sides, standings, halvings, longer)
            except ShortEpochError:  # now the length of the epoch is known, and a shorter trial fits
                if tries_left == 0:
                    raise
                halvings += 1
                continue
            if inline == [side.inline for side in sides.values()]:
                break  # else a side has begun to run ahead meanwhile, and is treated as such from now on
        return records

    def sliced(self, names: Sequence[str]) -> bool:
        """Whether these sides take turns within a trial: several, whose batches are made by the asking thread alone."""
        return len(names) > 1 and all(self.sides[name].inline for name in names)

    def replayed(self, names: Sequence[str]) -> bool:
        """Whether what the workers of all these sides do can be done again, in turns; tries it."""
        if len(names) < 2 or any(self.sides[name].inline for name in names):  # noqa: PLR2004 a comparison needs two
            return False
        try:
            return len(self._playing(names)) == len(names)
        except LoaderError:
            return False

    def waits_for_work(self, names: Sequence[str]) -> bool:
        """Whether these sides wait for what their workers do, as replayed, and for little else.

        It must be a good part of the workers' CPU time, and far more than what the consumer does itself. False where
        nothing is known of that.
        """
        for name in names:
            efforts = [
                (record.effort, len(record.latencies_ns))
                for seen in self.done
                if isinstance(record := seen.records.get(Key(name, Steady())), SteadyRecord) and record.effort is not None
            ]
            if not efforts:
                return False
            work_s, workers = self._replay_standings[name].batch_seconds, self._replays[name].workers
            in_workers_s = statistics.median(effort.children_ns / n for effort, n in efforts) * 1e-9
            own_s = statistics.median(effort.own_ns / n for effort, n in efforts) * 1e-9
            if work_s < _WORK_SHARE * in_workers_s or own_s > _OWN_SHARE * work_s / workers:
                return False
        return True

    def _playing(self, names: Sequence[str]) -> dict[str, Any]:
        """The replays of these sides; of those that have one."""
        for name in names:
            if name not in self._replays:
                self._quieten()
                replay = self._replays[name] = self._replay(self.sides[name], self._seed)
                if replay is not None:
                    standing = self._replay_standings.setdefault(name, _Standing(_probe(replay)))
                    replay.slow = standing.batch_seconds > _SLOW_SECONDS
        playing = {name: self._replays[name] for name in names}
        return {name: replay for name, replay in playing.items() if replay is not None and replay.inline}

    def _one_round(
        self,
        keys: Sequence[Key],
        sides: Mapping[str, Any],
        standings: Mapping[str, _Standing],
        halvings: int,
        longer: int,
    ) -> dict[Key, Record]:
        paces = {name: standings[name].pace(side) for name, side in sides.items()}
        self._check_affordable(keys, sides, paces)
        turns = len(sides) > 1 and all(side.inline for side in sides.values())
        if turns and all(isinstance(key.kind, (Steady, Work)) for key in keys):
            taken = self._in_slices(list(sides.values()), sliced_batches(paces, longer, halvings), paces)
            return {key: taken[key.side] for key in keys}
        self._helpers = frozenset()  # others may begin meanwhile
        batches = piece_batches(paces, halvings)
        records: dict[Key, Record] = {}
        for key in self._order.sample(list(keys), len(keys)):
            records[key] = self._in_one_piece(key, batches[key.side])
        return records

    def _in_one_piece(self, key: Key, batches: int) -> Record:
        began_s = time.perf_counter()
        self._quieten()
        record = self.sides[key.side].observe(key.kind, batches, self._conditions)
        self._last = key.side
        if isinstance(record, SteadyRecord):
            standing = self._standings[key.side]
            overhead_s = time.perf_counter() - began_s - record.wall_ns * 1e-9
            standing.overhead_seconds = (standing.overhead_seconds + overhead_s) / 2
        return record

    def _in_slices(
        self, sides: list[Any], batches: Mapping[str, int], paces: Mapping[str, Pace]
    ) -> dict[str, SteadyRecord]:
        self._quieten()
        self._last = None
        conditions = self._conditions
        if any(side.elsewhere for side in sides):
            conditions = conditions.on_one_cpu(self._order)
        for side in sides:
            side.conditions = conditions
        batch_seconds = {name: pace.batch_seconds for name, pace in paces.items()}
        before, self._helpers = self._helpers or helpers(), frozenset()
        try:
            return in_slices(sides, batches, batch_seconds, self._order, conditions)
        finally:
            self._conditions.restore()
            self._helpers = helpers()
            if self._helpers - before:
                for side in sides:
                    side.note_helpers()

    def _quieten(self) -> None:
        """Wait until the side that was measured last has made what it may have ready."""
        last = self._last
        if last is None or self.sides[last].inline:
            return
        children = [pid for side in self.sides.values() for pid in side.children]
        ready_s = self.sides[last].warmup_batches * self._standings[last].batch_seconds
        patience_s = min(max(PATIENCE_SECONDS, 2 * ready_s), _LONGEST_PATIENCE_SECONDS)
        if not wait_until_idle(children, _IMPATIENT_SECONDS if last in self.never_idle else patience_s):
            self.never_idle.add(last)

    @staticmethod
    def _check_affordable(keys: Sequence[Key], sides: Mapping[str, Any], paces: Mapping[str, Pace]) -> None:
        shortest = min(paces, key=lambda name: paces[name].affordable)
        if paces[shortest].affordable < MIN_TRIAL_BATCHES and any(isinstance(key.kind, Steady) for key in keys):
            raise sides[shortest].short_epoch_error()

    def rebuild(self, names: Sequence[str]) -> None:
        """Make sides anew from their factories; those that have none begin a new epoch.

        In random order: the first one may get the memory that the last one had, and keep what is better or worse of it.
        """
        self._seed = self._order.getrandbits(31)
        for name in names:
            self._drop_replay(name)
        for side in map(self.sides.__getitem__, self._order.sample(list(names), len(names))):
            side.build()
            self._helpers = frozenset()
            self._standings[side.name].built(rebuildable=side.rebuildable)

    def _drop_replay(self, name: str) -> None:
        replay = self._replays.get(name)
        if replay is not None:
            del self._replays[name]  # a side that cannot be replayed once never can
            replay.close()

    def _rebuild_if_due(self, names: Sequence[str]) -> None:
        """Rebuild all or none: who is ahead of the other pays alone for what they share, and who is newer is colder."""
        standings = [self._standings[name] for name in names]
        if max(standing.rounds_since_build for standing in standings) < _REBUILD_ROUNDS:
            return
        sides = [self.sides[name] for name in names]
        cost_s = sum(side.build_seconds + side.starts[-1].first_batch_ns * 1e-9 for side in sides)
        if cost_s <= _REBUILD_SHARE * max(standing.seconds_since_build for standing in standings):
            self.rebuild(names)

    def close(self) -> None:
        """Close every side. May be called twice."""
        inline = all(side.inline for side in self.sides.values())
        for name in list(self._replays):
            self._drop_replay(name)
        for side in self.sides.values():
            side.close()
        self._conditions.restore()
        if not inline:
            gc.collect()  # iterators in cycles hold threads and processes


def _probe(side: Any) -> float:
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
