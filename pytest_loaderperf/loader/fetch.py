"""Batches of samples: fetched and collated in the consumer's thread or ahead of it on others, into reused buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, repeat
from operator import call
from threading import Lock
from typing import Any, Self, TypeVar

import numpy as np

from pytest_loaderperf.data.arrays.fields import Field, nbytes
from pytest_loaderperf.data.arrays.rows import Rows
from pytest_loaderperf.data.arrays.structure import SampleMismatchError
from pytest_loaderperf.data.execution.executor import PersistentExecutor
from pytest_loaderperf.data.execution.job import Job, Task
from pytest_loaderperf.loader.buffers import Buffers, Slab
from pytest_loaderperf.loader.collate import Collate
from pytest_loaderperf.loader.plan import Plan
from pytest_loaderperf.loader.prefetch import Prefetcher
from pytest_loaderperf.loader.progress import Counted, Feed, Progress
from pytest_loaderperf.loader.samples import MapSamples, StreamSamples, collated
from pytest_loaderperf.loader.states import State, is_stateful, load, taken

T = TypeVar("T")
BUFFERED_NBYTES = 1 << 20  # a smaller batch has memory from the allocator's free list sooner than a buffer of ours
LARGE_NBYTES = 32 << 10  # of a sample: what checking it by itself costs is little beside copying it
Made = tuple[Any, Slab | None]
TakeState = Callable[[], State | None]
PART = object()  # in place of a batch: a part of one


class Fetch:
    """Fetches the samples of ``dataset`` and collates them, on the threads that ``plan`` says.

    A ``Collate`` writes the samples straight into a reused buffer; any other ``collate`` gets what was fetched.
    ``batched``: False where the caller wants single samples. ``timeout`` in seconds, 0: wait for ever.
    """

    def __init__(
        self,
        dataset: Any,
        collate: Callable[..., Any],
        plan: Plan,
        executor: PersistentExecutor,
        *,
        batched: bool = True,
        budget: int | None = None,
        timeout: float = 0,
    ) -> None:
        self.buffers = Buffers(plan, budget)
        self.samples, self._collate, self.executor = MapSamples(dataset), collate, executor
        self.batched, self._budgeted, self._timeout = batched, budget is not None, timeout
        self.rows: Rows | None = None  # of samples that are copied one by one

    def epoch(self, make_feed: Callable[[], Feed], progress: Progress) -> Iterator[Any]:
        """The batches of one epoch of a map-style dataset."""
        dataset = self.samples.dataset
        if (state := progress.states.get(0)) is not None:
            load(dataset, state.dataset)
        take = partial(taken, dataset) if self.keeps_states and is_stateful(dataset) else None
        return Delivery(self.buffers, lambda: self.made(self._tasks(make_feed(), progress)), progress, take)

    def stream(self, samples: StreamSamples, batch_size: int | None, progress: Progress) -> Iterator[Any]:
        """The batches of one epoch of an iterable-style dataset, which only one thread at a time may advance."""
        tasks = repeat(partial(self._make_next, samples, batch_size))
        take = samples.state if self.keeps_states and samples.is_stateful else None
        if not progress.states and (take is not None or is_stateful(samples.dataset)):
            progress.note(samples.state())
        return Delivery(self.buffers, lambda: self.made(tasks), progress, take)

    @property
    def keeps_states(self) -> bool:
        """Whether the dataset's state after a batch is known: not where threads have gone on from there."""
        return not self.buffers.plan.workers

    def _tasks(self, feed: Feed, progress: Progress) -> Iterator[Task[Any]]:
        """One for each batch; of an epoch's first and, where it is known, its last one a part for each thread.

        Not with a timeout, which is that of a whole batch.
        """
        together = self.buffers.plan.workers > 1 and self.batched and not self.samples.at_once and not self._timeout
        first = progress.batches + 1
        for number, indices in enumerate(feed, first):
            if together and number in (first, progress.trail.total) and type(indices) is list and indices:
                yield from Joint(self, indices).tasks()
            else:
                yield partial(self.make, indices)

    def pairs(self, make_feed: Callable[[], Feed]) -> Iterator[list[tuple[Any, Any]]]:
        """Pairs of index and sample, those of a batch at a time, with a Failure for each sample that raised."""
        good = self.samples.fetch_good
        tasks = (partial(good, indices if self.batched else [indices]) for indices in make_feed())
        fetched = self.made(tasks)
        try:
            yield from fetched
        finally:
            if isinstance(fetched, Prefetcher):
                fetched.close()

    def make(self, indices: Any) -> Made:
        """The batch of the samples at ``indices``, and the slab that it lies in, if any."""
        rows = self.rows
        if rows is not None and type(indices) is list and indices:
            slab = self.buffers.take(rows.fields, len(indices))
            arrays = slab.batch(0, len(indices))
            try:
                return rows.batch([rows.fill(arrays, indices, self.samples.fetch_one)], arrays), slab
            except SampleMismatchError:  # of the batches before: now of its own
                self.rows = None
        fetched = self.samples.fetch(indices) if self.batched else self.samples.fetch_one(indices)
        return self.collate(fetched, indices)

    def collate(self, fetched: Any, indices: Any) -> Made:
        """The batch of the samples ``fetched`` from ``indices``, and the slab that it lies in, if any."""
        writes = self.samples.write is not None
        least_nbytes = 0 if writes or self.buffers.empty is not np.empty else BUFFERED_NBYTES
        small = (self.buffers.batch_nbytes or BUFFERED_NBYTES) < least_nbytes
        if small or not isinstance(self._collate, Collate):
            return collated(self._collate, fetched, indices), None
        slab: Slab | None = None

        def allocate(fields: Sequence[Field], rows: int) -> Sequence[np.ndarray]:
            nonlocal slab
            slab = self.buffers.take(fields, rows)
            return slab.batch(0, rows)

        batch = collated(self._collate, fetched, indices, allocate)
        if self.batched and indices is not None and slab is not None:
            fields = self._collate.fields(fetched[0])
            self.rows = None
            if fields and not self.samples.at_once and (writes or nbytes(fields) >= LARGE_NBYTES):
                self.rows = Rows(fetched[0], fields, into=writes)
        return batch, slab

    def _make_next(self, samples: StreamSamples, batch_size: int | None) -> Made | None:
        try:
            fetched = samples.fetch(batch_size)
        except StopIteration:
            return None
        return self.collate(fetched, None)

    def made(self, tasks: Iterator[Task[T]]) -> Iterator[T]:
        """What ``tasks`` give, run ahead where the plan has threads."""
        if not (workers := self.buffers.plan.workers):
            return map(call, tasks)
        # A dataset need not bear more threads than its caller asked for: the consumer does not help.
        return Prefetcher(tasks, self.executor, workers=workers, ahead=self._ahead, timeout_s=self._timeout)

    def _ahead(self) -> int:
        # Under a budget nothing is begun early before a first batch has told its size.
        return 0 if self._budgeted and self.buffers.batch_nbytes is None else self.buffers.plan.ahead

    def close(self) -> None:
        """Free the buffers."""
        self.buffers.close()


