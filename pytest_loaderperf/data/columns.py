"""Arrays and tensors as columns that a batch can be gathered from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import TensorDataset

from pytest_loaderperf.data.fields import tensor_over
from pytest_loaderperf.data.tensors import as_rows, is_arrow
from pytest_loaderperf.errors import DataError

Order = np.ndarray | range  # indices
Rebuild = Callable[[Sequence[torch.Tensor]], Any]
_PIECE_NBYTES = 64 << 10  # of rows that are converted at once


class Gathered(Protocol):
    """Rows of one ``shape`` and ``dtype``; batches of them have ``torch_dtype`` (None: that of ``dtype``)."""

    @property
    def torch_dtype(self) -> torch.dtype | None: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def gather(self, indices: Order, out: np.ndarray) -> None:
        """Copy the rows at ``indices`` into ``out``, which is C-contiguous and in the machine's byte order."""


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Rows to gather from: ``rows`` shares the caller's memory; batches have ``torch_dtype`` (None: that of ``rows``).

    ``takes_in_place``: NumPy can gather from these rows without first copying all of them.
    """

    rows: np.ndarray
    torch_dtype: torch.dtype | None
    takes_in_place: bool

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.rows.dtype.newbyteorder("=")

    def gather(self, indices: Order, out: np.ndarray) -> None:
        """Copy the rows at ``indices`` into ``out``, which is C-contiguous and in the machine's byte order."""
        rows = self.rows
        if isinstance(indices, range):
            np.copyto(out, rows[indices.start : indices.stop : indices.step])
        elif self.takes_in_place:
            # Without mode="clip" NumPy gathers into a buffer of its own first. Indices come from epoch_order: in range.
            rows.take(indices, 0, out, "clip")
        else:
            # Such rows go through a copy of NumPy's own: in pieces, so that it stays small beside the buffers.
            step = max(1, _PIECE_NBYTES // max(1, out[:1].nbytes))
            for start in range(0, len(out), step):
                out[start : start + step] = rows[indices[start : start + step]]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Columns of equal length, and ``rebuild``, which puts one tensor a column into the caller's structure."""

    columns: tuple[Gathered, ...]
    rebuild: Rebuild

    def __len__(self) -> int:
        return len(self.columns[0])

    def batch_maker(self) -> Callable[[Sequence[np.ndarray]], Any]:
        """A function from one array a column to the batch of tensors that share their memory."""
        rebuild = self.rebuild
        if all(column.torch_dtype is None for column in self.columns):
            wrap = torch.from_numpy
            if rebuild is tuple:
                return lambda arrays: tuple(map(wrap, arrays))
            if rebuild is list:
                return lambda arrays: list(map(wrap, arrays))
            return lambda arrays: rebuild(list(map(wrap, arrays)))
        columns = self.columns
        return lambda arrays: rebuild([tensor_over(a, c.torch_dtype) for c, a in zip(columns, arrays, strict=True)])


def as_columns(dataset: object) -> Columns | None:
    """Columns over a dict or tuple of arrays or tensors, one array or tensor, or a TensorDataset; else None.

    The batch has the structure of ``dataset``; that of a TensorDataset is a list, as torch's own collate makes it.

    Raises DataError where a field is not numeric, has no rows, or differs in length from the others.
    """
    fields: dict[Any, object]
    rebuild: Rebuild
    if isinstance(dataset, RowDataset):
        return dataset.columns
    whole = dataset.tensors if type(dataset) is TensorDataset else (dataset,)
    if any(isinstance(tensor, torch.Tensor) and tensor.requires_grad for tensor in whole):
        return None  # its samples carry the gradient on, as in torch
    if type(dataset) is TensorDataset:  # a subclass may have a __getitem__ of its own
        fields = dict(enumerate(dataset.tensors))
        rebuild = list
    elif isinstance(dataset, (np.ndarray, torch.Tensor)) or is_arrow(dataset):
        fields = {0: dataset}
        rebuild = _first
    elif isinstance(dataset, Mapping):
        fields = dict(dataset)
        rebuild = DictOf(tuple(dataset))
    elif type(dataset) is tuple or (isinstance(dataset, tuple) and hasattr(dataset, "_make")):
        fields = dict(enumerate(dataset))
        rebuild = getattr(dataset, "_make", tuple)
    else:
        return None
    if not fields:
        raise DataError("the dataset has no fields. Expected at least one array or tensor.")
    columns = tuple(column_over(str(name), field) for name, field in fields.items())
    lengths = {name: len(column.rows) for name, column in zip(fields, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        raise DataError(f"all fields must have the same number of samples, but {lengths} came. Cut them to one length.")
    return Columns(columns, rebuild)


def _first(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return tensors[0]


@dataclass(frozen=True, slots=True)
class DictOf:
    """Puts one tensor a name into a dict."""

    names: tuple[Any, ...]

    def __call__(self, tensors: Sequence[torch.Tensor]) -> dict[Any, torch.Tensor]:
        return dict(zip(self.names, tensors, strict=True))


def column_over(name: str, field: object) -> Column:
    """A column over the memory of ``field``, an array-like of rows. Raises DataError where it is not numeric."""
    array, torch_dtype, _ = as_rows(field, copy=None, name=f"field {name!r}")
    if array.ndim == 0:
        raise DataError(f"field {name!r} is a single number; expected rows along its first dimension.")
    flags = array.flags
    return Column(array, torch_dtype, flags.c_contiguous and flags.aligned and array.dtype.isnative)


class RowDataset:
    """Arrays as a map-style dataset: single samples by a whole number, batches by what `places` takes."""

    def __init__(self, source: object) -> None:
        self._source, self.columns = source, as_columns(source)

    def __len__(self) -> int:
        return len(self._columns())

    def _columns(self) -> Columns:
        assert self.columns is not None
        return self.columns

    def __getstate__(self) -> dict[str, Any]:
        return {"_source": self._source}  # of which the columns are views, that would be pickled as copies

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._source, self.columns = state["_source"], as_columns(state["_source"])

    def __getitem__(self, index: Any) -> Any:
        columns = self._columns()
        indices, single = places(len(columns), index)
        arrays = [np.empty((len(indices), *column.shape), column.dtype) for column in columns.columns]
        for column, array in zip(columns.columns, arrays, strict=True):
            column.gather(indices, array)
        tensors = [tensor_over(a, c.torch_dtype) for c, a in zip(columns.columns, arrays, strict=True)]
        return columns.rebuild([tensor[0] for tensor in tensors] if single else tensors)


class BatchDataset(RowDataset):
    """Arrays as a dataset that gives whole batches at once, to workers that need not collate them."""

    def __getitems__(self, indices: list[int]) -> Any:
        return self[checked_indices(len(self), indices)]


def places(samples: int, index: Any) -> tuple[np.ndarray, bool]:
    """The rows that ``index`` asks for, as int64 from 0 up, and whether that is a single sample and no batch.

    A batch is asked for by a slice, a mask of one bool a sample, or a list, tuple, range, array or tensor of whole
    numbers, none of which may be there. Raises IndexError for what lies outside, and DataError for anything else.
    """
    if isinstance(index, slice):
        return np.arange(*index.indices(samples)), False
    if type(index) is int and not -samples <= index < samples:  # also one that no array can hold
        raise IndexError(f"index {index} is out of range for a dataset of {samples} samples.")
    if not isinstance(index, list | tuple | range) and not getattr(index, "ndim", 0):
        return checked_indices(samples, [index]), True
    came = np.asarray(index)
    if came.dtype.kind == "b" and came.ndim == 1:
        if len(came) != samples:
            raise IndexError(f"expected a mask of {samples} bools, one a sample, got {len(came)}. Make it as long.")
        return np.flatnonzero(came), False
    if came.shape == (0,):
        return np.empty(0, np.int64), False
    return checked_indices(samples, index), False


def checked_indices(samples: int, indices: Any) -> np.ndarray:
    """A batch of indices that a sampler gave, as int64 from 0 up. Raises DataError or IndexError."""
    came = np.asarray(indices)
    if came.ndim != 1 or not len(came) or came.dtype.kind not in "iu":
        raise DataError(
            f"a batch of indices must be a list of whole numbers, but the sampler gave {indices!r}. "
            "Arrays are indexed by position; give a map-style dataset for other keys."
        )
    least, most = int(came.min()), int(came.max())
    if least < -samples or most >= samples:
        wrong = most if most >= samples else least
        raise IndexError(f"index {wrong} is out of range for a dataset of {samples} samples.")
    came = came.astype(np.int64, copy=False)
    return np.where(came < 0, came + samples, came) if least < 0 else came
