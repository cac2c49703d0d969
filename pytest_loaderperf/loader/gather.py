"""Batches of columns: rows gathered straight into reused buffers, a chunk of batches at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from operator import call
from typing import Any, TypeVar

from pytest_loaderperf.data.arrays.columns import Columns, Order
from pytest_loaderperf.data.arrays.indices import positions_of
from pytest_loaderperf.data.arrays.order import chunks, highest
from pytest_loaderperf.data.execution.executor import PersistentExecutor
from pytest_loaderperf.data.execution.job import Task
from pytest_loaderperf.data.execution.worth import Worth
from pytest_loaderperf.loader.buffers import Buffers, Slab
from pytest_loaderperf.loader.collate import vectorized_collate
from pytest_loaderperf.loader.fetch import Begun, Delivery
from pytest_loaderperf.loader.plan import INLINE_NBYTES, Plan
from pytest_loaderperf.loader.prefetch import Prefetcher
from pytest_loaderperf.loader.progress import Feed, Progress
from pytest_loaderperf.loader.samples import MapSamples, collated

T = TypeVar("T")


class Gather:
    """Gathers batches of ``columns`` of ``dataset`` as ``plan`` says; threads, if any, are those of ``executor``.

    Raises IndexError for an index beyond the data, in its batch's place. Other indices than whole numbers are looked up
    in ``dataset`` one by one, as torch does it.
    """

    def __init__(
        self,
        dataset: Any,
        columns: Columns,
        plan: Plan,
        executor: PersistentExecutor,
        *,
        batch_nbytes: int,
        budget: int | None,
    ) -> None:
        self._samples, self._columns, self.executor = MapSamples(dataset), columns, executor
        self.buffers = Buffers(plan, budget, batch_nbytes)
        self._worth = Worth()
        self._alone = max(1, INLINE_NBYTES // max(1, batch_nbytes))  # batches at once that stay in a core's cache

    def epoch(self, make_feed: Callable[[], Feed], progress: Progress) -> Iterator[Any]:
        """The batches of one epoch; counts each in ``progress`` when it is delivered."""
        return Begun.by(lambda: self._begin(make_feed(), progress))

    def _begin(self, feed: Feed, progress: Progress) -> Iterator[Any]:
        order, size = feed.order, feed.batch_size
        if order is not None and size is not None and highest(order) < len(self._columns):
            return self._in_chunks(order, size, progress)
        tasks = (partial(self._make, indices) for indices in feed)
        return Delivery(self.buffers, lambda: self._made(tasks), progress)

    def _made(self, tasks: Iterator[Task[T]]) -> Any:
        """What ``tasks`` give, run ahead where the plan has threads."""
        plan = self.buffers.plan
        if not plan.workers:
            return map(call, tasks)
        return Prefetcher(tasks, self.executor, workers=plan.workers, ahead=lambda: plan.ahead, worth=self._worth)

    def _make(self, indices: Any) -> tuple[Any, Slab | None]:
        """The batch at ``indices``, whatever they are, and the slab that it lies in, if any."""
        columns = self._columns
        if (positions := positions_of(len(columns), indices)) is None:
            return collated(vectorized_collate, self._samples.fetch(indices), indices), None
        slab = self.buffers.take(columns.columns, len(positions))
        _gather(columns, positions, slab)
        return columns.batch_maker()(slab.batch(0, len(positions))), slab

    def _in_chunks(self, order: Order, size: int, progress: Progress) -> Iterator[Any]:
        taken: deque[Slab] = deque()
        make_batch = self._columns.batch_maker()
        gathered = self._made(self._tasks(order, min(size, len(order)), taken))
        try:
            for rows in gathered if not self.buffers.plan.workers else self._timed(gathered):
                slab = taken[0]
                full, rest = divmod(rows, size)
                for views in slab.views[:full]:
                    progress.batches += 1
                    yield make_batch(views)
                if rest:
                    progress.batches += 1
                    yield make_batch(slab.batch(full, rest))
                self.buffers.put(taken.popleft())
            progress.done = True
        finally:
            if not isinstance(gathered, Prefetcher) or gathered.close():  # no thread writes to a slab any more
                for slab in taken:
                    self.buffers.put(slab)

    def _timed(self, gathered: Iterator[int]) -> Iterator[int]:
        """The same; counts what each chunk costs this thread, by which it is decided whether threads are worth it."""
        began_ns = time.perf_counter_ns()
        for rows in gathered:
            self._worth.note(time.perf_counter_ns() - began_ns, rows)
            yield rows
            began_ns = time.perf_counter_ns()

    def _tasks(self, order: Order, rows: int, taken: deque[Slab]) -> Iterator[Task[int]]:
        """What gathers a chunk each, of batches of ``rows``; its slab is appended to ``taken``."""
        for indices in chunks(order, rows, self._most):
            slab = self.buffers.take(self._columns.columns, rows, cached=not self._worth.hands_over)
            taken.append(slab)
            yield partial(_gather, self._columns, indices, slab)

    def _most(self) -> int:
        """Batches in a chunk at most."""
        return self.buffers.plan.chunk if self._worth.hands_over else min(self.buffers.plan.chunk, self._alone)

    def close(self) -> None:
        """Free the buffers."""
        self.buffers.close()


def _gather(source: Columns, indices: Order, slab: Slab) -> int:
    """Copy the rows at ``indices`` to the front of the slab, and say how many they are."""
    rows = len(indices)
    for column, array in zip(source.columns, slab.arrays, strict=True):
        column.gather(indices, array[:rows])
    return rows