class Joint:
    """A batch of the samples at ``indices``, of which each thread makes a part, so that none is idle."""

    def __init__(self, fetch: Fetch, indices: list[Any]) -> None:
        self._fetch, self._indices, self._rows = fetch, indices, fetch.rows
        step = -(-len(indices) // fetch.buffers.plan.workers)
        parts = [slice(start, start + step) for start in range(0, len(indices), step)]
        # Of samples, or of the first of those written to rows.
        self._jobs = [Job(partial(self._part, part)) for part in parts]
        self._lock = Lock()
        self._slab: Slab | None = None

    def tasks(self) -> Iterator[Task[Any]]:
        """One for each part: the last one gives the batch, the others PART."""
        return map(partial, [self._make] * len(self._jobs), self._jobs)

    def _make(self, job: Job[Any]) -> Any:
        job.run()
        return self._whole() if job is self._jobs[-1] else PART

    def _part(self, part: slice) -> Any:
        if self._rows is None:
            return self._fetch.samples.fetch(self._indices[part])
        with self._lock:
            self._slab = self._slab or self._fetch.buffers.take(self._rows.fields, len(self._indices))
        arrays = [array[part] for array in self._slab.batch(0, len(self._indices))]
        return self._rows.fill(arrays, self._indices[part], self._fetch.samples.fetch_one)

    def _whole(self) -> Made:
        for job in self._jobs:
            job.run()  # where an interrupt has kept it from its thread
            job.wait(0)
        try:
            made = [job.result() for job in self._jobs]
            if self._rows is None or self._slab is None:
                return self._fetch.collate([*chain.from_iterable(made)], self._indices)
            return self._rows.batch(made, self._slab.batch(0, len(self._indices))), self._slab
        except SampleMismatchError:
            if self._rows is None:
                raise
            self._fetch.rows = None  # of the batches before: now of its own
            return self._fetch.make(self._indices)


class Begun(chain[Any]):
    """The batches of an iterator that ``begin`` makes when the first one is asked for."""

    _starts: Any
    _made: list[Any]

    @classmethod
    def by(cls, begin: Callable[[], Iterator[Any]]) -> Self:
        """Of what ``begin`` makes."""
        made: list[Any] = []

        def starts() -> Iterator[Any]:
            made.append(begin())
            yield made[0]

        begun = starts()
        epoch: Any = cls.from_iterable(begun)
        epoch._starts, epoch._made = begun, made  # noqa: SLF001 of this class
        return epoch  # type: ignore[no-any-return]  # chain says that it makes chains, but it makes what derives from it

    def close(self) -> None:
        """Let go of what was made ahead. May be called twice."""
        self._starts.close()
        for each in self._made:
            each.close()


class Delivery(Counted):
    """Hands out the batches that ``begin`` starts to make, each with its slab.

    ``take_state``: of the dataset after each batch.
    """

    def __init__(
        self, buffers: Buffers, begin: Callable[[], Any], progress: Progress, take_state: TakeState | None = None
    ) -> None:
        super().__init__(None, progress)
        self._buffers, self._begin, self._take_state = buffers, begin, take_state
        self._slab: Slab | None = None

    def _next(self) -> Any:
        if self._made is None:
            self._made = self._begin()
        if self._slab is not None:
            self._buffers.put(self._slab)
            self._slab = None
        made = next(self._made, None)
        while made is PART:
            made = next(self._made, None)
        if made is None:
            raise StopIteration
        batch, self._slab = made
        if self._take_state is not None:
            self.progress.note(self._take_state())
        return batch

    def __del__(self) -> None:
        self.close()
