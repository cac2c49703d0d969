"""One side of a comparison: a loader, made from its factory where there is one, and its running epoch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement.activity import Usage, child_pids, descendants
from pytest_loaderperf.measurement.conditions import Conditions, collector_kept
from pytest_loaderperf.measurement.factory import call_factory, check_loader, is_factory
from pytest_loaderperf.measurement.prefetched import declared_prefetch, helpers, prefetched_batches
from pytest_loaderperf.measurement.record import ExitRecord, StartRecord, SteadyRecord
from pytest_loaderperf.measurement.structure import Count, batch_nbytes, counter
from pytest_loaderperf.measurement.tracing import untraced
from pytest_loaderperf.measurement.trials import MIN_TRIAL_BATCHES
from pytest_loaderperf.measurement.watchdog import Watchdog

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

    elsewhere = False  # in a process of its own
    conditions: Conditions  # of the trial to come

    def __init__(
        self, name: str, source: object, watchdog: Watchdog, *, count: Count | None, deliver: Deliver | None
    ) -> None:
        self.name = name
        self.rebuildable = is_factory(source)
        if not self.rebuildable:
            check_loader(source, self.called)
        self._source = source
        self._watchdog = watchdog
        self._waiting = f"{name}: waiting for a batch"
        self.own_count = count
        self._deliver = deliver
        self._iterator: Iterator[Any] | None = None
        self._taken = 0
        self._prefetched = 0
        self._epochs: deque[int] = deque(maxlen=_REMEMBERED_EPOCHS)
        self.children: list[int] = []
        self.starts: list[StartRecord] = []
        self.exits: list[ExitRecord] = []
        self.build_seconds = 0.0
        self._started = False
        self.slow = False
        self._works_aside = False
        self.loader: Any = None
        self.build()

    def build(self) -> None:
        """Make the loader anew where there is a factory, and forget the running epoch."""
        self.drop_epoch()
        if not self.rebuildable:
            self.loader = self._source
        else:
            began_s = time.perf_counter()
            self.loader = None
            stage = self._watchdog.stage(f"{self.name}: building the loader")
            with stage, collector_kept(), untraced(starting=True), self._noticing_helpers():
                self.loader = call_factory(self._source, self.called)
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
        self._count = self.own_count or counter(batch)
        self.batch_samples = self._checked_count(batch)
        self.batch_nbytes = batch_nbytes(batch)
        self._taken = 1
        self.children = child_pids()
        if not self._works_aside and not self.rebuildable:
            # What a loader started before it was given cannot be seen.
            self._works_aside = not isinstance(self.loader, Sized) and declared_prefetch(self.loader) is None
        self._prefetched = prefetched_batches(self.loader, works_aside=self._works_aside)
        self.starts.append(record)
        return batch, record

    def _first_batch(self) -> tuple[Any, StartRecord]:
        if self._started and self.rebuildable and isinstance(self.loader, Iterator):
            self.build()  # a generator has no second epoch
        self._started = True
        stage = self._watchdog.stage(f"{self.name}: waiting for the first batch")
        with stage, collector_kept(), untraced(starting=True), self._noticing_helpers():
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

    @property
    def inline(self) -> bool:
        """Whether batches are made by the asking thread alone, so that nothing of this side runs unasked."""
        return not self._works_aside and not self._prefetched

    @contextmanager
    def _noticing_helpers(self) -> Iterator[None]:
        """Notice threads and processes that begin meanwhile, some loaders' late in an epoch: they may run ahead."""
        before = frozenset() if self._works_aside else helpers()
        yield
        if not self._works_aside and helpers() - before:
            self.note_helpers()

    def note_helpers(self) -> None:
        """From now on this side counts as one that works on threads or in processes of its own."""
        self._works_aside = True
        self._prefetched = prefetched_batches(self.loader, works_aside=True)
        self.children = child_pids()

    @property
    def epoch_batches(self) -> int | None:
        """Batches of the shortest of the last few epochs that ended; None before one has."""
        return min(self._epochs, default=None)

    def steady(self, batches: int) -> SteadyRecord:
        """Time ``batches`` consecutive batches in steady state.

        Raises ShortEpochError where an epoch is too short for that.
        """
        for _ in range(2):
            if not self.ready(batches):
                continue
            pids = [] if self.inline else descendants(self.children)
            before = Usage.of(pids)
            record = self.take(batches)
            if record is not None:
                effort = None if self.inline else Usage.of(pids).since(before, record.wall_ns)
                return replace(record.checked(self.called), effort=effort)
        raise self.short_epoch_error()

    def ready(self, batches: int, *, warm: bool = True) -> bool:
        """Be in an epoch with ``batches`` more, and past the untimed ones, if ``warm``; False if it ends meanwhile."""
        fresh = 0
        if not self.more_in_epoch(self.warmup_batches * warm + batches):
            self.start()
            fresh = 1
        untimed = self.warmup_batches * warm - fresh
        return untimed <= 0 or self.slice(untimed, []) is not None

    def short_epoch_error(self) -> ShortEpochError:
        """The error for a side whose epochs hold too few batches for a trial."""
        return ShortEpochError(
            f"{self.called} gives {self._epochs_text} batches an epoch, but a trial needs at least "
            f"{self.warmup_batches + MIN_TRIAL_BATCHES}: {self.warmup_batches} untimed, as many as it may prefetch, "
            f"and {MIN_TRIAL_BATCHES} timed. Use more samples, a smaller batch_size, or fewer workers."
        )

    @property
    def _epochs_text(self) -> str:
        shortest, longest = min(self._epochs, default=0), max(self._epochs, default=0)
        return f"{shortest} to {longest}" if shortest < longest else str(shortest)

    def take(self, batches: int) -> SteadyRecord | None:
        """Time the next ``batches`` batches; None if the epoch ends before."""
        latencies: list[int] = []
        with self._noticing_helpers():
            taken = self.slice(batches, latencies)
        return None if taken is None else SteadyRecord(tuple(latencies), *taken, self.batch_nbytes * batches)

    def slice(self, batches: int, latencies: list[int]) -> tuple[int, int] | None:
        """The like, adding to ``latencies``: nanoseconds and samples."""
        taken_before = len(latencies)
        with self._watchdog.stage(self._waiting, latencies):
            wall_ns, samples = self._timed(batches, latencies)
        taken = len(latencies) - taken_before
        self._taken += taken
        if taken < batches:
            self._end_epoch()
            return None
        return wall_ns, samples

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
        return end_ns - began_ns, samples

    def _end_epoch(self) -> None:
        self._epochs.append(self._taken)
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
_REMEMBERED_EPOCHS = 8  # lengths may vary: trials are cut to fit the shortest of these
_CHUNK_TO_END = 16  # batches between two looks at the watchdog's stage
