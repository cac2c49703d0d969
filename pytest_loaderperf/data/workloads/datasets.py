"""torch datasets from a workload's arrays, one sample or one batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from pytest_loaderperf.data.arrays.ragged import Ragged

T = TypeVar("T")
Pair = tuple[torch.Tensor, torch.Tensor]


class ArrayDataset(Dataset[Pair]):
    """Map-style dataset of ``(features[i], label[i])`` tensors that share memory with the arrays."""

    def __init__(self, features: np.ndarray, labels: np.ndarray) -> None:
        self.features = torch.from_numpy(features)
        self.labels = torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> Pair:
        return self.features[index], self.labels[index]


class BatchedArrayDataset(ArrayDataset):
    """The same with ``__getitems__``, which returns a complete batch: use it with ``collate_fn=as_is``."""

    def __getitems__(self, indices: Sequence[int]) -> Pair:
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return self.features[chosen], self.labels[chosen]


class RaggedDataset(Dataset[Pair]):
    """Map-style dataset of ``(rows[i], label[i])`` tensors over the arrays' memory, with rows of different lengths."""

    def __init__(self, rows: Ragged, labels: np.ndarray) -> None:
        self.rows = rows
        self.labels = torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Pair:
        return torch.from_numpy(self.rows[index]), self.labels[index]


def as_is(batch: T) -> T:
    """The collate function for datasets whose ``__getitems__`` returns a finished batch."""
    return batch
