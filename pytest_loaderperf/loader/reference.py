"""ReferenceLoader: the loader that every other one is held against."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, Self

import torch
from torch.utils.data import DataLoader, IterableDataset

from pytest_loaderperf.data.arrays.columns import RowDataset, as_columns, is_named, state_of
from pytest_loaderperf.data.arrays.order import check_counted, epoch_sampler, is_share
from pytest_loaderperf.data.execution.cores import usable_cores
from pytest_loaderperf.data.execution.executor import MAX_DEFAULT_WORKERS, PersistentExecutor
from pytest_loaderperf.loader import arguments as given
from pytest_loaderperf.loader.engines import Engines
from pytest_loaderperf.loader.epochs import Epochs
from pytest_loaderperf.loader.gather import Gather
from pytest_loaderperf.loader.mover import Mover
from pytest_loaderperf.loader.plan import Memory
from pytest_loaderperf.loader.processes import Processes
from pytest_loaderperf.loader.restart import T_co
from pytest_loaderperf.loader.skip import SkipPolicy
from pytest_loaderperf.loader.transfer import copy_into, pinned_empty

_log = logging.getLogger("pytest_loaderperf")

# What is handed on to the DataLoader that drives worker processes.
_TORCHS = "pin_memory timeout worker_init_fn multiprocessing_context generator pin_memory_device in_order".split()


class ReferenceLoader(Epochs[T_co]):
    """A data loader at the machine's limit, and a drop-in for ``torch.utils.data.DataLoader``.

    ``dataset`` is any map-style or iterable-style torch dataset, or a dict or tuple of arrays or tensors with samples
    along their first dimension. Every argument of torch's constructor has its name and meaning; where workers,
    prefetch or pinning are left open, the loader decides. Arrays are gathered, and samples collated, straight into
    reused buffers; a batch that the consumer still holds, or holds any view of, is never overwritten.

    ``worker_kind``: ``"threads"`` (the dataset must bear them), ``"processes"`` (torch's DataLoader, at ``.loader``)
    or ``"auto"``: threads for arrays; processes for other datasets where ``num_workers`` is given, else the consumer's
    thread.
    ``seed``: order and worker seeds are a pure function of (seed, epoch). ``rank`` of ``world_size``: this process's
    share, as torch's DistributedSampler cuts it. ``memory_budget``: the most bytes that batches may take.
    ``on_error="skip"`` leaves out samples that raise, up to ``error_limit`` of them (a float: that share of an epoch),
    and keeps the batches full; they are listed in ``skipped``. ``device``: where batches arrive. ``executor`` is shared
    if given, else the loader's own.

    Raises DataError for what cannot be used, and whatever torch's constructor raises.
    """

    def __init__(  # noqa: PLR0917 torch's constructor
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,  # noqa: FBT001 positional, as are those that follow, in torch's constructor
        sampler: Any = None,
        batch_sampler: Any = None,
        num_workers: int | None = None,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool | None = None,  # noqa: FBT001
        drop_last: bool = False,  # noqa: FBT001, FBT002
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: torch.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool | None = None,
        pin_memory_device: str = "",
        in_order: bool = True,
        worker_kind: given.WorkerKind = "auto",
        seed: int | None = None,
        device: str = "cpu",
        memory_budget: int | None = None,
        on_error: given.OnError = "raise",
        error_limit: float = 0.05,
        rank: int | None = None,
        world_size: int | None = None,
        executor: PersistentExecutor | None = None,
    ) -> None:
        streams, order = isinstance(dataset, IterableDataset), batch_sampler if sampler is None else sampler
        given.check_numbers(num_workers, prefetch_factor, seed, memory_budget, error_limit)
        apart = worker_init_fn is not None or multiprocessing_context is not None
        given.check_choices(worker_kind, on_error, streams=streams, apart=apart)
        if not is_share(order, rank, world_size):
            given.check_share(rank, world_size, orders=order is not None, streams=streams)
        numbers = given.plain(num_workers, prefetch_factor, seed, memory_budget, rank, world_size)
        num_workers, prefetch_factor, seed, memory_budget, rank, world_size = numbers
        samples = RowDataset(dataset) if is_named(dataset) else dataset
        given.check_dataset(samples, on_error)
        if samples is not dataset:
            check_counted(order, dataset, len(samples))
        given.check_kind("executor", executor, PersistentExecutor)
        given.check_kind("generator", generator, torch.Generator)
        if executor is not None and worker_kind == "auto":
            worker_kind = "threads"
            num_workers = executor.max_workers if num_workers is None else num_workers
        self.worker_kind, self.seed, self.device, self.memory_budget = worker_kind, seed, device, memory_budget
        self.on_error, self.error_limit, self.rank, self.world_size = on_error, error_limit, rank, world_size
        self._shuffle, self._next_epoch = bool(shuffle), 0
        if order is None and not streams and (seed is not None or rank is not None):
            sampler = epoch_sampler(samples, shuffle=self.shuffle, seed=seed or 0, rank=rank, world_size=world_size)
            shuffle = None
        if num_workers is None and (worker_kind == "processes" or multiprocessing_context is not None):
            num_workers = 1 if streams else usable_cores()  # each process gives the whole of a stream
        super().__init__(
            samples,  # type: ignore[arg-type]  # torch itself takes anything with __getitem__
            batch_size,
            shuffle,
            sampler,
            batch_sampler,
            num_workers or 0,
            collate_fn,
            bool(pin_memory),
            drop_last,
            timeout,
            worker_init_fn,
            multiprocessing_context,
            generator,
            prefetch_factor=None if num_workers is None else prefetch_factor,
            persistent_workers=num_workers is not None and bool(persistent_workers),
            pin_memory_device=pin_memory_device,
            in_order=in_order,
        )
        self.__dict__["dataset"] = dataset  # torch was given dicts and tuples of arrays as samples
        self._samples = samples
        self._workers, self._prefetch = num_workers, prefetch_factor
        self._persists, self._pins = persistent_workers, pin_memory
        self._default_collate = self.collate_fn if collate_fn is None else None
        self._executor = executor
        self._progress = self._resumed = None
        self._begin()
        self.check_worker_number_rationality()

    def _begin(self) -> None:
        """Make the engine from the arguments as they are now: torch's may be set later, for the next epoch."""
        dataset: Any = self.dataset
        streams, batched = isinstance(dataset, IterableDataset), self.batch_sampler is not None
        own_collate = None if self.collate_fn is self._default_collate else self.collate_fn
        columns = as_columns(self._samples) if batched and own_collate is None and not streams else None
        apart = self.worker_init_fn is not None or self.multiprocessing_context is not None
        route = given.route(dataset, self.worker_kind, self._workers, gathers=columns is not None, apart=apart)
        engines = self._engines = Engines(
            dataset=self._samples,
            batched=batched,
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            indices=self.batch_sampler if batched else self.sampler,
            collate=own_collate,
            convert=self.collate_fn,
            prefetch_factor=self._prefetch,
            persists=self._persists,
            torchs={name: getattr(self, name) for name in _TORCHS},
            budget=self.memory_budget,
            executor=self._executor,
            seed=self.seed,
            skips=self.on_error == "skip",
        )
        self._engine: Any
        if columns is not None and route == "gather":
            self._engine = engines.gather(columns, self._workers)
            self.num_workers = self._engine.buffers.plan.workers
        elif route == "processes":
            given.check_budget(self.memory_budget, self.num_workers)
            self._engine = engines.processes(self.num_workers)
        else:
            self._engine = engines.fetch(self._fetching_threads(streams=streams))
            self.num_workers = self._engine.buffers.plan.workers
        self._policy = SkipPolicy(self.error_limit, 0)
        on_device = partial(Mover, self.device, memory_budget=self.memory_budget, pin_memory=self._pins)
        self._mover = on_device() if str(self.device) != "cpu" else None
        self._as_begun, self._state = self._settable(), state_of(self._samples)
        _log.info("%r", self)

    def _fetching_threads(self, *, streams: bool) -> int:
        workers = self._workers
        if workers is None:
            workers = 0 if self.worker_kind == "auto" else min(MAX_DEFAULT_WORKERS, usable_cores())
        return min(workers, 1) if streams else workers

    def _settable(self) -> tuple[Any, ...]:
        return (self.num_workers, self.collate_fn, *(getattr(self, name) for name in _TORCHS))

    def _refresh(self) -> None:
        """Make another engine where an argument was set since, or the columns of the dataset are others."""
        if self._settable() == self._as_begun and state_of(self._samples) == self._state:
            return
        if self.num_workers != self._as_begun[0]:
            self._workers = self.num_workers
        self._engine.close()
        self._begin()

    @property
    def executor(self) -> PersistentExecutor | None:
        """The executor whose threads are used, if any are."""
        return self._executor or getattr(self._engine, "executor", None)

    def check_worker_number_rationality(self) -> None:
        """Warn of more workers than cores, as torch does. Of processes, the loader that drives them does it."""
        if isinstance(self.__dict__.get("_engine"), Gather) and self.worker_kind == "auto" and self._workers:
            super().check_worker_number_rationality()

    @property
    def loader(self) -> DataLoader[Any] | None:
        """The DataLoader of torch that drives worker processes, where there are any."""
        return self._engine.loader if isinstance(self._engine, Processes) else None

    @property
    def threads(self) -> int:
        """Threads that make batches, 0 where none do."""
        workers: int = 0 if self.loader is not None else self._engine.buffers.plan.workers
        return workers

    def without_threads(self) -> Self:
        """The same loader, whose batches the consumer's thread makes."""
        other = copy.copy(self)
        other.num_workers = 0
        return other

    @property
    def prefetch_depth(self) -> int:
        """Batches that may be ready before they are asked for."""
        if (loader := self.loader) is not None:
            return loader.num_workers * (loader.prefetch_factor or 0)
        depth: int = self._engine.buffers.plan.depth
        return depth

    @property
    def memory(self) -> Memory:
        """What the loader allocates, from shapes and dtypes alone. Worker processes hold their batches themselves."""
        held = getattr(self._engine, "buffers", None)
        batch = None if held is None else held.batch_nbytes
        buffers = None if held is None or batch is None else batch * held.plan.batches
        pinned = buffers or 0 if held is not None and held.empty is pinned_empty else 0
        share = len(self.sampler) if self.shuffle else 0  # type: ignore[arg-type]  # one of torch's, or ours
        return Memory(batch, buffers, pinned, 8 * share * (self.world_size or 1))

    def copy_into(self, static: Any) -> Iterator[Any]:
        """Copy each batch of an epoch into the same tensors, such as a CUDA graph's inputs, and yield ``static``.

        Raises DataError for a batch of another structure, shape or dtype; ``drop_last=True`` spares the short one.
        """
        return copy_into(self, static)

    def close(self) -> None:
        """End threads, unless the executor was given, and processes, and free the buffers. May be called twice."""
        if self._executor is None and self.executor is not None:
            self.executor.close(wait=not self.timeout)  # a sample may hang
        self._engine.close()

    @property
    def _is_accelerate_prepared(self) -> bool:
        """True: Accelerate's ``prepare()`` asks for it, and would else make a plain DataLoader of this one.

        Raises DataError where several processes would each be given the whole dataset.
        """
        given.check_shared_out(self.world_size, self.sampler, self.batch_sampler)
        warnings.warn(
            f"Accelerate leaves a ReferenceLoader as it is: its batches come to device={self.device!r}, and "
            "accumulate() and gather_for_metrics() do not see the end of its epochs. For those, give Accelerate a "
            "DataLoader of torch.",
            stacklevel=2,
        )
        return True

    @_is_accelerate_prepared.setter
    def _is_accelerate_prepared(self, prepared: bool) -> None:
        """Nothing: it is true from the start."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_engine": None, "_progress": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __repr__(self) -> str:
        return (
            f"ReferenceLoader({type(self.dataset).__name__}, batch_size={self.batch_size}, shuffle={self.shuffle}, "
            f"drop_last={self.drop_last}, num_workers={self.num_workers}, prefetch_depth={self.prefetch_depth})"
        )
