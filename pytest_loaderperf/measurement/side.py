"""One side of a comparison: a loader, made from its factory where there is one, and its running epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sized
from typing import Any

import psutil

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement.activity import child_pids
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.record import ExitRecord, StartRecord, SteadyRecord
from pytest_loaderperf.measurement.structure import Count, batch_nbytes, counter
from pytest_loaderperf.measurement.watchdog import Watchdog

MIN_TRIAL_BATCHES = 4  # fewer do not average over a loader's own rhythm
_UNKNOWN_PREFETCH = 16  # batches: for loaders that run ahead without saying how far
_clock = time.perf_counter_ns
Deliver = Callable[[Any], Any]


class ShortEpochError(LoaderError):
    """The epoch has fewer batches than the trial wanted."""


class Side:
    """A loader under measurement.

    ``source`` is a factory, which is called again for every rebuild, or a loader that can be iterated again.
    ``count`` gives the samples of a batch (None: from its structure). ``deliver`` brings a batch to where it must be.

    Raises LoaderError, saying what came, for a source or batches that cannot be measured.
    """

    def __init__(
        self, name: str, source: object, watchdog: Watchdog, *, count: Count | None, deliver: Deliver | None
    ) -> None:
        self.name = name
        self.rebuildable = _is_factory(source)
        if not self.rebuildable:
            _check_loader(source, self.called)
        self._source = source
        self._watchdog = watchdog
        self._own_count = count
        self._deliver = deliver
        self._iterator: Iterator[Any] | None = None
        self._taken = 0
        self._prefetched = 0
        self.epoch_batches: int | None = None
        self.children: list[int] = []
        self.starts: list[StartRecord] = []
        self.exits: list[ExitRecord] = []
        self.build_seconds = 0.0
        self._started = False
        self.slow = False
        self._works_aside: bool | None = None
        self.loader: Any = None
        self.build()

    def build(self) -> None:
        """Make the loader anew where there is a factory, and forget the running epoch."""
        self.drop_epoch()
        if self._works_aside is None:
            self._helpers_before = _helpers()
        began_s = time.perf_counter()
        if not self.rebuildable:
            self.loader = self._source
        else:
            self.loader = None
            with self._watchdog.stage(f"{self.name}: building the loader"):
                self.loader = self._call_factory()
        self.build_seconds = time.perf_counter() - began_s
        self._started = False

    @property
    def called(self) -> str:
        """The side in an error's words."""
        return "the loader" if self.name == "loader" else f"the {self.name} loader"

    @property
    def warmup_batches(self) -> int:
        """Untimed batches before a trial: as many as may be ready, else one for the caches, if it is not slow."""
        return self._prefetched or (0 if self.slow else 1)

    def _call_factory(self) -> Any:
        factory: Any = self._source
        called = f"{self.called} factory {getattr(factory, '__name__', type(factory).__name__)}()"
        try:
            loader = factory()
        except Exception as error:
            raise LoaderError(
                f"{called} raised {type(error).__name__}: {error}. Expected a loader; the traceback above says where."
            ) from error
        if loader is None:
            raise LoaderError(f"{called} returned None. Expected a loader: is its return statement missing?")
        if not hasattr(loader, "__iter__"):
            raise LoaderError(
                f"{called} returned a {type(loader).__name__}, which cannot be iterated. Expected a loader."
            )
        return loader

    def drop_epoch(self) -> None:
        """Release the running epoch's iterator, and with it its workers."""
        with self._watchdog.stage(f"{self.name}: releasing the iterator"):
            self._iterator = None
        self._taken = 0

    def close(self) -> None:
        """Release iterator and loader. May be called twice."""
        self.drop_epoch()
        self.loader = None

    def observe(self, kind: Any, batches: int, conditions: Conditions) -> Any:
        """One record of ``kind``, under ``conditions``, the same for every side."""
        with conditions.hold():
            return kind.observe(self, batches)

    def start(self) -> StartRecord:
        """Begin a new epoch and take its first batch."""
        return self.start_keeping()[1]

    def start_keeping(self) -> tuple[Any, StartRecord]:
        """The same, giving the first batch away; the side itself keeps none, for a loader may reuse its memory."""
        self.drop_epoch()
        batch, record = self._first_batch()
        if batch is _NOTHING and self.epoch_batches is not None and self.rebuildable:
            self.build()  # some loaders give one epoch in their life
            batch, record = self._first_batch()
        if batch is _NOTHING:
            again = "" if self.epoch_batches is None else f" after an epoch of {self.epoch_batches}"
            raise LoaderError(
                f"{self.called} gave no batch{again}. Expected at least one: is the dataset empty, is "
                "drop_last dropping everything, or does it give one epoch only? Then give a factory."
            )
        self._count = self._own_count or counter(batch)
        self.batch_samples = self._checked_count(batch)
        self.batch_nbytes = batch_nbytes(batch)
        self._taken = 1
        self.children = child_pids()
        if self._works_aside is None:
            unseen = not self.rebuildable and not isinstance(self.loader, Sized)  # what it started, it started before
            self._works_aside = unseen or _helpers() > self._helpers_before
        self._prefetched = _prefetched_batches(self.loader, works_aside=self._works_aside)
        self.starts.append(record)
        return batch, record

    def _first_batch(self) -> tuple[Any, StartRecord]:
        if self._started and self.rebuildable and isinstance(self.loader, Iterator):
            self.build()  # a generator has no second epoch
        self._started = True
        with self._watchdog.stage(f"{self.name}: waiting for the first batch"):
            began_ns = _clock()
            self._iterator = iter(self.loader)
            batch = next(self._iterator, _NOTHING)
            if self._deliver is not None and batch is not _NOTHING:
                batch = self._deliver(batch)
            return batch, StartRecord(_clock() - began_ns)

    def _checked_count(self, batch: Any) -> int:
        samples = self._count(batch)
        if not isinstance(samples, int) or isinstance(samples, bool) or samples < 1:
            raise LoaderError(
                f"{self.called}: a batch must hold a whole number of samples from 1 up, but {samples!r} came. "
                "Mend count=, or keep empty batches out of the loader."
            )
        return samples

    def steady(self, batches: int) -> SteadyRecord:
        """Time ``batches`` consecutive batches, after as many untimed ones as may have been prefetched meanwhile.

        Raises ShortEpochError where an epoch is too short for that.
        """
        needed = self.warmup_batches + batches
        for _ in range(2):
            ends_before = self.epoch_batches is not None and self._taken + needed > self.epoch_batches
            if self._iterator is None or ends_before:
                self.start()
                fresh = 1
            else:
                fresh = 0
            if self.take(max(0, self.warmup_batches - fresh)) is None:
                continue
            record = self.take(batches)
            if record is not None:
                return record
        raise self.short_epoch_error()

    def short_epoch_error(self) -> ShortEpochError:
        """The error for a side whose epochs hold too few batches for a trial."""
        return ShortEpochError(
            f"{self.called} gives {self.epoch_batches} batches an epoch, but a trial needs at least "
            f"{self.warmup_batches + MIN_TRIAL_BATCHES}: {self.warmup_batches} untimed, as many as it may prefetch, "
            f"and {MIN_TRIAL_BATCHES} timed. Use more samples, a smaller batch_size, or fewer workers."
        )

    def take(self, batches: int) -> SteadyRecord | None:
        """Time the next ``batches`` batches; None if the epoch ends before."""
        latencies: list[int] = []
        with self._watchdog.stage(f"{self.name}: waiting for a batch", latencies):
            samples, wall_ns = self._timed(batches, latencies)
        self._taken += len(latencies)
        if len(latencies) < batches:
            self._end_epoch()
            return None
        return SteadyRecord(tuple(latencies), wall_ns, samples, self.batch_nbytes * len(latencies))

    def _timed(self, batches: int, latencies: list[int]) -> tuple[int, int]:
        iterator, count, deliver, clock = self._iterator, self._count, self._deliver, _clock
        assert iterator is not None
        advance, append = iterator.__next__, latencies.append
        samples = 0
        batch = None  # as in a for loop, a batch lives until the next one has come
        began_ns = end_ns = clock()
        try:
            for _ in range(batches):
                call_ns = clock()
                batch = advance()
                if deliver is not None:
                    batch = deliver(batch)
                end_ns = clock()
                append(end_ns - call_ns)
                samples += count(batch)
        except StopIteration:
            self._stop_ns = clock() - call_ns
        except Exception as error:
            error.add_note(f"raised by {self.called} while it was measured")
            raise
        del batch
        return samples, end_ns - began_ns

    def _end_epoch(self) -> None:
        self.epoch_batches = self._taken
        began_ns = _clock()
        self.drop_epoch()
        self.exits.append(ExitRecord(self._stop_ns + _clock() - began_ns))

    def finish_epoch(self) -> ExitRecord:
        """Run the epoch to its end."""
        if self._iterator is None:
            self.start()
        while self.take(_CHUNK_TO_END) is not None:
            pass
        return self.exits[-1]

    def steps(self, batches: int, step_seconds: float) -> tuple[int, int] | None:
        """Take ``batches`` batches with a step after each that leaves the CPU idle; (waited, total) in nanoseconds.

        None if the epoch ends before.
        """
        wait_ns = 0
        began_ns = _clock()
        for _ in range(batches):
            record = self.take(1)
            if record is None:
                return None
            wait_ns += record.wall_ns
            time.sleep(step_seconds)
        return wait_ns, _clock() - began_ns

    @property
    def iterator(self) -> Iterator[Any] | None:
        """That of the running epoch."""
        return self._iterator

    def more_in_epoch(self, batches: int) -> bool:
        """Whether the running epoch is known to have, or may have, ``batches`` more."""
        return self._iterator is not None and (
            self.epoch_batches is None or self._taken + batches <= self.epoch_batches
        )


