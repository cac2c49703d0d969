"""The store: a map-style dataset over columns, which may be kept in any way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch

from pytest_loaderperf.data.arrays.columns import (
    Column,
    Columns,
    DictOf,
    Gathered,
    RowDataset,
    column_over,
)
from pytest_loaderperf.data.arrays.indices import checked_indices, places

Values = torch.Tensor | list[torch.Tensor]


class Taken(Protocol):
    """Samples of different shapes."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> list[np.ndarray]:
        """Copies of the samples at ``indices``, which count from 0."""


class Store(RowDataset):
    """Samples as dicts of one tensor for each column, which the caller may change; batches by what `places` accepts.

    A batch of a ragged column is a list of tensors. If no column is ragged, ReferenceLoader gathers from
    ``columns``; else pass it ``collate_fn=Collate(ragged="pad")``, or ``"list"``.
    """

    def __init__(self, kept: Mapping[str, np.ndarray | Gathered | Taken]) -> None:
        self._keep(kept)

    def _keep(self, kept: Mapping[str, np.ndarray | Gathered | Taken]) -> None:
        self._kept = kept
        self._parts: dict[str, Gathered | Taken] = {
            name: column_over(name, part) if isinstance(part, np.ndarray) else part for name, part in kept.items()
        }
        gathered = tuple(part for part in self._parts.values() if not hasattr(part, "take"))
        uniform = len(gathered) == len(self._parts)
        self.columns = Columns(gathered, DictOf(tuple(self._parts))) if uniform else None
        # A single sample of plain rows is only a copy of each, which takes a few microseconds.
        rows = [
            (name, part.rows)
            for name, part in self._parts.items()
            if isinstance(part, Column) and part.takes_in_place and part.torch_dtype is None
        ]
        self._rows = rows if len(rows) == len(self._parts) else None
        self._length = len(next(iter(self._parts.values())))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        if self._rows is not None and type(index) is int and -self._length <= index < self._length:
            return {name: torch.from_numpy(rows[index, ...].copy()) for name, rows in self._rows}
        indices, single = places(len(self), index)
        batch = {name: _batch(part, indices) for name, part in self._parts.items()}
        return {name: values[0] for name, values in batch.items()} if single else batch

    def __getitems__(self, indices: list[int]) -> list[dict[str, torch.Tensor]]:
        return samples_of(self[checked_indices(len(self), indices)])

    def wait(self) -> None:
        """Return when every sample is there: immediately, except for a store that is filled in the background."""

    def close(self) -> None:
        """Stop filling in. May be called twice."""

    def __getstate__(self) -> dict[str, Any]:
        return {"kept": self._kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._keep(state["kept"])


def _batch(part: Any, indices: np.ndarray) -> Values:
    if hasattr(part, "take"):
        return [torch.from_numpy(sample) for sample in part.take(indices)]
    out = np.empty((len(indices), *part.shape), part.dtype)
    part.gather(indices, out)
    return torch.from_numpy(out)


def samples_of(batch: dict[str, Values]) -> list[dict[str, torch.Tensor]]:
    """The samples of a batch, as views of it."""
    return [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
