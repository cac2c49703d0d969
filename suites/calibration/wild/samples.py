"""Samples that take a known time, by a busy wait."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import Dataset, IterableDataset, get_worker_info

BATCH_SIZE = 8
BATCHES = 3000
SAMPLES = BATCHES * BATCH_SIZE
CORES = 2  # workers or threads of each loader


@dataclass(frozen=True, slots=True)
class Setting:
    """Seconds that a sample takes, and an empty folder that a loader's two sides share."""

    sample_s: float
    folder: Path


class Samples(Dataset[Any]):
    """Map-style; ``{"x": float32 (16,), "y": int}``."""

    def __init__(self, setting: Setting) -> None:
        self._sample_s = setting.sample_s

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> dict[str, Any]:
        return made({"y": int(index)}, self._sample_s)


class Stream(IterableDataset[Any]):
    """Iterable-style, each worker its share."""

    def __init__(self, setting: Setting) -> None:
        self._samples = Samples(setting)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        return map(self._samples.__getitem__, range(first, SAMPLES, step))


def made(row: dict[str, Any], sample_s: float) -> dict[str, Any]:
    """A sample, after the busy wait."""
    end_s = time.perf_counter() + sample_s
    while time.perf_counter() < end_s:
        pass
    return {"x": np.zeros(16, np.float32), **row}
