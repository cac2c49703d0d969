"""Batches of samples: fetched and collated in the consumer's thread or ahead of it on others, into reused buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from functools import partial
from itertools import chain, islice, repeat
from operator import call
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from pytest_loaderperf.data.arrays.fields import Field, nbytes, tensor_over
from pytest_loaderperf.data.arrays.structure import RowViews, SampleMismatchError, kind_of, rebuilder, write
from pytest_loaderperf.data.execution.executor import PersistentExecutor
from pytest_loaderperf.loader.buffers import Buffers, Slab
from pytest_loaderperf.loader.collate import Collate
from pytest_loaderperf.loader.plan import Plan
from pytest_loaderperf.loader.prefetch import Prefetcher, Task
from pytest_loaderperf.loader.progress import Counted, Feed, Progress
from pytest_loaderperf.loader.samples import MapSamples, StreamSamples, collated
from pytest_loaderperf.loader.states import State, is_stateful, load, taken

T = TypeVar("T")
BUFFERED_NBYTES = 1 << 20  # a smaller batch has memory from the allocator's free list sooner than a buffer of ours
LARGE_NBYTES = 32 << 10  # of a sample: what checking it by itself costs is little beside copying it
Made = tuple[Any, Slab | None]


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
        self._samples, self._collate, self.executor = MapSamples(dataset), collate, executor
        self.batched, self._budgeted, self._timeout = batched, budget is not None, timeout
        self._by_row: tuple[tuple[Field, ...], RowViews] | None = None  # of samples that are copied one by one

    def epoch(self, make_feed: Callable[[], Feed], progress: Progress) -> Iterator[Any]:
        """The batches of one epoch of a map-style dataset."""
        dataset = self._samples.dataset
        if (state := progress.states.get(0)) is not None:
            load(dataset, state.dataset)
        take = partial(taken, dataset) if self.keeps_states and is_stateful(dataset) else None
        return Delivery(self, lambda: self._begin(iter(make_feed())), progress, take)

    def stream(self, samples: StreamSamples, batch_size: int | None, progress: Progress) -> Iterator[Any]:
        """The batches of one epoch of an iterable-style dataset, which only one thread at a time may advance."""
        tasks = repeat(partial(self._make_next, samples, batch_size))
        take = samples.state if self.keeps_states and samples.is_stateful else None
        if not progress.states and (take is not None or is_stateful(samples.dataset)):
            progress.note(samples.state())
        return Delivery(self, lambda: (iter(()), self.made(tasks)), progress, take)

    @property
    def keeps_states(self) -> bool:
        """Whether the dataset's state after a batch is known: not where threads have gone on from there."""
        return not self.buffers.plan.workers

    def _begin(self, feed: Iterator[Any]) -> tuple[Iterator[Made], Iterator[Made]]:
        # All threads fetch the first batch together, the consumer in the place of one: it waits for that batch alone.
        together = self.buffers.plan.workers > 1 and self.batched and not self._samples.at_once and not self._timeout
        head = list(islice(feed, together))
        return map(self._make_together, head), self.made(partial(self.make, indices) for indices in feed)

    def _make_together(self, indices: Any) -> Made:
        indices = list(indices)
        step = -(-len(indices) // self.buffers.plan.workers) or 1
        parts = [indices[start : start + step] for start in range(0, len(indices), step)]
        futures = [self.executor.submit(self._samples.fetch, part) for part in parts[1:]]
        try:
            fetched = self._samples.fetch(parts[0])
        finally:
            wait(futures)
        return self.collate(fetched + [sample for future in futures for sample in future.result()], indices)

    def pairs(self, make_feed: Callable[[], Feed]) -> Iterator[list[tuple[Any, Any]]]:
        """Pairs of index and sample, those of a batch at a time, with a Failure for each sample that raised."""
        feed = make_feed()
        good = self._samples.fetch_good
        tasks = (partial(good, indices if self.batched else [indices]) for indices in feed)
        fetched = self.made(tasks)
        try:
            yield from fetched
        finally:
            if isinstance(fetched, Prefetcher):
                fetched.close()

    def make(self, indices: Any) -> Made:
        """The batch of the samples at ``indices``, and the slab that it lies in, if any."""
        by_row = self._by_row
        if by_row is not None and not self._samples.at_once and type(indices) is list:
            try:
                return self._make_row_by_row(indices, *by_row)
            except SampleMismatchError:  # of the batches before: now of its own
                self._by_row = None
        fetched = self._samples.fetch(indices) if self.batched else self._samples.fetch_one(indices)
        return self.collate(fetched, indices)

    def _make_row_by_row(self, indices: list[Any], fields: tuple[Field, ...], row_views: RowViews) -> Made:
        """Have the dataset write each sample to its row, or copy it there while it is in the core's cache."""
        slab = self.buffers.take(fields, len(indices))
        arrays = slab.batch(0, len(indices))
        first: Any = None
        for row, index in enumerate(indices):
            own: Sequence[Any] = ()
            if self._samples.write is None:
                sample = self._samples.fetch_one(index)
            else:
                out, own = row_views(arrays, row)
                sample = self._samples.fetch_into(index, out)
            if not row:
                first, kind = sample, kind_of(sample)
                is_nested = isinstance(kind, tuple) and any(kind[1:])
            elif type(sample) is not type(first) or (is_nested and kind_of(sample) != kind):
                raise SampleMismatchError("the containers are of several types", row)
            write(sample, fields, arrays, row, own)
        return rebuilder(first)([tensor_over(a, f.torch_dtype) for f, a in zip(fields, arrays, strict=True)]), slab

    def collate(self, fetched: Any, indices: Any) -> Made:
        """The batch of the samples ``fetched`` from ``indices``, and the slab that it lies in, if any."""
        writes = self._samples.write is not None
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
            self._by_row = None
            if fields and (writes or nbytes(fields) >= LARGE_NBYTES):
                self._by_row = fields, RowViews(fetched[0], fields)
        return batch, slab

    def _make_next(self, samples: StreamSamples, batch_size: int | None) -> Made | None:
        try:
            fetched = samples.fetch(batch_size)
        except StopIteration:
            return None
        return self.collate(fetched, None)

    def made(self, tasks: Iterator[Task[T]]) -> Iterator[T]:
        """What ``tasks`` give, run ahead where the plan has threads."""
        if not self.buffers.plan.workers:
            return map(call, tasks)
        # A dataset need not bear more threads than its caller asked for: the consumer does not help.
        workers, timeout_s = self.buffers.plan.workers, self._timeout
        return Prefetcher(tasks, self.executor, workers=workers, ahead=self._ahead, timeout_s=timeout_s)

    def _ahead(self) -> int:
        # Under a budget nothing is begun early before a first batch has told its size.
        return 0 if self._budgeted and self.buffers.batch_nbytes is None else self.buffers.plan.ahead

    def close(self) -> None:
        """Free the buffers."""
        self.buffers.close()


class Buffered(Protocol):
    """What makes batches in slabs of its ``buffers``."""

    @property
    def buffers(self) -> Buffers: ...


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
    """Hands out the batches that ``begin`` starts to make: those of a head, then the others, each with its slab.

    ``take_state``: of the dataset after each batch.
    """

    def __init__(
        self,
        fetch: Buffered,
        begin: Callable[[], Any],
        progress: Progress,
        take_state: Callable[[], State | None] | None = None,
    ) -> None:
        super().__init__(None, progress)
        self._fetch, self._begin, self._take_state = fetch, begin, take_state
        self._head: Iterator[Made] = iter(())
        self._slab: Slab | None = None

    def _next(self) -> Any:
        if self._made is None:
            self._head, self._made = self._begin()
        if self._slab is not None:
            self._fetch.buffers.put(self._slab)
            self._slab = None
        made = next(self._head, None)
        if made is None:
            made = next(self._made, None)
        elif isinstance(self._made, Prefetcher):
            self._made.begin(spared=1)  # for the batch that was made here
        if made is None:
            raise StopIteration
        batch, self._slab = made
        if self._take_state is not None:
            self.progress.note(self._take_state())
        return batch

    def __del__(self) -> None:
        self.close()
