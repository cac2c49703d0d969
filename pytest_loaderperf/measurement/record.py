"""Frozen raw samples: what was observed, in integer nanoseconds and bytes."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_loaderperf.errors import MeasureError


@dataclass(frozen=True, slots=True)
class Effort:
    """CPU time of a side's processes in a trial: of the one that requests batches, and of its children.

    ``busiest``: the largest share of the time in which one process ran, or waited for a CPU. ``delayed``: the share in
    which that process only waited for one: its main thread, or that of the asking process's threads that ran longest.
    """

    own_ns: int
    children_ns: int
    busiest: float
    delayed: float = 0.0

    @property
    def cpu_ns(self) -> int:
        """CPU time of all of them."""
        return self.own_ns + self.children_ns


@dataclass(frozen=True, slots=True)
class SteadyRecord:
    """One trial: ``latencies_ns`` of consecutive ``next()`` calls, ``wall_ns`` from first call to last return.

    ``slices_ns``, ``cpu_slices_ns``: time, and CPU time, of a sample in each slice, if it was taken in slices.
    ``untimed_ns``: latencies of the batches just before it. ``effort``: if the system reports it. ``began_ns``: when
    its first batch was requested, by ``time.perf_counter_ns``. ``ranks``: those of the ranks, in a record of any kind
    that a job has of them.
    """

    latencies_ns: tuple[int, ...]
    wall_ns: int
    samples: int
    nbytes: int
    slices_ns: tuple[float, ...] = ()
    untimed_ns: tuple[int, ...] = ()
    effort: Effort | None = None
    cpu_slices_ns: tuple[float, ...] = ()
    began_ns: int = 0
    ranks: tuple[SteadyRecord, ...] = ()

    def checked(self, called: str) -> SteadyRecord:
        """This record. Raises MeasureError if its clock cannot be right."""
        if not self.wall_ns > 0 or min(self.latencies_ns) < 0:
            raise MeasureError(
                f"expected a positive time for {len(self.latencies_ns)} batches of {called}, got {self.wall_ns} ns: "
                "this machine's clock stands still or goes backwards, so nothing can be timed. Use another machine."
            )
        return self


@dataclass(frozen=True, slots=True)
class StartRecord:
    """``first_batch_ns`` from the call of ``iter()`` to the first batch."""

    first_batch_ns: int
    ranks: tuple[StartRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """An epoch that has ended: ``first_batch_ns`` from ``iter()``, ``waits_ns`` in ``next()`` for the batches after it.

    ``longest_ns``: the longest of those waits. ``exit_ns``: from the last batch to StopIteration and the release of the
    iterator. ``whole``: it ran without a pause, so that the loader could not work ahead in between.
    """

    first_batch_ns: int
    waits_ns: int
    longest_ns: int
    exit_ns: int
    batches: int
    samples: int
    whole: bool = False
    ranks: tuple[EpochRecord, ...] = ()

    @property
    def epoch_ns(self) -> int:
        """From ``iter()`` to the release of the iterator, without the time that counting samples takes."""
        return self.first_batch_ns + self.waits_ns + self.exit_ns


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A simulated training loop: ``wait_ns`` of its ``total_ns`` were spent in ``next()``.

    ``waits_ns``: in a job, of each part after which the ranks wait for each other.
    """

    wait_ns: int
    total_ns: int
    waits_ns: tuple[int, ...] = ()
    ranks: tuple[StepRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class ResourceRecord:
    """``peak_bytes`` that the process tree grew by, and ``cpu_ns`` that it used, to load ``samples`` samples."""

    peak_bytes: int
    cpu_ns: int
    samples: int
    ranks: tuple[ResourceRecord, ...] = ()


Record = SteadyRecord | StartRecord | EpochRecord | StepRecord | ResourceRecord
