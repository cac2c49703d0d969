"""Batches of columns: rows gathered straight into reused buffers, a chunk of batches at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pytest_loaderperf.data.columns import Columns, Order, checked_indices
from pytest_loaderperf.data.executor import PersistentExecutor
from pytest_loaderperf.loader.buffers import Buffers, Slab
from pytest_loaderperf.loader.plan import Plan
from pytest_loaderperf.loader.prefetch import Prefetcher, Task
from pytest_loaderperf.loader.progress import Feed, Progress


class Gather:
    """Gathers batches of ``columns`` as ``plan`` says; threads, if any, are those of ``executor``."""

    def __init__(
        self, columns: Columns, plan: Plan, executor: PersistentExecutor, batch_nbytes: int, budget: int | None
    ) -> None:
        self._columns, self.executor = columns, executor
        self.buffers = Buffers(plan, budget, batch_nbytes)

    def epoch(self, make_feed: Callable[[], Feed], progress: Progress) -> Iterator[Any]:
        """The batches of one epoch; counts each in ``progress`` when it is delivered."""
        plan, feed = self.buffers.plan, make_feed()
        size = feed.batch_size
        taken: deque[Slab] = deque()
        tasks = self._tasks(feed, taken)
        make_batch = self._columns.batch_maker()
        gathered: Any = (task() for task in tasks)
        if plan.workers:
            gathered = Prefetcher(tasks, self.executor, workers=plan.workers, ahead=lambda: plan.ahead, helps=True)
        try:
            for rows in gathered:
                slab = taken[0]
                full, rest = divmod(rows, size) if size else (0, rows)
                for views in slab.views[:full]:
                    progress.batches += 1
                    yield make_batch(views)
                if rest:
                    progress.batches += 1
                    yield make_batch(slab.batch(full, rest))
                self.buffers.put(taken.popleft())
            progress.done = True
        finally:
            if gathered.close() is not False:  # no thread writes to a slab any more
                for slab in taken:
                    self.buffers.put(slab)

    def _tasks(self, feed: Feed, taken: deque[Slab]) -> Iterator[Task[int]]:
        """What gathers a chunk each; its slab is appended to ``taken``."""
        size, chunk, fields = feed.batch_size, self.buffers.plan.chunk, self._columns.columns
        if feed.order is None or size is None:
            chunks: Iterator[Order] = map(partial(checked_indices, len(self._columns)), feed)
            rows = 0
        else:
            rows = min(size, len(feed.order))
            chunks = _chunks(feed.order, rows, chunk)
        for indices in chunks:
            slab = self.buffers.take(fields, rows or len(indices))
            taken.append(slab)
            yield partial(_gather, self._columns, indices, slab)

    def close(self) -> None:
        """Free the buffers."""
        self.buffers.close()


def _chunks(order: Order, batch_size: int, most: int) -> Iterator[Order]:
    """Slices of ``order`` for 1, 4, 16 and so on up to ``most`` batches: the first batch waits for itself alone."""
    start, batches = 0, 1
    while start < len(order):
        rows = min(batches, most) * batch_size
        yield order[start : start + rows]
        start, batches = start + rows, 4 * batches


def _gather(source: Columns, indices: Order, slab: Slab) -> int:
    """Copy the rows at ``indices`` to the front of the slab, and say how many they are."""
    rows = len(indices)
    for column, array in zip(source.columns, slab.arrays, strict=True):
        column.gather(indices, array[:rows])
    return rows
