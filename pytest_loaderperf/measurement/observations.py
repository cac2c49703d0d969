"""What can be observed of a side, one class for each kind. A round observes each side once."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass, replace
from typing import Protocol

from torch.utils.data import DataLoader, IterableDataset

from pytest_loaderperf.errors import LoaderError, MeasureError
from pytest_loaderperf.measurement.activity import (
    PATIENCE_SECONDS,
    Usage,
    active_until,
    descendants,
    tree_cpu_ns,
    wait_until_idle,
)
from pytest_loaderperf.measurement.any_side import AnySide
from pytest_loaderperf.measurement.memory import PeakMemory
from pytest_loaderperf.measurement.record import (
    EpochRecord,
    Record,
    ResourceRecord,
    StartRecord,
    SteadyRecord,
    StepRecord,
)
from pytest_loaderperf.measurement.side import Side
from pytest_loaderperf.measurement.trials import MIN_TRIAL_BATCHES

_STEP_TRIAL_SECONDS = 0.1  # all timed steps of one trial together
_SETTLING_STEPS = 8  # after which a loader that keeps up has batches ready again, and others have none
_RESOURCE_SECONDS = 2.0  # the peak is reached earlier, when all buffers are full
_SAMPLE_EVERY_SECONDS = 0.02  # reading other processes' memory takes milliseconds

_PATIENCE = 10.0  # times as long as the batches took, until as many are ready again


class Kind(Protocol):
    """A way to observe a side; equal kinds are observed together."""

    def observe(self, side: Side, batches: int) -> Record:
        """Observe ``side`` once; kinds that time batches use ``batches``."""
        ...


@dataclass(frozen=True, slots=True)
class Steady:
    """A trial in steady state."""

    def observe(self, side: Side, batches: int) -> SteadyRecord:
        return side.steady(batches)


@dataclass(frozen=True, slots=True)
class Placed(Steady):
    """The same in a job whose ranks get other cores of their host for each trial."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a side's workers do for a batch, done again in turns with another side's: see ``Rounds.replayed``."""

    def observe(self, side: Side, batches: int) -> SteadyRecord:
        return side.steady(batches)


@dataclass(frozen=True, slots=True)
class Refilled:
    """Batches taken from a side whose prefetch is full, until it is full again: see ``refills``.

    ``wall_ns`` of the record is the time until then.
    """

    def observe(self, side: Side, batches: int) -> SteadyRecord:
        pids = descendants(side.children)
        before, began_ns = Usage.of(pids), time.perf_counter_ns()
        record = side.take(batches)
        if record is None:
            raise side.short_epoch_error()
        patience_s = max(PATIENCE_SECONDS, _PATIENCE * record.wall_ns * 1e-9)
        ended_ns = active_until(pids, patience_s)
        if ended_ns is None:
            raise MeasureError(
                f"{side.called}: expected it to rest within {patience_s:.1f} s without requests, got more work"
            )
        wall_ns = ended_ns - began_ns
        return replace(record, wall_ns=wall_ns, effort=Usage.of(pids).since(before, wall_ns))


@dataclass(frozen=True, slots=True)
class Start:
    """The start of an epoch."""

    def observe(self, side: Side, batches: int) -> StartRecord:
        return side.start()


@dataclass(frozen=True, slots=True)
class Exit:
    """The end of an epoch."""

    def observe(self, side: Side, batches: int) -> EpochRecord:
        return side.finish_epoch()


@dataclass(frozen=True, slots=True)
class Epoch:
    """A whole epoch, as in a loop over several epochs.

    The garbage collector is on, as in a plain loop: an epoch may be long, and leave much garbage.
    """

    def observe(self, side: Side, batches: int) -> EpochRecord:
        if not side.at_end:
            _line_up(side)
        gc.enable()
        return side.finish_epoch()


def _line_up(side: Side) -> None:
    """Make the next epoch of ``side`` a whole one, without prefetched batches of the running epoch."""
    if side.started and not _begins_anew(side.loader):
        if side.rebuildable:
            side.build()
        else:
            side.finish_epoch()
    if not side.started and getattr(side.loader, "persistent_workers", False):
        side.start()  # only its first epoch starts them
    side.drop_epoch()
    if not side.inline:
        wait_until_idle(side.children)


def _begins_anew(loader: object) -> bool:
    """Whether a new iterator certainly starts a new epoch, even if the last one was left before its end."""
    return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)


@dataclass(frozen=True, slots=True)
class Step:
    """A simulated training loop whose step takes ``seconds`` and leaves the CPU to the loader."""

    seconds: float

    def steps(self, side: AnySide | Side) -> tuple[int, int]:
        """How many steps let the side reach its usual state, and how many are timed."""
        settling = min(_SETTLING_STEPS, side.warmup_batches)
        timed = max(MIN_TRIAL_BATCHES, round(_STEP_TRIAL_SECONDS / self.seconds))
        if side.epoch_batches is not None:
            timed = max(1, min(timed, side.epoch_batches - side.warmup_batches - settling - 1))
        return settling, timed

    def observe(self, side: Side, batches: int) -> StepRecord:
        settling, timed = self.steps(side)
        needed = side.warmup_batches + settling + timed
        if not side.more_in_epoch(needed):
            side.start()
        for _ in range(2):
            # First read what was prefetched, then let the loader reach its usual state with this step.
            drained = side.take(side.warmup_batches) and _steps(side, settling, self.seconds)
            measured = _steps(side, timed, self.seconds) if drained else None
            if measured is not None:
                return StepRecord(*measured)
            side.start()
        raise LoaderError(
            f"{side.called} gives {side.epoch_batches} batches an epoch, but data_wait(step=...) needs "
            f"{needed}. Use more samples, a smaller batch_size, or fewer workers."
        )


def _steps(side: Side, batches: int, step_seconds: float) -> tuple[int, int] | None:
    """Take ``batches`` batches with a step after each that leaves the CPU idle; (waited, total) in nanoseconds.

    None if the epoch ends before.
    """
    wait_ns = 0
    began_ns = time.perf_counter_ns()
    for _ in range(batches):
        record = side.take(1)
        if record is None:
            return None
        wait_ns += record.wall_ns
        time.sleep(step_seconds)
    return wait_ns, time.perf_counter_ns() - began_ns


@dataclass(frozen=True, slots=True)
class Resources:
    """Memory and CPU time from building the loader to loading an epoch of it, or two seconds' worth.

    The CPU time is that of a whole epoch with start-up and exit, including processes that end with it; for a longer
    epoch, of two seconds.
    """

    def observe(self, side: Side, batches: int) -> ResourceRecord:
        side.close()
        peak = PeakMemory()
        side.build()
        built_ns = tree_cpu_ns()
        side.start()
        began_ns, samples = tree_cpu_ns(), 0
        deadline_s = time.monotonic() + _RESOURCE_SECONDS
        sampled_s = 0.0
        while True:
            record = side.take(1)
            now_s = time.monotonic()
            if record is None:
                began_ns, samples = built_ns, side.epochs[-1].samples
                break
            samples += record.samples
            if now_s > deadline_s:
                break
            if now_s - sampled_s > _SAMPLE_EVERY_SECONDS:
                peak.sample()
                sampled_s = time.monotonic()
        used_ns = tree_cpu_ns() - began_ns
        peak.sample()
        return ResourceRecord(peak.nbytes, max(0, used_ns), max(samples, side.batch_samples))