_NOTHING: Any = object()
_CHUNK_TO_END = 16  # batches between two looks at the watchdog's stage


def _is_factory(source: object) -> bool:
    return callable(source) and (isinstance(source, type) or not hasattr(source, "__iter__"))


def _check_loader(source: object, what: str) -> None:
    if not hasattr(source, "__iter__") or isinstance(source, (str, bytes)):
        raise LoaderError(
            f"{what} must be a factory, a function without arguments that returns a loader, but "
            f"{type(source).__name__} came, which can be neither called nor iterated. Write: lambda: DataLoader(...)."
        )
    if isinstance(source, Iterator):
        raise LoaderError(
            f"{what} is a one-shot {type(source).__name__}, which can be iterated once; measuring needs many "
            "epochs. Give the function that makes it, without calling it."
        )


def _helpers() -> int:
    """Threads of this process, those of native code among them, and its children."""
    return psutil.Process().num_threads() + len(child_pids())


def _prefetched_batches(loader: Any, *, works_aside: bool) -> int:
    """How many batches the loader may have ready before they are asked for.

    One that does not say can have none unless it ``works_aside``, on threads or in processes of its own.
    """
    depth = getattr(loader, "prefetch_depth", None)
    if isinstance(depth, int):
        return depth
    workers = getattr(loader, "num_workers", None)
    if isinstance(workers, int):
        return workers * (getattr(loader, "prefetch_factor", None) or 0)
    return _UNKNOWN_PREFETCH if works_aside and not isinstance(loader, (list, tuple)) else 0
