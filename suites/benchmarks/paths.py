"""Each way of the reference loader to make batches, on the same images."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import product
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from pytest_loaderperf import ReferenceLoader
from pytest_loaderperf.data import workload

from ._case import CACHE_SECONDS, PAIRED, Figures, _Benchmarks, benchmarks, measured, paired
from ._devices import DEVICES, usable

# path: what it is given, and the numbers of workers that it exists with
PATHS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "arrays": ("arrays", (0, 2), {}),
    "optimize": ("store", (0, 2), {}),
    "samples": ("dataset", (0,), {}),
    "threads": ("dataset", (2,), {"worker_kind": "threads"}),
    "processes": ("dataset", (2,), {"worker_kind": "processes"}),
}
BATCH_SIZES, WORKERS = [32, 256], [0, 2]
WORKLOAD = "images"
CASES = [
    (path, size, workers, device)
    for path, size, workers, device in product(PATHS, BATCH_SIZES, WORKERS, usable())
    if workers in PATHS[path][1]
]
SKIPPED = [case for case in product(PATHS, BATCH_SIZES, WORKERS, DEVICES) if case[2] not in PATHS[case[0]][1]]
QUICK_CASES = [(path, 32, PATHS[path][1][0], "cpu") for path in PATHS]


class _Images(Dataset[Any]):
    """As people write it: a copy of each image."""

    def __init__(self) -> None:
        self.images, self.labels = workload(WORKLOAD).arrays

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.tensor(self.images[index]), int(self.labels[index])


def _one(path: str, batch_size: int, workers: int, device: str, _opened: ExitStack) -> Figures:
    dataset = _Images()
    kind, _, options = PATHS[path]
    source = {"arrays": _arrays, "dataset": lambda _: dataset, "store": _store}[kind](dataset)
    return paired(
        lambda: ReferenceLoader(source, batch_size, shuffle=True, num_workers=workers, device=device, **options),
        lambda: DataLoader(dataset, batch_size, shuffle=True),
        device,
    )


def _arrays(dataset: _Images) -> Any:
    return dataset.images, dataset.labels


def _store(dataset: _Images) -> Any:
    from pytest_loaderperf.data import optimize

    return optimize(dataset)


@benchmarks(PAIRED)
class Paths(_Benchmarks):
    """Arrays, a dataset that ``optimize`` has read, and samples: in this thread, on threads, in processes."""

    params = (list(PATHS), BATCH_SIZES, WORKERS, DEVICES)
    param_names = ("path", "batch_size", "workers", "device")
    skip_params = SKIPPED

    def setup_cache(self) -> dict[tuple[Any, ...], Figures]:
        return measured(CASES, QUICK_CASES, _one)

    setup_cache.timeout = CACHE_SECONDS  # type: ignore[attr-defined]
