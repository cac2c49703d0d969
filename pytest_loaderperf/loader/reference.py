"""ReferenceLoader: the loader that every other one is held against."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from types import TracebackType
from typing import Any, Self, TypeVar, cast

import numpy as np
import torch
from torch.utils.data import TensorDataset, default_collate

from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader.buffers import Ring, Slab
from pytest_loaderperf.loader.columns import Columns, as_columns
from pytest_loaderperf.loader.executor import MAX_DEFAULT_WORKERS, PersistentExecutor, usable_cores
from pytest_loaderperf.loader.order import Order, epoch_order
from pytest_loaderperf.loader.prefetch import Prefetcher, Task
from pytest_loaderperf.loader.samples import Collate, Samples

T = TypeVar("T")
_log = logging.getLogger("pytest_loaderperf")

CHUNK_NBYTES = 2 << 20  # bytes gathered by one task: hides the ~20 us that a hand-over between threads costs
HANDOVER_NBYTES = 512 << 10  # below this, a chunk is gathered sooner than it is handed over: no threads
INLINE_NBYTES = 128 << 10  # bytes gathered at once where there are no threads: hides the cost of small calls
EPOCH_SHARE = 3  # buffers hold at most a third of an epoch
SPARE_CHUNKS = 2  # tasks queued beyond one a worker, so that a worker never waits for the consumer to bring it one
PREFETCH_FACTOR = 2  # batches a worker has in flight, as in torch
MAX_SEED = (1 << 63) - 1  # leaves room to add the epoch
SPARE_BATCHES = 2  # beyond what is prefetched: the batch in the consumer's hands, and the one it is about to drop


@dataclass(frozen=True, slots=True)
class Plan:
    """``workers`` threads (0: none); ``ahead`` tasks of ``chunk`` batches each begun early; ``depth`` batches ahead."""

    workers: int
    ahead: int
    chunk: int
    depth: int


class ReferenceLoader:
    """A data loader at the machine's limit, with the interface of ``torch.utils.data.DataLoader``.

    ``dataset`` is a dict or tuple of arrays or tensors with samples along their first dimension, one such array,
    a TensorDataset, or any map-style torch dataset. Batches have the structure of the dataset, with tensors of shape
    ``(batch_size, ...)``. Arrays are gathered straight into reused buffers; a batch that the consumer still holds, or
    holds any view of, is never overwritten. Every other dataset is fetched and collated as torch does it.

    ``shuffle``: the order is a pure function of ``(seed, epoch)``; with ``seed=None`` each epoch draws its seed from
    torch's default generator. The epoch counts up with each ``iter()``; ``set_epoch`` sets it.

    ``num_workers`` counts threads: 0 works in the consumer's thread; None decides (arrays: a thread for each core but
    the consumer's, up to three, where a chunk of batches takes longer to gather than to hand over; other datasets: 0,
    for they need not be thread-safe). Over arrays, a consumer that would have to wait gathers a later chunk itself.
    ``prefetch_factor`` batches are in flight for each worker. Beyond the dataset's own bytes and its order, the
    buffers hold at most ``prefetch_depth + 2`` batches. ``executor`` is shared if given, else the loader's own.

    Raises DataError for data or arguments that cannot be used.
    """

    def __init__(
        self,
        dataset: object,
        batch_size: int = 1,
        shuffle: bool | None = None,  # noqa: FBT001 the third argument of torch's constructor
        *,
        num_workers: int | None = None,
        collate_fn: Collate | None = None,
        drop_last: bool = False,
        prefetch_factor: int | None = None,
        seed: int | None = None,
        executor: PersistentExecutor | None = None,
    ) -> None:
        _whole("batch_size", batch_size, 1)
        for name, value, least in (("num_workers", num_workers, 0), ("prefetch_factor", prefetch_factor, 1)):
            if value is not None:
                _whole(name, value, least)
        if seed is not None:
            _whole("seed", seed, 0)
            if seed > MAX_SEED:
                raise DataError(f"seed must be at most {MAX_SEED}, what torch's generator takes, but {seed} came.")
        if num_workers == 0 and prefetch_factor is not None:
            raise DataError("prefetch_factor needs workers, but num_workers=0 came. Leave one of the two out.")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = bool(shuffle)
        self.drop_last = drop_last
        self.seed = seed
        self.epoch = 0
        columns = as_columns(dataset)
        self._source: Columns | Samples
        if columns is None:
            self._source = Samples(dataset, collate_fn or default_collate)
        elif collate_fn is not None:
            self._source = Samples(dataset if isinstance(dataset, TensorDataset) else _Rows(columns), collate_fn)
        else:
            self._source = columns
        if executor is not None and num_workers is None:
            num_workers = executor.max_workers
        self._plan = self._make_plan(num_workers, prefetch_factor, usable_cores())
        self._owns_executor = executor is None
        self.executor = executor or PersistentExecutor(self._plan.workers or None)
        self._ring: Ring | None = None

    def _make_plan(self, num_workers: int | None, prefetch_factor: int | None, cores: int) -> Plan:
        if isinstance(self._source, Samples):
            workers = num_workers or 0
            if workers == 0 and prefetch_factor is not None:
                raise DataError(
                    "prefetch_factor needs workers: give num_workers=, too. This dataset is not made of arrays."
                )
            depth = workers * (prefetch_factor or PREFETCH_FACTOR)
            return Plan(workers, depth, 1, depth)
        workers = min(MAX_DEFAULT_WORKERS, cores) - 1 if num_workers is None else num_workers
        ahead = workers + SPARE_CHUNKS
        if prefetch_factor is not None and workers:
            depth = workers * prefetch_factor
            ahead = min(ahead, depth)
            return Plan(workers, ahead, (depth + SPARE_BATCHES) // (ahead + SPARE_BATCHES), depth)
        chunk = self._chunk_of(CHUNK_NBYTES, ahead)
        if workers == 0 or (num_workers is None and chunk * self._batch_nbytes < HANDOVER_NBYTES):
            workers, ahead, chunk = 0, 0, self._chunk_of(INLINE_NBYTES, 0)
        return Plan(workers, ahead, chunk, chunk * (ahead + SPARE_BATCHES) - SPARE_BATCHES)

    @property
    def _batch_nbytes(self) -> int:
        return max(1, self.batch_size * cast("Columns", self._source).sample_nbytes)

    def _chunk_of(self, nbytes: int, ahead: int) -> int:
        """Batches in a chunk of about ``nbytes``, such that all buffers together hold but a share of an epoch."""
        return max(1, min(nbytes // self._batch_nbytes, len(self) // EPOCH_SHARE // (ahead + SPARE_BATCHES)))

    @property
    def num_workers(self) -> int:
        """Threads that gather or fetch ahead of the consumer; 0 if it does that itself."""
        return self._plan.workers

    @property
    def prefetch_depth(self) -> int:
        """Batches that may be ready before they are asked for."""
        return self._plan.depth

    def __len__(self) -> int:
        samples = len(self._source)
        return samples // self.batch_size if self.drop_last else -(-samples // self.batch_size)

    def __repr__(self) -> str:
        plan = self._plan
        return (
            f"ReferenceLoader({type(self.dataset).__name__}, batch_size={self.batch_size}, shuffle={self.shuffle}, "
            f"drop_last={self.drop_last}, num_workers={plan.workers}, prefetch_depth={plan.depth})"
        )

    def set_epoch(self, epoch: int) -> None:
        """Make ``epoch`` the next one to be iterated, as torch's DistributedSampler does."""
        _whole("epoch", epoch, 0)
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        if self.epoch == 0:
            _log.info("%r", self)
        if self.seed is None:
            order = epoch_order(len(self._source), shuffle=self.shuffle, seed=_drawn_seed(), epoch=0)
        else:
            order = epoch_order(len(self._source), shuffle=self.shuffle, seed=self.seed, epoch=self.epoch)
        self.epoch += 1
        if self.drop_last:
            order = order[: len(self) * self.batch_size]
        if isinstance(self._source, Samples):
            return self._fetched(self._source, order)
        return self._gathered(self._source, order)

    def _prefetched(self, tasks: Iterator[Task[T]], *, helps: bool) -> Prefetcher[T]:
        plan = self._plan
        return Prefetcher(tasks, self.executor, workers=plan.workers, ahead=plan.ahead, helps=helps)

    def _fetched(self, source: Samples, order: Order) -> Iterator[Any]:
        indices = list(order) if isinstance(order, range) else order.tolist()
        size = self.batch_size
        chosen = (indices[start : start + size] for start in range(0, len(indices), size))
        if self._plan.workers == 0:
            return map(source.batch, chosen)
        return self._fetched_ahead(partial(source.batch, some) for some in chosen)

    def _fetched_ahead(self, tasks: Iterator[Task[Any]]) -> Iterator[Any]:
        # A dataset need not bear more threads than its caller asked for: the consumer does not help.
        fetched = self._prefetched(tasks, helps=False)
        try:
            yield from fetched
        finally:
            fetched.close()

    def _gathered(self, source: Columns, order: Order) -> Iterator[Any]:
        size, plan = self.batch_size, self._plan
        # An iteration takes the ring with it, so that two at once never share one.
        ring = self._ring or Ring(source, size, plan.chunk, plan.ahead + SPARE_BATCHES)
        self._ring = None
        taken: deque[Slab] = deque()

        def tasks() -> Iterator[Task[int]]:
            for indices in _chunks(order, size, plan.chunk):
                slab = ring.take()
                taken.append(slab)
                yield partial(_gather, source, indices, slab)

        make_batch = source.batch_maker()
        gathered = self._prefetched(tasks(), helps=True) if plan.workers else (task() for task in tasks())
        try:
            for rows in gathered:
                slab = taken[0]
                full, rest = divmod(rows, size)
                for views in slab.views[:full]:
                    yield make_batch(views)
                if rest:
                    yield make_batch(slab.batch(full, rest))
                ring.put(taken.popleft())
        finally:
            if gathered.close() is not False:  # no thread writes to a slab any more
                for slab in taken:
                    ring.put(slab)
                self._ring = ring

    def close(self) -> None:
        """End the threads, unless the executor was given, and free the buffers. May be called twice."""
        if self._owns_executor:
            self.executor.close()
        self._ring = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ring": None}


