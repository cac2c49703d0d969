"""The ways a loader can make its batches, built from its arguments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import length_hint
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, MapDataPipe

from pytest_loaderperf.data import as_is
from pytest_loaderperf.data.arrays.columns import Columns, as_columns
from pytest_loaderperf.data.arrays.fields import nbytes
from pytest_loaderperf.data.execution.cores import usable_cores
from pytest_loaderperf.data.execution.executor import PersistentExecutor
from pytest_loaderperf.data.stores.augment import gives_batches
from pytest_loaderperf.loader.collate import Collate, vectorized_collate
from pytest_loaderperf.loader.fetch import Fetch
from pytest_loaderperf.loader.gather import Gather
from pytest_loaderperf.loader.plan import PREFETCH_FACTOR, Plan, plan_arrays, plan_samples
from pytest_loaderperf.loader.processes import (
    Continued,
    Gathered,
    Good,
    Indices,
    Noted,
    Packed,
    Processes,
    init_worker,
    sent,
    sent_with_state,
)
from pytest_loaderperf.loader.states import Copies, Stream, is_stateful, may_have_states


@dataclass(frozen=True, slots=True)
class Engines:
    """Makes the engines of a loader from its arguments, without a reference to it, so that a loader dropped is gone.

    ``indices`` gives what makes a batch if ``batched``, and else single indices. ``convert``: what becomes of single
    samples. ``collate``: the caller's own, None for the default. ``torchs``: what torch's own DataLoader takes, too.
    """

    dataset: Any
    batched: bool
    batch_size: int | None
    drop_last: bool
    indices: Any
    collate: Callable[[Any], Any] | None
    convert: Callable[[Any], Any]
    prefetch_factor: int | None
    persists: bool | None
    torchs: dict[str, Any]
    budget: int | None
    executor: PersistentExecutor | None
    seed: int | None
    skips: bool

    def gather(self, columns: Columns, workers: int | None) -> Gather:
        """Gathers from ``columns`` on ``workers`` threads (None: decides)."""
        batch_nbytes = nbytes(columns.columns, min(self.batch_size or 1, len(columns)))
        if self.batch_size is None and self.budget is not None:
            workers = 0  # how large the caller's batches are is seen one at a time
        plan = plan_arrays(
            batch_nbytes,
            length_hint(self.indices) or None,
            workers=workers,
            prefetch_factor=self.prefetch_factor,
            cores=usable_cores(),
            budget=self.budget,
            single=self.batch_size is None,
        )
        executor = self._executor(plan)
        return Gather(self.dataset, columns, plan, executor, batch_nbytes=batch_nbytes, budget=self.budget)

    def fetch(self, workers: int) -> Fetch:
        """Fetches samples on ``workers`` threads (0: in the consumer's)."""
        plan = plan_samples(workers, self.prefetch_factor)
        collate, executor, timeout = self._collate(Collate()), self._executor(plan), self.torchs["timeout"]
        return Fetch(self.dataset, collate, plan, executor, batched=self.batched, budget=self.budget, timeout=timeout)

    def _collate(self, default: Callable[[Any], Any]) -> Callable[[Any], Any]:
        if self.collate is not None or not self.batched:
            return self.collate or self.convert
        return as_is if gives_batches(self.dataset) else default

    def _executor(self, plan: Plan) -> PersistentExecutor:
        return self.executor or PersistentExecutor(plan.workers or None)

    def processes(self, workers: int) -> Processes:
        """Torch's own DataLoader with ``workers`` processes."""
        dataset = self.dataset
        collate = self._collate(vectorized_collate)
        settings = self.torchs | {
            "num_workers": workers,
            "prefetch_factor": (self.prefetch_factor or PREFETCH_FACTOR) if workers else None,
            "persistent_workers": bool(self.persists) and workers > 0,
        }
        if self.seed is not None:
            settings["generator"] = torch.Generator()
        indices, copies = None, None
        if isinstance(dataset, IterableDataset):
            settings |= {"batch_size": self.batch_size, "drop_last": self.drop_last}
            if workers and may_have_states(dataset):
                copies = Copies(dataset, self.batch_size)
                dataset = Stream(copies)
        else:
            indices = Indices(self.indices)
            settings |= {"batch_sampler": indices} if self.batched else {"batch_size": None, "sampler": indices}
            if self.skips:
                dataset, collate = Good(dataset), Packed
            elif self.batched and self.collate is None and as_columns(dataset) is not None:
                dataset, collate = Gathered(dataset), as_is
            elif not isinstance(dataset, MapDataPipe):
                copies = Copies(dataset) if workers and is_stateful(dataset) else None
                dataset = Noted(dataset) if copies is None else Continued(dataset)
        if isinstance(dataset, (Noted, Stream)):
            settings["worker_init_fn"] = partial(
                init_worker, settings["worker_init_fn"], None if isinstance(dataset, Stream) else copies
            )
        if workers and not self.skips:
            collate = partial(sent, collate) if copies is None else partial(sent_with_state, copies, collate)
        loader = DataLoader(dataset, collate_fn=collate, **settings)
        return Processes(loader, indices, seed=self.seed, copies=copies)
