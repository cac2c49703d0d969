"""The state of a side between rounds: its pace, the time between its trials, and how long ago it was built."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from dataclasses import dataclass, field

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement.ahead import Clocks
from pytest_loaderperf.measurement.any_side import AnySide
from pytest_loaderperf.measurement.record import SteadyRecord
from pytest_loaderperf.measurement.trials import ENDLESS, MIN_TRIAL_BATCHES, Pace

REBUILD_ROUNDS = 8  # the placement of memory affects speed, so it is drawn again
_SLOW_SECONDS = 0.01  # a batch; cold caches take far less than that
_PROBE_SECONDS = 0.01
_DEAR_SECONDS = 2.0  # a first batch: another one, only to learn the pace, would take the time of a pair
_PROBE_BATCHES = 64
_OVERHEADS = 9  # the latest, a few of which include a new epoch
_LATEST_BATCHES = 4096  # in which bursts and rhythms show


@dataclass(slots=True)
class Standing:
    """Follows one side. A side that was just probed is ahead of the others: all restart as soon as that is fast."""

    batch_seconds: float
    rounds_since_build: float = REBUILD_ROUNDS
    seconds_since_build: float = 0.0
    presumed_release_seconds: float = 0.0  # before its first epoch was left
    guessed: bool = False  # from the first batch, which may be slow for other reasons
    _overheads: deque[float] = field(default_factory=lambda: deque([0.0], maxlen=_OVERHEADS))
    _latencies_ns: deque[int] = field(default_factory=lambda: deque(maxlen=_LATEST_BATCHES))

    @classmethod
    def probed(cls, side: AnySide) -> Standing:
        """The standing of ``side`` after its first few batches. Raises LoaderError for an epoch of one batch."""
        clocks = Clocks()
        if side.iterator is None:
            side.start()
        first_s = side.starts[-1].first_batch_ns * 1e-9
        dear = first_s > _DEAR_SECONDS
        standing = cls(first_s if dear else _probe(side), guessed=dear)
        side.slow = standing.batch_seconds > _SLOW_SECONDS
        if side.inline and clocks.suspicious:
            side.look_ahead(standing.batch_seconds)
        return standing

    def pace(self, side: AnySide) -> Pace:
        """What determines the length of the side's next trial."""
        affordable = ENDLESS if side.epoch_batches is None else side.epoch_batches - side.warmup_batches
        overhead_s = statistics.median(self._overheads)
        latencies_ns, least_s = list(self._latencies_ns), side.least_trial_seconds
        return Pace(self.batch_seconds, side.warmup_batches, affordable, overhead_s, latencies_ns, least_s)

    def note(self, record: SteadyRecord, side: AnySide) -> None:
        """Update the pace: caches that were cold when it was probed get warm."""
        if side.inline:
            seconds = statistics.median(record.latencies_ns[:_PROBE_BATCHES]) / 1e9
        else:  # batches are made in bursts, and the median batch may have been ready
            seconds = record.wall_ns / len(record.latencies_ns) / 1e9
            self._latencies_ns.extend(record.untimed_ns + record.latencies_ns)
        seconds = max(1e-9, seconds)
        self.batch_seconds = seconds if self.guessed else (self.batch_seconds + seconds) / 2
        self.guessed = False
        if side.slow != (self.batch_seconds > _SLOW_SECONDS):
            side.slow = not side.slow

    def note_overhead(self, seconds: float) -> None:
        """Update the time between two trials."""
        self._overheads.append(seconds)

    def note_round(self, seconds: float) -> None:
        """A round more since it was built."""
        self.rounds_since_build += 1
        self.seconds_since_build += seconds

    def build_cost(self, side: AnySide) -> float:
        """Seconds to leave the epoch of ``side``, build it and get its first batch, as far as known."""
        release_s = side.release_seconds or self.presumed_release_seconds
        return side.build_seconds + side.starts[-1].first_batch_ns * 1e-9 + release_s

    def note_build(self, *, rebuildable: bool) -> None:
        """It was rebuilt; a side that cannot be is never due by itself."""
        self.rounds_since_build = 0 if rebuildable else -math.inf
        self.seconds_since_build = 0.0


def _probe(side: AnySide) -> float:
    """Median seconds a batch takes, from the first few after the one that begins an epoch."""
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
