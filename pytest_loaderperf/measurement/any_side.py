"""What rounds ask of a side, wherever its loader lives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from pytest_loaderperf.errors import ShortEpochError
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.record import EpochRecord, StartRecord, SteadyRecord


class AnySide(Protocol):
    """A loader under measurement: ``Side`` in this process, ``remote.RemoteSide`` for one in another.

    ``elsewhere``: it lives in a process of its own. ``rebuildable``: it has a factory. ``slow``: a batch takes so long
    that caches need no warming. ``children``: the processes that work for it. ``starts`` and ``epochs``: what was seen.
    ``own_helpers``: most processes and threads that it began at once. ``opaque``: type of its batches, where no arrays
    are seen in them. ``taken``: batches of the running epoch. ``conditions``: those of the trial to come.
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

    @property
    def called(self) -> str:
        """The side in an error's words."""
        ...

    @property
    def inline(self) -> bool:
        """Whether batches are made by the asking thread alone, so that nothing of this side runs unasked."""
        ...

    @property
    def warmup_batches(self) -> int:
        """Untimed batches before a trial."""
        ...

    @property
    def epoch_batches(self) -> int | None:
        """Batches of the shortest of the last few epochs that ended; None before one has."""
        ...

    @property
    def iterator(self) -> Iterator[Any] | None:
        """That of the running epoch, where it lives here."""
        ...

    def build(self) -> None:
        """Make the loader anew."""
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
        """Time the next ``batches`` batches, adding to ``latencies``: nanoseconds and samples; None if it ends."""
        ...

    def take(self, batches: int) -> SteadyRecord | None:
        """The like, as a record."""
        ...

    def note_helpers(self) -> None:
        """From now on this side counts as one that works on threads or in processes of its own."""
        ...

    def look_ahead(self, batch_seconds: float) -> None:
        """Find out whether this side, a batch of which takes so long, works on where nobody asks it."""
        ...

    def short_epoch_error(self) -> ShortEpochError:
        """That an epoch has fewer batches than a trial wants."""
        ...

    def close(self) -> None:
        """Release iterator and loader. May be called twice."""
        ...


class AnyReplay(AnySide, Protocol):
    """A side that does, when asked, what each of the ``workers`` of a loader does; they may be threads of its own."""

    workers: int
    in_threads: bool
