"""Each workload in memory, shuffled, in the batches of its spec, by the reference loader over its arrays."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import product
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from pytest_loaderperf import ReferenceLoader
from pytest_loaderperf.data import workload
from pytest_loaderperf.loader import Collate

from ._case import CACHE_SECONDS, PAIRED, Figures, _Benchmarks, benchmarks, measured, paired
from ._devices import DEVICES, usable

NAMES = ["vectors", "digits", "images", "photos", "tokens", "tables", "volumes", "imbalanced"]


def _one(name: str, device: str, _opened: ExitStack) -> Figures:
    data = workload(name)
    batch_size, dataset = data.spec.batch_size, data.dataset()
    if data.spec.factory == "tokens":  # rows of different lengths are no arrays
        return paired(
            lambda: ReferenceLoader(dataset, batch_size, shuffle=True, collate_fn=Collate("pad"), device=device),
            lambda: DataLoader(dataset, batch_size, shuffle=True, collate_fn=_padded),
            device,
        )
    return paired(
        lambda: ReferenceLoader(data.arrays, batch_size, shuffle=True, device=device),
        lambda: DataLoader(dataset, batch_size, shuffle=True),
        device,
    )


def _padded(samples: list[Any]) -> Any:
    rows, labels = zip(*samples, strict=True)
    return pad_sequence(rows, batch_first=True), torch.as_tensor(labels)


@benchmarks(PAIRED)
class Workloads(_Benchmarks):
    """All data in memory, as arrays."""

    params = (NAMES, DEVICES)
    param_names = ("workload", "device")

    def setup_cache(self) -> dict[tuple[str, str], Figures]:
        return measured(product(NAMES, usable()), [("vectors", "cpu")], _one)

    setup_cache.timeout = CACHE_SECONDS  # type: ignore[attr-defined]
