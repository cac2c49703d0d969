"""One side of a comparison: a loader, made from its factory if there is one, and its running epoch."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from pytest_loaderperf.errors import ShortEpochError
from pytest_loaderperf.measurement.activity import Usage, child_pids, continue_stopped, descendants
from pytest_loaderperf.measurement.ahead import runs_ahead, works_in_a_pause
from pytest_loaderperf.measurement.conditions import Conditions, collector_kept
from pytest_loaderperf.measurement.counting import Count, Declared, checked_samples, counter, uncounted
from pytest_loaderperf.measurement.epoch import Patience, Tally, empty_epoch_error, short_epoch_error
from pytest_loaderperf.measurement.factory import call_factory, check_loader, is_factory
from pytest_loaderperf.measurement.prefetched import READY_NS, Ready, declared_prefetch, helpers
from pytest_loaderperf.measurement.record import EpochRecord, StartRecord, SteadyRecord
from pytest_loaderperf.measurement.structure import batch_nbytes, opaque_type
from pytest_loaderperf.measurement.tracing import untraced
from pytest_loaderperf.measurement.watchdog import Watchdog

_clock = time.perf_counter_ns
Deliver = Callable[[Any], Any]
_WAITED = 0.1  # of the longest wait of the epoch: a batch that takes longer was not ready


class Side:
    """A loader under measurement.

    ``source`` is a factory, which is called again for every rebuild, or a loader that can be iterated again.
    ``count`` returns the samples of a batch (None: by its structure and the loader's attributes, or by ``declared``).
    ``deliver`` brings a batch to its device.

    Raises LoaderError for a source or batches that cannot be measured.
    """

    elsewhere, least_trial_seconds = False, 0.0
    conditions: Conditions  # of the next trial

    def __init__(
        self,
        name: str,
        source: object,
        watchdog: Watchdog,
        *,
        count: Count | None,
        deliver: Deliver | None,
        declared: Declared | None = None,
    ) -> None:
        self.name = name
        self.rebuildable = is_factory(source)
        if not self.rebuildable:
            check_loader(source, self.called)
        self._source = source
        self._watchdog = watchdog
        self._waiting = f"{name}: waiting for a batch"
        self.own_count = count
        self._deliver, self._declared = deliver, declared
        self._iterator: Iterator[Any] | None = None
        self._ready = Ready()
        self._epochs: deque[int] = deque(maxlen=_REMEMBERED_EPOCHS)
        self.children: list[int] = []
        self.starts: list[StartRecord] = []
        self.epochs: list[EpochRecord] = []  # that ended
        self.build_seconds = self.release_seconds = 0.0
        self.started = False  # since it was built
        self.at_end = False  # an epoch has ended, and none has started since
        self.slow = self._works_aside = self._looked_ahead = False
        self.own_helpers = 0, 0  # most processes and threads at the same time
        self.opaque = ""  # type of its batches, if they contain no arrays
        self.loader: Any = None
        self.build()

    def build(self) -> None:
        """Make the loader again if there is a factory, and forget the running epoch."""
        self.drop_epoch()
        if not self.rebuildable:
            self.loader = self._source
        else:
            began_s = time.perf_counter()
            self.loader = None
            stage = self._watchdog.stage(f"{self.name}: building the loader")
            with stage, collector_kept(), untraced(starting=True), self._noticing_helpers(always=True):
                self.loader = call_factory(self._source, self.called)
            self.build_seconds = time.perf_counter() - began_s
        self.started = self.at_end = False

    @property
    def called(self) -> str:
        """The side's name in error texts."""
        return "the loader" if self.name == "loader" else f"the {self.name} loader"

    @property
    def warmup_batches(self) -> int:
        """Untimed batches before a trial: as many as may be ready, else one to warm the caches, if it is not slow."""
        return self._ready.batches(self.epoch_batches) or (0 if self.slow else 1)

    def drop_epoch(self) -> None:
        """Release the running epoch's iterator, and with it its workers."""
        if self._iterator is not None:
            began_ns = _clock()
            with self._watchdog.stage(f"{self.name}: releasing the iterator"):
                self._iterator = None
            self.release_seconds = (_clock() - began_ns) * 1e-9
        self.taken = 0

    def close(self) -> None:
        """Release iterator and loader. May be called twice."""
        continue_stopped(self.children)
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
        """The same, and return the first batch. The side keeps no batch, because a loader may reuse its memory."""
        self.drop_epoch()
        batch, record = self._first_batch()
        if batch is _NOTHING and self.epoch_batches is not None and self.rebuildable:
            self.build()  # some loaders give only one epoch
            batch, record = self._first_batch()
        if batch is _NOTHING:
            raise empty_epoch_error(self.called, self.epoch_batches)
        self._count = self.own_count or counter(batch, self._declared or Declared.by(self.loader))
        self.batch_samples = checked_samples(self.called, self._count(batch))
        self.batch_nbytes = batch_nbytes(batch)
        self.opaque = self.opaque or opaque_type(batch)
        self.taken, self.at_end, self._whole = 1, False, False
        self._tally = Tally(record.first_batch_ns, self.batch_samples)
        self.children = child_pids()
        if not self._works_aside and not self.rebuildable:
            # Threads and processes that a given loader started earlier cannot be noticed.
            self._works_aside = not isinstance(self.loader, Sized) and declared_prefetch(self.loader) is None
        self._ready.ask(self.loader, works_aside=self._works_aside)
        self.starts.append(record)
        if len(self.starts) == 1 and self.inline and not hasattr(self.loader, "prefetch_depth") and works_in_a_pause():
            self.note_helpers()
        return batch, record

    def _first_batch(self) -> tuple[Any, StartRecord]:
        if self.started and self.rebuildable and isinstance(self.loader, Iterator):
            self.build()  # a generator has no second epoch
        self.started = True
        stage = self._watchdog.stage(f"{self.name}: waiting for the first batch")
        with stage, collector_kept(), untraced(starting=True), self._noticing_helpers(always=True):
            began_ns = _clock()
            self._iterator = iter(self.loader)
            batch = next(self._iterator, _NOTHING)
            if self._deliver is not None and batch is not _NOTHING:
                batch = self._deliver(batch)
            return batch, StartRecord(_clock() - began_ns)

    @property
    def inline(self) -> bool:
        """Whether only the asking thread makes batches, so that nothing of this side runs in the background."""
        return not self._works_aside and not self._ready.said

    @contextmanager
    def _noticing_helpers(self, *, always: bool = False) -> Iterator[None]:
        """Notice threads and processes that start meanwhile, in some loaders late in an epoch: they may prefetch."""
        looks = always or not self._works_aside
        before = helpers() if looks else frozenset()
        yield
        if looks and (begun := helpers() - before):
            self.note_helpers()
            processes, threads = self.own_helpers
            children = len(begun.intersection(self.children))
            self.own_helpers = max(processes, children), max(threads, len(begun) - children)

    def note_helpers(self) -> None:
        """From now on this side counts as one with its own threads or processes."""
        self._works_aside = True
        self._ready.ask(self.loader, works_aside=True)
        self.children = child_pids()

    def look_ahead(self, batch_seconds: float) -> None:
        """Find out, once, whether this side, a batch of which takes ``batch_seconds``, works in the background."""
        if self.inline and not self._looked_ahead:
            self._looked_ahead = True
            if runs_ahead(self, batch_seconds):
                self.note_helpers()

    @property
    def epoch_batches(self) -> int | None:
        """Batches of the shortest of the last few epochs that ended; None before the first one ended."""
        return min(self._epochs, default=None)

    def steady(self, batches: int) -> SteadyRecord:
        """Time ``batches`` consecutive batches in steady state. Raises ShortEpochError if an epoch has too few."""
        for _ in range(2):
            if self.ready(batches) and (record := self.trial(batches, effort=not self.inline)) is not None:
                return record
        raise self.short_epoch_error()

    def trial(self, batches: int, *, effort: bool) -> SteadyRecord | None:
        """The same for a side that is ready; None if the epoch ends before. ``effort``: it is noted."""
        before = Usage.of(pids := [] if self.inline else descendants(self.children))
        if (record := self.take(batches)) is None:
            return None
        self._ready.note((*self._untimed_ns, *record.latencies_ns))
        used = Usage.of(pids).since(before, record.wall_ns) if effort else None
        return replace(record.checked(self.called), effort=used, untimed_ns=tuple(self._untimed_ns))

    def ready(self, batches: int, *, warm: bool = True) -> bool:
        """Be in an epoch with ``batches`` more, and past the untimed ones, if ``warm``; False if it ends meanwhile."""
        fresh = 0
        if not self.more_in_epoch(self.warmup_batches * warm + batches):
            self.start()
            fresh = 1
        self._untimed_ns: list[int] = []
        return not warm or self._past(self.warmup_batches - fresh, batches)

    def _past(self, untimed: int, timed: int) -> bool:
        """Take so many batches, or all that may be ready, and leave ``timed``. False if the epoch ends meanwhile."""
        waits_ns = self._untimed_ns
        if not self.slow and untimed > 0 and self.slice(untimed, waits_ns) is None:
            return False
        while len(waits_ns) < untimed or (self._ready.more(waits_ns) and self.more_in_epoch(1 + timed)):
            if self.slice(1, waits_ns) is None:
                return False
            if self.slow and waits_ns[-1] > max(READY_NS, _WAITED * self._tally.longest_ns):
                break
        return True

    def short_epoch_error(self) -> ShortEpochError:
        """The error for a side whose epochs have too few batches for a trial."""
        return short_epoch_error(self.called, self._epochs, self.warmup_batches)

    def take(self, batches: int) -> SteadyRecord | None:
        """Time the next ``batches`` batches; None if the epoch ends before."""
        latencies: list[int] = []
        with self._noticing_helpers():
            began_ns, taken = _clock(), self.slice(batches, latencies)
        return taken and SteadyRecord(tuple(latencies), *taken, self.batch_nbytes * batches, began_ns=began_ns)

    def slice(self, batches: int, latencies: list[int]) -> tuple[int, int] | None:
        """The same, adding to ``latencies``. Nanoseconds and samples."""
        taken_before = len(latencies)
        with self._watchdog.stage(self._waiting, latencies):
            wall_ns, samples = self._timed(batches, latencies)
        waits_ns = latencies[taken_before:]
        self._tally.add(waits_ns, samples)
        self.taken += len(waits_ns)
        if len(waits_ns) < batches:
            self._end_epoch()
            return None
        return wall_ns, samples

    def _timed(self, batches: int, latencies: list[int]) -> tuple[int, int]:
        iterator, count, deliver, clock = self._iterator, self._count, self._deliver, _clock
        assert iterator is not None
        advance, append = iterator.__next__, latencies.append
        samples = 0
        batch = None  # as in a for loop, a batch lives until the next one is there
        began_ns = end_ns = clock()
        call_ns: int | None = began_ns
        try:
            for _ in range(batches):
                call_ns = clock()
                batch = advance()
                if deliver is not None:
                    batch = deliver(batch)
                end_ns = clock()
                append(end_ns - call_ns)
                call_ns = None  # the batch is there: an error from here on is one of counting
                samples += count(batch)
        except Exception as error:
            if call_ns is None:
                raise uncounted(self.called, batch, error, own=self.own_count is not None) from error
            if not isinstance(error, StopIteration):
                error.add_note(f"raised by {self.called} while it was measured")
                raise
            self._stop_ns = clock() - call_ns
        del batch
        return end_ns - began_ns, samples

    def _end_epoch(self) -> None:
        self._epochs.append(self.taken)
        began_ns = _clock()
        self.drop_epoch()
        exit_ns = self._stop_ns + _clock() - began_ns
        self.release_seconds = exit_ns * 1e-9
        self.at_end = True
        self.epochs.append(self._tally.ended(exit_ns, whole=self._whole))

    def finish_epoch(self) -> EpochRecord:
        """Run the epoch, or a new one if none runs, to its end. Raises LoaderError if it has no end."""
        if self._iterator is None:
            self.start()
            self._whole = True
        patience = Patience(self.called, self.loader, self._watchdog.timeout_s, self._iterator, ends=bool(self._epochs))
        with self._noticing_helpers():
            while self.slice(patience.batches, []) is not None:
                patience.check(self.taken)
        return self.epochs[-1]

    @property
    def iterator(self) -> Iterator[Any] | None:
        """The iterator of the running epoch."""
        return self._iterator

    def more_in_epoch(self, batches: int) -> bool:
        """Whether the running epoch has, or may have, ``batches`` more."""
        return self._iterator is not None and (self.epoch_batches is None or self.taken + batches <= self.epoch_batches)


_NOTHING: Any = object()
_REMEMBERED_EPOCHS = 8  # lengths may vary: trials are shortened to fit the shortest of these
