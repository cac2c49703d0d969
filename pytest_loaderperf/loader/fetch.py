"""Batches of samples: fetched and collated in the consumer's thread or ahead of it on others, into reused buffers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from functools import partial
from itertools import islice, repeat
from typing import Any, TypeVar

import numpy as np

from pytest_loaderperf.loader.buffers import Empty, Field, Ring, Slab, nbytes, tensor_over
from pytest_loaderperf.loader.collate import Collate, SampleMismatchError, Structure
from pytest_loaderperf.loader.executor import PersistentExecutor
from pytest_loaderperf.loader.plan import Plan, within
from pytest_loaderperf.loader.prefetch import Prefetcher, Task
from pytest_loaderperf.loader.progress import Counted, Feed, Progress
from pytest_loaderperf.loader.samples import MapSamples, StreamSamples, collated

T = TypeVar("T")
_NO_RING = Ring((), 0, 0, 0)  # fits nothing
BUFFERED_NBYTES = 1 << 20  # a smaller batch has memory from the allocator's free list sooner than a buffer of ours
PIECE_NBYTES = 512 << 10  # of samples fetched before they are copied: half of a core's second-level cache
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
        self.plan = plan
        self._samples, self._collate, self.executor = MapSamples(dataset), collate, executor
        self.batched, self._budget, self._timeout = batched, budget, timeout
        self.batch_nbytes: int | None = None
        self.empty: Empty = np.empty
        self._ring = _NO_RING
        self._structure: Structure | None = None  # of samples so large that they are copied piece by piece

    def epoch(self, make_feed: Callable[[], Feed], progress: Progress) -> Iterator[Any]:
        """The batches of one epoch of a map-style dataset."""
        return Delivery(self, lambda: self._begin(iter(make_feed())), progress)

    def stream(self, samples: StreamSamples, batch_size: int | None, progress: Progress) -> Iterator[Any]:
        """The batches of one epoch of an iterable-style dataset, which only one thread at a time may advance."""
        tasks = repeat(partial(self._make_next, samples, batch_size))
        return Delivery(self, lambda: (iter(()), self.made(tasks)), progress)

    def _begin(self, feed: Iterator[Any]) -> tuple[Iterator[Made], Iterator[Made]]:
        # All threads fetch the first batch together, the consumer in the place of one: it waits for that batch alone.
        together = self.plan.workers > 1 and self.batched and not self._samples.at_once and not self._timeout
        head = list(islice(feed, together))
        return map(self._make_together, head), self.made(partial(self.make, indices) for indices in feed)

    def _make_together(self, indices: Any) -> Made:
        indices = list(indices)
        step = -(-len(indices) // self.plan.workers) or 1
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
        if self._structure is not None and not self._samples.at_once:
            try:
                return self._make_in_pieces(indices, self._structure)
            except SampleMismatchError:  # of two pieces: now of all samples, in words
                self._structure = None
        fetched = self._samples.fetch(indices) if self.batched else self._samples.fetch_one(indices)
        return self.collate(fetched, indices)

    def _make_in_pieces(self, indices: Any, structure: Structure) -> Made:
        """Fetch and copy a few samples at a time, while they are in the core's cache and few of them take memory."""
        fields: Any = structure.fields
        slab = self._slab(fields, len(indices))
        arrays = slab.batch(0, len(indices))
        step = max(1, PIECE_NBYTES // nbytes(fields))
        for start in range(0, len(indices), step):

            def allocate(found: Sequence[Field], rows: int, start: int = start) -> Sequence[np.ndarray]:
                if tuple(found) != fields:
                    raise SampleMismatchError("unlike those before", start)
                return [array[start : start + rows] for array in arrays]

            piece = indices[start : start + step]
            collated(self._collate, self._samples.fetch(piece), piece, allocate)
        return structure.rebuild([tensor_over(a, f.torch_dtype) for f, a in zip(fields, arrays, strict=True)]), slab

    def collate(self, fetched: Any, indices: Any) -> Made:
        """The batch of the samples ``fetched`` from ``indices``, and the slab that it lies in, if any."""
        if not isinstance(self._collate, Collate):
            return collated(self._collate, fetched, indices), None
        if self.batch_nbytes is not None and self.batch_nbytes < BUFFERED_NBYTES and self.empty is np.empty:
            return collated(self._collate, fetched, indices), None
        slab: Slab | None = None

        def allocate(fields: Sequence[Field], rows: int) -> Sequence[np.ndarray]:
            nonlocal slab
            slab = self._slab(fields, rows)
            return slab.batch(0, rows)

        batch = collated(self._collate, fetched, indices, allocate)
        if (
            self.batch_nbytes is not None
            and self.batch_nbytes >= PIECE_NBYTES * 2
            and indices is not None
            and self.batched
        ):
            structure = self._collate.structure(fetched[0])
            self._structure = structure if structure.fields else None
        return batch, slab

    def _make_next(self, samples: StreamSamples, batch_size: int | None) -> Made | None:
        try:
            fetched = samples.fetch(batch_size)
        except StopIteration:
            return None
        return self.collate(fetched, None)

    def _slab(self, fields: Sequence[Field], rows: int) -> Slab:
        ring, fields = self._ring, tuple(fields)
        if not ring.fits(fields, rows, self.empty):
            self.batch_nbytes = nbytes(fields, rows)
            self.plan = within(self.plan, self.batch_nbytes, self._budget)
            ring = self._ring = Ring(fields, rows, 1, self.plan.batches, self.empty)
        return ring.take()

    def put(self, slab: Slab) -> None:
        """Return the slab of a batch that has been delivered."""
        self._ring.put(slab)

    def made(self, tasks: Iterator[Task[T]]) -> Iterator[T]:
        """What ``tasks`` give, run ahead where the plan has threads."""
        if not self.plan.workers:
            return map(_run, tasks)
        # A dataset need not bear more threads than its caller asked for: the consumer does not help.
        workers, timeout_s = self.plan.workers, self._timeout
        return Prefetcher(tasks, self.executor, workers=workers, ahead=self._ahead, helps=False, timeout_s=timeout_s)

    def _ahead(self) -> int:
        # Under a budget nothing is begun early before a first batch has told its size.
        return 0 if self._budget is not None and self.batch_nbytes is None else self.plan.ahead

    def close(self) -> None:
        """Free the buffers."""
        self._ring = _NO_RING


class Delivery(Counted):
    """Hands out the batches that ``begin`` starts to make: those of a head, then the others, each with its slab."""

    def __init__(self, fetch: Fetch, begin: Callable[[], Any], progress: Progress) -> None:
        super().__init__(None, progress)
        self._fetch, self._begin = fetch, begin
        self._head: Iterator[Made] = iter(())
        self._slab: Slab | None = None

    def _next(self) -> Any:
        if self._made is None:
            self._head, self._made = self._begin()
        if self._slab is not None:
            self._fetch.put(self._slab)
            self._slab = None
        made = next(self._head, None)
        if made is None:
            made = next(self._made, None)
        elif isinstance(self._made, Prefetcher):
            self._made.begin(spared=1)  # for the batch that was made here
        if made is None:
            raise StopIteration
        batch, self._slab = made
        return batch

    def __del__(self) -> None:
        self.close()


def _run(task: Task[T]) -> T:
    return task()