class _Rows:
    """Columns as a map-style dataset, for a caller who collates samples by a function of their own."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns)

    def __getitem__(self, index: int) -> Any:
        columns = self._columns
        rows = [np.empty((1, *c.rows.shape[1:]), c.batch_dtype) for c in columns.columns]
        for column, row in zip(columns.columns, rows, strict=True):
            column.gather(range(index, index + 1), row)
        return columns.rebuild([c.tensor(row)[0] for c, row in zip(columns.columns, rows, strict=True)])


def _whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise DataError(f"{name} must be a whole number from {least} up, but {value!r} came.")


def _drawn_seed() -> int:
    return int(torch.empty((), dtype=torch.int64).random_().item())


def _chunks(order: Order, batch_size: int, most: int) -> Iterator[Order]:
    """Slices of ``order`` for 1, 2, 4 and so on up to ``most`` batches: the first batch waits for itself alone."""
    start = 0
    for batches in chain((1 << i for i in range(most.bit_length()) if 1 << i < most), (most for _ in count())):
        if start >= len(order):
            return
        yield order[start : start + batches * batch_size]
        start += batches * batch_size


def _gather(source: Columns, indices: Order, slab: Slab) -> int:
    """Copy the rows at ``indices`` to the front of the slab, and say how many they are."""
    rows = len(indices)
    for column, array in zip(source.columns, slab.arrays, strict=True):
        column.gather(indices, array[:rows])
    return rows
