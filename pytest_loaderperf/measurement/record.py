"""Frozen raw samples: what was observed, in integer nanoseconds and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_loaderperf.errors import MeasureError


@dataclass(frozen=True, slots=True)
class Effort:
    """What the processes of a side did in a trial: CPU time of the one that asks for batches, and of its children.

    ``busiest``: the largest share of the time in which one process ran, or waited for a CPU.
    """

    own_ns: int
    children_ns: int
    busiest: float

    @property
    def cpu_ns(self) -> int:
        """CPU time of all."""
        return self.own_ns + self.children_ns


@dataclass(frozen=True, slots=True)
class SteadyRecord:
    """One trial: ``latencies_ns`` of consecutive ``next()`` calls, ``wall_ns`` from first call to last return.

    ``slices_ns``, ``cpu_slices_ns``: time, and CPU time, of a sample in each slice, where it was taken in slices.
    ``untimed_ns``: latencies of the batches that came just before it. ``effort``: where the system tells it.
    """

    latencies_ns: tuple[int, ...]
    wall_ns: int
    samples: int
    nbytes: int
    slices_ns: tuple[float, ...] = ()
    untimed_ns: tuple[int, ...] = ()
    effort: Effort | None = None
    cpu_slices_ns: tuple[float, ...] = ()

    def checked(self, called: str) -> SteadyRecord:
        """Itself. Raises MeasureError where the clock under it cannot be trusted."""
        if not self.wall_ns > 0 or min(self.latencies_ns) < 0:
            raise MeasureError(
                f"the clock says that {len(self.latencies_ns)} batches of {called} took {self.wall_ns} ns. Expected a "
                "positive duration: the clock of this machine stands still or goes backwards, and nothing can be timed."
            )
        return self


@dataclass(frozen=True, slots=True)
class StartRecord:
    """``first_batch_ns`` from the call of ``iter()`` to the first batch."""

    first_batch_ns: int


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """An epoch that has ended: ``first_batch_ns`` from ``iter()``, ``waits_ns`` in ``next()`` for the batches after it.

    ``longest_ns``: the longest of those waits. ``exit_ns``: from the last batch to StopIteration and the release of the
    iterator. ``whole``: it ran in one go, so that the loader could work ahead only while it was asked for batches.
    """

    first_batch_ns: int
    waits_ns: int
    longest_ns: int
    exit_ns: int
    batches: int
    samples: int
    whole: bool = False

    @property
    def epoch_ns(self) -> int:
        """From ``iter()`` to the release of the iterator, without the time that counting samples takes."""
        return self.first_batch_ns + self.waits_ns + self.exit_ns


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A simulated training loop: ``wait_ns`` of its ``total_ns`` went by in ``next()``."""

    wait_ns: int
    total_ns: int


@dataclass(frozen=True, slots=True)
class ResourceRecord:
    """``peak_bytes`` the process tree grew by, and ``cpu_ns`` it used, while ``samples`` samples were loaded."""

    peak_bytes: int
    cpu_ns: int
    samples: int


Record = SteadyRecord | StartRecord | EpochRecord | StepRecord | ResourceRecord
