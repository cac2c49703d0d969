"""Settings that are tried: arguments of the DataLoader, the reference loader in its place, and torch's threads.

``ReferenceLoader``: the loader is made anew by that class, with ``worker_kind`` and ``num_workers`` if they are given
and, with ``optimize``, over the dataset in memory. ``threads``: of torch's operations, in the workers if there are any.
``batched``: the dataset is asked for all rows of a batch at once; ``passed_on``: one inside it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from pytest_loaderperf.data import optimize
from pytest_loaderperf.diagnosis.passes.passing import PassedOn, hidden_getitems
from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.loader import ReferenceLoader

_OF_WORKERS = ("persistent_workers", "prefetch_factor", "multiprocessing_context", "timeout")


def applies(settings: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether settings change a loader with the arguments ``given``: those of workers only where there are some."""
    named = [name for name in _named(settings) if name not in _OF_WORKERS]
    return bool(named or (_named(settings) and given.get("num_workers")))


def arguments(settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments ``given`` to a DataLoader, with the settings that are tried."""
    named = _named(settings)
    workers = named.get("num_workers", given.get("num_workers"))
    if workers and "threads" in settings:
        named["worker_init_fn"] = _WithThreads(settings["threads"], given.get("worker_init_fn"))
    changed = {**given, **named}
    return changed if workers or not named else {k: v for k, v in changed.items() if k not in _OF_WORKERS}


def remade(loader: Any, settings: Mapping[str, Any]) -> Any:
    """``loader`` itself, or one with its dataset and order that is made anew."""
    if settings.get("passed_on") and (inner := hidden_getitems(loader.dataset)) is not None:
        return _with_dataset(loader, PassedOn(loader.dataset, inner), loader.collate_fn)
    if settings.get("batched"):
        if loader.collate_fn is not default_collate:
            raise LoaderError("expected torch's own collate, which a batch at once makes needless, got the user's.")
        return _with_dataset(loader, _Batched(loader.dataset), _as_it_is)
    if not settings.get("ReferenceLoader"):
        return loader
    dataset = optimize(loader.dataset) if settings.get("optimize") else loader.dataset
    order: dict[str, Any] = {"batch_sampler": loader.batch_sampler}
    if loader.batch_sampler is None:
        order = {"batch_size": None, "sampler": loader.sampler}
    chosen = {name: settings[name] for name in ("worker_kind", "num_workers") if name in settings}
    if chosen.get("worker_kind") == "processes":
        chosen["worker_init_fn"] = loader.worker_init_fn
    return ReferenceLoader(dataset, **order, **chosen, collate_fn=loader.collate_fn)


def _with_dataset(loader: Any, dataset: Any, collate_fn: Callable[[Any], Any]) -> DataLoader[Any]:
    workers = {name: getattr(loader, name) for name in _OF_WORKERS if loader.num_workers}
    order = {"batch_sampler": loader.batch_sampler, "num_workers": loader.num_workers}
    return DataLoader(dataset, **order, collate_fn=collate_fn, **workers)


def check_applied(settings: Mapping[str, Any], *, applied: bool) -> None:
    """Raise LoaderError if ``settings`` of a DataLoader changed none."""
    if _named(settings) and not applied:
        raise LoaderError("expected a DataLoader made by the factory, with num_workers by keyword, got none to change.")


def _named(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are arguments of torch's DataLoader."""
    if any(settings.get(name) for name in ("ReferenceLoader", "batched", "passed_on")):
        return {}
    return {name: value for name, value in settings.items() if name != "threads"}


class _Batched(Dataset[Any]):
    """A dataset that is asked for all rows of a batch at once, with their indices as a list."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, indices: list[int]) -> Any:
        return self._dataset[indices]


def _as_it_is(batch: Any) -> Any:
    return batch


class _WithThreads:
    """``worker_init_fn``: sets the threads of torch's operations, then calls the user's own."""

    def __init__(self, threads: int, then: Callable[[int], object] | None) -> None:
        self._threads, self._then = threads, then

    def __call__(self, worker: int) -> None:
        torch.set_num_threads(self._threads)
        if self._then is not None:
            self._then(worker)
