"""The interface of a side, in this process or in another one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from pytest_loaderperf.errors import ShortEpochError
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.record import EpochRecord, StartRecord, SteadyRecord


class AnySide(Protocol):
    """A loader under measurement: ``Side`` in this process, ``remote.RemoteSide`` for one in another.

    ``elsewhere``: it runs in another process. ``rebuildable``: it has a factory. ``slow``: a batch takes so long
    that caches need no warming. ``children``: the processes that work for it. ``starts`` and ``epochs``: what was seen.
    ``own_helpers``: the most processes and threads that it had at one time. ``opaque``: type of its batches, if they
    contain no arrays. ``taken``: batches of the running epoch. ``conditions``: those of the next trial.
    ``least_trial_seconds``: of a side that several ranks measure, always in one piece; 0 for others.
    """

    name: str
    elsewhere: bool
    rebuildable: bool
    slow: bool
    loader: Any
    conditions: Conditions
    children: list[int]
    starts: list[StartRecord]
    epochs: list[EpochRecord]
    build_seconds: float
    release_seconds: float
    batch_samples: int
    batch_nbytes: int
    taken: int
    own_helpers: tuple[int, int]
    opaque: str
    least_trial_seconds: float

    @property
    def called(self) -> str:
        """The side's name in error texts."""
        ...

    @property
    def inline(self) -> bool:
        """Whether only the asking thread makes batches, so that nothing of this side runs in the background."""
        ...

    @property
    def warmup_batches(self) -> int:
        """Untimed batches before a trial."""
        ...

    @property
    def epoch_batches(self) -> int | None:
        """Batches of the shortest of the last few epochs that ended; None before the first one ended."""
        ...

    @property
    def iterator(self) -> Iterator[Any] | None:
        """The iterator of the running epoch, if it is in this process."""
        ...

    def build(self) -> None:
        """Make the loader again."""
        ...

    def start(self) -> StartRecord:
        """Begin a new epoch and take its first batch."""
        ...

    def observe(self, kind: Any, batches: int, conditions: Conditions) -> Any:
        """One record of ``kind``, under ``conditions``."""
        ...

    def ready(self, batches: int, *, warm: bool = True) -> bool:
        """Be in an epoch with ``batches`` more, and past the untimed ones, if ``warm``; False if it ends meanwhile."""
        ...

    def slice(self, batches: int, latencies: list[int]) -> tuple[int, int] | None:
        """Time the next ``batches`` batches, add to ``latencies``. Nanoseconds and samples; None if the epoch ends."""
        ...

    def take(self, batches: int) -> SteadyRecord | None:
        """The same, as a record."""
        ...

    def note_helpers(self) -> None:
        """From now on this side counts as one with its own threads or processes."""
        ...

    def look_ahead(self, batch_seconds: float) -> None:
        """Find out whether this side, a batch of which takes ``batch_seconds``, works in the background."""
        ...

    def short_epoch_error(self) -> ShortEpochError:
        """The error for an epoch with fewer batches than a trial needs."""
        ...

    def close(self) -> None:
        """Release iterator and loader. May be called twice."""
        ...


class AnyReplay(AnySide, Protocol):
    """A side that does, on request, the work of each of the ``workers`` of a loader, which may be threads."""

    workers: int
    in_threads: bool
