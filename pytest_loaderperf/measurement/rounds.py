"""Rounds: every side that a claim compares is observed once, in random order, while the others are idle."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_loaderperf.errors import LoaderHangError, LoaderPerfError, ShortEpochError
from pytest_loaderperf.measurement.activity import PATIENCE_SECONDS, wait_until_idle
from pytest_loaderperf.measurement.ahead import Clocks
from pytest_loaderperf.measurement.any_side import AnySide
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.disturbance import Disturbance, Log, Machine, disturbance
from pytest_loaderperf.measurement.in_step import begin_in_step, catch_up
from pytest_loaderperf.measurement.observations import Kind, Refilled, Steady, Work
from pytest_loaderperf.measurement.prefetched import helpers
from pytest_loaderperf.measurement.record import Record, SteadyRecord
from pytest_loaderperf.measurement.refills import in_refills
from pytest_loaderperf.measurement.replays import MakeReplay, Replays
from pytest_loaderperf.measurement.slices import in_slices
from pytest_loaderperf.measurement.standing import REBUILD_ROUNDS, Standing
from pytest_loaderperf.measurement.trials import MIN_TRIAL_BATCHES, Pace, piece_batches, refill_batches, sliced_batches

_REBUILD_SHARE = 0.25  # of the measuring time at most
_TRIES = 4  # if lengths vary, each epoch may be shorter than the one before
_IMPATIENT_SECONDS = 0.01  # for a side that was never idle
_LONGEST_PATIENCE_SECONDS = 30.0  # for workers that fill their prefetch
_Standings = Mapping[str, Standing]


@dataclass(frozen=True, slots=True)
class Key:
    """What is observed: ``kind`` of the side named ``side``."""

    side: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Round:
    """One record for each key, measured together in ``seconds``."""

    records: Mapping[Key, Record]
    seconds: float


class Rounds:
    """Measures ``sides`` in rounds, each under ``conditions``; keeps every record; ``close()`` closes the sides.

    ``replay`` makes, from a side and a common seed, a side that does its workers' work on request; None if it cannot.
    """

    def __init__(
        self,
        sides: Mapping[str, AnySide],
        conditions: Conditions,
        replay: MakeReplay = lambda side, seed: None,
    ) -> None:
        self.sides: dict[str, AnySide] = {}
        self.done: list[Round] = []
        self.seconds = 0.0
        self.never_idle: set[str] = set()
        self._restless: set[str] = set()  # sides without refills
        self._standings: dict[str, Standing] = {}
        self._conditions = conditions
        self._order = random.Random()  # noqa: S311 no secret depends on it
        self.replays = Replays(replay, self._order)
        for side in sides.values():
            self.add(side)
        begin_in_step(list(self.sides.values()), self._standings, conditions)
        self._last: str | None = None
        self._helpers: frozenset[int] = frozenset()  # after the last slices; empty: not checked since
        self._log = Log(Machine(conditions.cpus))

    def add(self, side: AnySide) -> None:
        """Add a side to measure, or another object with its methods."""
        try:
            with self._conditions.hold():
                self._standings[side.name] = Standing.probed(side)
        except BaseException:
            side.close()  # nobody else can close it yet
            raise
        self.sides[side.name] = side

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Measure within this block, and read the machine's counters before and after it."""
        self._log.begin()
        self._helpers = frozenset()  # threads and processes started since belong to no side
        try:
            yield
        finally:
            self._log.end()

    def disturbance(self) -> Disturbance:
        """How much of the watched time was disturbed, and by what."""
        return disturbance(self._log.spans, self._log.machine.cpus)

    def observe(self, keys: Sequence[Key], longer: int = 1) -> Round:
        """Measure one round of ``keys``, ``longer`` times as long, and keep it. No rebuild before a longer one."""
        self._log.tick(began_s := time.perf_counter())
        names = list(dict.fromkeys(key.side for key in keys))
        if longer == 1:
            self._rebuild_if_due(names)
        sides = {name: self.sides[name] for name in names}
        if any(isinstance(key.kind, Work) for key in keys):
            self._quieten()
            standings = self.replays.standings
            records = self.replays.attempt(sides, lambda playing: self._noted(keys, playing, standings, longer))
        elif all(isinstance(key.kind, Refilled) for key in keys):
            records = self._refilled(keys, sides)
        else:
            records = self._noted(keys, sides, self._standings, longer)
        self.done.append(seen := Round(records, time.perf_counter() - began_s))
        self.seconds += seen.seconds
        for name in names:
            self._standings[name].note_round(seen.seconds)
        return seen

    def _refilled(self, keys: Sequence[Key], sides: Mapping[str, AnySide]) -> dict[Key, Record]:
        """A round of refills; nothing from the first failure on."""
        try:
            return self._tried(keys, sides, self._standings, 1)
        except LoaderHangError:
            raise
        except LoaderPerfError:
            self._restless.update(sides)
            return {}

    def _noted(
        self, keys: Sequence[Key], sides: Mapping[str, AnySide], standings: _Standings, longer: int
    ) -> dict[Key, Record]:
        records = self._tried(keys, sides, standings, longer)
        for key, record in records.items():
            if isinstance(record, SteadyRecord):
                standings[key.side].note(record, sides[key.side])
        return records

    def _tried(
        self, keys: Sequence[Key], sides: Mapping[str, AnySide], standings: _Standings, longer: int
    ) -> dict[Key, Record]:
        """One round, repeated if an epoch is shorter than a trial, or a side begins to work in the background."""
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
                break  # else a side has begun to work in the background, and is treated so from now on
        return records

    def sliced(self, names: Sequence[str]) -> bool:
        """Whether these sides take turns within a trial: several sides whose batches only the asking thread makes."""
        return len(names) > 1 and all(self.sides[name].inline for name in names)

    def replayed(self, names: Sequence[str]) -> bool:
        """Whether the work of all these sides' workers can be replayed in turns; tries it."""
        sides = {name: self.sides[name] for name in names}
        playing: dict[str, AnySide] = {}
        if len(names) > 1:
            if not self.replays.made(names):
                self._quieten()  # a worker that works meanwhile may share a file with its replay
            self.replays.attempt(sides, lambda found: playing.update(found) or {})
        return bool(playing)

    def waits_for_work(self, names: Sequence[str]) -> bool:
        """Whether these sides, which can be replayed, mainly wait for the work of their workers."""

        def trials(name: str) -> list[SteadyRecord]:
            found = [seen.records.get(Key(name, Steady())) for seen in self.done]
            return [record for record in found if isinstance(record, SteadyRecord)]

        return all(self.replays.waited_for(name, trials(name)) for name in names)

    def refillable(self, names: Sequence[str]) -> bool:
        """Whether these sides can take turns of refills: several that prefetch and have always come to rest so far."""
        sides = {name: self.sides[name] for name in names if name not in self._restless}
        if not len(sides) == len(names) > 1 or any(side.inline or side.least_trial_seconds for side in sides.values()):
            return False
        return refill_batches({name: self._standings[name].pace(side) for name, side in sides.items()})[1] > 0

    def _one_round(
        self,
        keys: Sequence[Key],
        sides: Mapping[str, AnySide],
        standings: _Standings,
        halvings: int,
        longer: int,
    ) -> dict[Key, Record]:
        paces = {name: standings[name].pace(side) for name, side in sides.items()}
        self._check_affordable(keys, sides, paces)
        turns = len(sides) > 1 and all(side.inline for side in sides.values())
        if turns and all(isinstance(key.kind, (Steady, Work)) for key in keys):
            taken = self._in_slices(list(sides.values()), sliced_batches(paces, longer, halvings), paces)
            return {key: taken[key.side] for key in keys}
        self._helpers = frozenset()  # others may start meanwhile
        if all(isinstance(key.kind, Refilled) for key in keys):
            self._quieten()
            self._last = None  # they also rest after it
            refilled = in_refills(list(sides.values()), paces, self._order, self._conditions)
            return {key: refilled[key.side] for key in keys}
        batches = piece_batches(paces, halvings)
        records: dict[Key, Record] = {}
        for key in self._order.sample(list(keys), len(keys)):
            records[key] = self._in_one_piece(key, batches[key.side])
        return records

    def _in_one_piece(self, key: Key, batches: int) -> Record:
        began_s = time.perf_counter()
        self._quieten()
        record: Record = self.sides[key.side].observe(key.kind, batches, self._conditions)
        self._last = key.side
        if isinstance(record, SteadyRecord):
            self._standings[key.side].note_overhead(time.perf_counter() - began_s - record.wall_ns * 1e-9)
        return record

    def _in_slices(
        self, sides: list[AnySide], batches: Mapping[str, int], paces: Mapping[str, Pace]
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
        clocks = Clocks()
        try:
            # This process only requests batches, and avoids the CPU on which the others take turns.
            asker = self._conditions if all(side.elsewhere for side in sides) else conditions
            return in_slices(sides, batches, batch_seconds, self._order, asker)
        finally:
            self._conditions.restore()
            self._helpers = helpers()
            for side in sides:
                if self._helpers - before:
                    side.note_helpers()
                elif clocks.others_run:
                    side.look_ahead(batch_seconds[side.name])

    def _quieten(self) -> None:
        """Wait until the side that was measured last has filled its prefetch."""
        last = self._last
        if last is None or self.sides[last].inline:
            return
        children = [pid for side in self.sides.values() for pid in side.children]
        ready_s = self.sides[last].warmup_batches * self._standings[last].batch_seconds
        patience_s = min(max(PATIENCE_SECONDS, 2 * ready_s), _LONGEST_PATIENCE_SECONDS)
        if not wait_until_idle(children, _IMPATIENT_SECONDS if last in self.never_idle else patience_s):
            self.never_idle.add(last)

    @staticmethod
    def _check_affordable(keys: Sequence[Key], sides: Mapping[str, AnySide], paces: Mapping[str, Pace]) -> None:
        shortest = min(paces, key=lambda name: paces[name].affordable)
        if paces[shortest].affordable < MIN_TRIAL_BATCHES and any(isinstance(key.kind, Steady) for key in keys):
            raise sides[shortest].short_epoch_error()

    def rebuild(self, names: Sequence[str]) -> None:
        """Make sides again from their factories; those without one start a new epoch.

        In random order: the first one may get the memory of the previous last one, which may be faster or slower.
        """
        self.replays.renew(names)
        for side in map(self.sides.__getitem__, self._order.sample(list(names), len(names))):
            side.build()
            self._helpers = frozenset()
            self._standings[side.name].note_build(rebuildable=side.rebuildable)

    def _rebuild_if_due(self, names: Sequence[str]) -> None:
        """Rebuild all or none: a side that is ahead would fill shared caches alone, and a newer side has colder caches.

        How long leaving an epoch takes is known only after the first one: if it is long, the others stay in theirs.
        """
        standings = [self._standings[name] for name in names]
        if max(standing.rounds_since_build for standing in standings) < REBUILD_ROUNDS:
            return
        cost_s = sum(self._standings[name].build_cost(self.sides[name]) for name in names) + self.replays.cost(names)
        share_s = _REBUILD_SHARE * max(standing.seconds_since_build for standing in standings)
        if cost_s > share_s:
            return
        self.replays.renew(names)
        order, left_s = self._order.sample(list(names), len(names)), 0.0
        for done, name in enumerate(order, 1):
            self.rebuild([name])
            left_s += self.sides[name].release_seconds
            left, others = (list(map(self.sides.__getitem__, part)) for part in (order[:done], order[done:]))
            if left_s > share_s and catch_up(left, others, self._standings, self._conditions, left_s):
                for other in order[done:]:
                    self._standings[other].presumed_release_seconds = self.sides[name].release_seconds
                return

    def close(self) -> None:
        """Close every side. May be called twice."""
        inline = all(side.inline for side in self.sides.values())
        self.replays.close()
        for side in self.sides.values():
            side.close()
        self._conditions.restore()
        if not inline:
            gc.collect()  # iterators in reference cycles keep threads and processes
