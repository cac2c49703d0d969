"""Where the time of a batch goes, for loaders that are built like torch's DataLoader."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

from torch.utils.data import IterableDataset

from pytest_loaderperf.data.stores.augment import gives_batches

_BATCHES = 16  # enough for shares to a few percent
_ENOUGH_SECONDS = 2.0  # if batches take seconds, one or two are enough


def stage_shares(loader: Any) -> dict[str, float]:
    """Share of a batch's time in each stage (``sampler``, ``fetch``, ``collate``), replayed in this process.

    Empty if the loader does not expose torch's ``batch_sampler``, ``dataset`` and ``collate_fn``, or if the dataset
    makes whole batches itself.
    """
    batch_sampler: Any = getattr(loader, "batch_sampler", None)
    dataset: Any = getattr(loader, "dataset", None)
    collate = getattr(loader, "collate_fn", None)
    if batch_sampler is None or collate is None or isinstance(dataset, IterableDataset) or gives_batches(dataset):
        return {}
    spent_ns = {"sampler": 0, "fetch": 0, "collate": 0}
    fetch_all = getattr(dataset, "__getitems__", None)
    clock = time.perf_counter_ns
    batches = iter(islice(batch_sampler, _BATCHES))
    while sum(spent_ns.values()) < _ENOUGH_SECONDS * 1e9:
        began_ns = clock()
        indices = next(batches, None)
        if indices is None:
            break
        indexed_ns = clock()
        samples = fetch_all(indices) if fetch_all else _some_of(dataset, indices)
        fetched_ns = clock()
        collate(samples)
        collated_ns = clock()
        spent_ns["sampler"] += indexed_ns - began_ns
        spent_ns["fetch"] += fetched_ns - indexed_ns
        spent_ns["collate"] += collated_ns - fetched_ns
    total_ns = sum(spent_ns.values())
    return {stage: ns / total_ns for stage, ns in spent_ns.items()} if total_ns else {}


def _some_of(dataset: Any, indices: Any) -> list[Any]:
    """The samples, as many as can be read in time: a part of a long batch is enough."""
    samples = []
    deadline_s = time.perf_counter() + _ENOUGH_SECONDS
    for index in indices:
        samples.append(dataset[index])
        if time.perf_counter() > deadline_s:
            break
    return samples
