"""Arrays and tensors as columns that a batch can be gathered from."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import TensorDataset

from pytest_loaderperf.data.arrays.fields import is_plain, tensor_over
from pytest_loaderperf.data.arrays.indices import checked_indices, places
from pytest_loaderperf.data.arrays.tensors import as_rows, is_arrow
from pytest_loaderperf.errors import DataError

Order = np.ndarray | range  # indices
Rebuild = Callable[[Sequence[torch.Tensor]], Any]
_BUFFERS = (array, bytearray, memoryview)  # bytes are a sample
_PIECE_NBYTES = 64 << 10  # of rows that are converted together


class Gathered(Protocol):
    """Rows of one ``shape`` and ``dtype``; their batches have ``torch_dtype`` (None: that of ``dtype``)."""

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
            # Without mode="clip" NumPy first gathers into a buffer of its own. The caller has checked the indices.
            rows.take(indices, 0, out, "clip")
        else:
            # NumPy copies such rows first: in pieces, so that the copy is small compared with the buffers.
            step = max(1, _PIECE_NBYTES // max(1, out[:1].nbytes))
            for start in range(0, len(out), step):
                out[start : start + step] = rows[indices[start : start + step]]


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Columns of equal length, and ``rebuild``, which puts one tensor for each column into the caller's structure."""

    columns: tuple[Gathered, ...]
    rebuild: Rebuild

    def __len__(self) -> int:
        return len(self.columns[0])

    def rows_at(self, indices: Order) -> Any:
        """The batch of the rows at ``indices``, in fresh memory."""
        arrays = [np.empty((len(indices), *column.shape), column.dtype) for column in self.columns]
        for column, rows in zip(self.columns, arrays, strict=True):
            column.gather(indices, rows)
        return self.batch_maker()(arrays)

    def batch_maker(self) -> Callable[[Sequence[np.ndarray]], Any]:
        """A function from one array for each column to the batch of tensors that share their memory."""
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
    None also if samples are more than rows of numbers: strings, gradients, a tensor's subclass.

    Raises DataError if a field of a dict or tuple is not numeric, has no rows, or differs in length from the others.
    """
    if isinstance(dataset, RowDataset):
        return dataset.current()
    if (fields := _fields(dataset)) is None:
        return None
    if not fields:
        raise DataError("the dataset has no fields. Expected at least one array or tensor.")
    columns = tuple(column_over(str(name), field) for name, field in fields.items())
    lengths = {name: len(column.rows) for name, column in zip(fields, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        raise DataError(f"expected fields of one length, got {lengths}. Cut them to the same number of samples.")
    rebuild: Rebuild = list
    if isinstance(dataset, Mapping):
        rebuild = DictOf(tuple(dataset))
    elif isinstance(dataset, tuple):
        rebuild = getattr(dataset, "_make", tuple)
    elif type(dataset) is not TensorDataset:
        rebuild = _first
    return Columns(columns, rebuild)


def _fields(dataset: object) -> dict[Any, object] | None:
    """The arrays of a dataset by name; None if it is not columns."""
    if type(dataset) is TensorDataset:  # a subclass may have a __getitem__ of its own
        tensors: dict[Any, object] = dict(enumerate(dataset.tensors))
        return tensors if all(map(_only_rows, tensors.values())) else None
    if isinstance(dataset, (np.ndarray, torch.Tensor)):
        return {0: dataset} if _only_rows(dataset) else None
    if is_arrow(dataset):
        return {0: dataset}
    return _named(dataset) if is_named(dataset) else None


def _named(dataset: Any) -> dict[Any, object]:
    return dict(dataset) if isinstance(dataset, Mapping) else dict(enumerate(dataset))


def is_named(dataset: Any) -> bool:
    """Whether a dict or tuple is columns. Otherwise it is a dataset of its items, as in torch.

    The latter are a dict with integer keys, a tuple without any array, and a mapping with ``__getitems__``.
    """
    if isinstance(dataset, Mapping):
        by_number = bool(dataset) and all(isinstance(key, Integral) for key in dataset)
        return not by_number and getattr(dataset, "__getitems__", None) is None
    plain = type(dataset) is tuple or (isinstance(dataset, tuple) and hasattr(dataset, "_make"))
    return plain and (not dataset or any(map(_is_array, dataset)))


def _is_array(field: object) -> bool:
    kinds = hasattr(field, "__array__") or hasattr(field, "__dlpack__") or is_arrow(field) or type(field) in _BUFFERS
    return kinds and not isinstance(field, np.generic)


def _only_rows(field: Any) -> bool:
    """Whether the samples of an array or tensor are nothing but numbers."""
    if isinstance(field, torch.Tensor):
        return is_plain(field) and not field.is_conj() and not field.is_neg()
    return type(field) in (np.ndarray, np.memmap) and field.dtype.kind not in "OSU"


class _Same:
    """Equal to another one of the same object, which it keeps alive."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other._value is self._value

    def __hash__(self) -> int:
        return id(self._value)


def state_of(dataset: object) -> tuple[Any, ...] | None:
    """A value that changes when columns of ``dataset`` are replaced, resized or added. None: it has no columns.

    New numbers in the same memory are the same columns.
    """
    if isinstance(dataset, RowDataset):
        return (_Same(dataset.current()),)
    fields = _fields(dataset)
    return None if fields is None else tuple((name, *_memory(field)) for name, field in fields.items())


def _memory(field: Any) -> tuple[Any, ...]:
    if isinstance(field, torch.Tensor):
        return _Same(field), field.data_ptr(), field.shape, field.stride(), field.dtype
    if isinstance(field, np.ndarray):
        return _Same(field), field.ctypes.data, field.shape, field.strides, field.dtype
    return (_Same(field),)


def _first(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return tensors[0]


@dataclass(frozen=True, slots=True)
class DictOf:
    """Puts one tensor for each name into a dict."""

    names: tuple[Any, ...]

    def __call__(self, tensors: Sequence[torch.Tensor]) -> dict[Any, torch.Tensor]:
        return dict(zip(self.names, tensors, strict=True))


def column_over(name: str, field: object) -> Column:
    """A column over the memory of ``field``, an array-like of rows. Raises DataError if it is not numeric."""
    if isinstance(field, torch.Tensor) and type(field) not in (torch.Tensor, torch.nn.Parameter):
        raise DataError(
            f"field {name!r}: expected a plain tensor, got {type(field).__name__}, whose type batches would lose. "
            "Give field.as_subclass(torch.Tensor), or a TensorDataset, which keeps it."
        )
    array, torch_dtype, _ = as_rows(field, copy=None, name=f"field {name!r}")
    if array.ndim == 0:
        raise DataError(f"field {name!r} is a single number; expected rows along its first dimension.")
    flags = array.flags
    return Column(array, torch_dtype, flags.c_contiguous and flags.aligned and array.dtype.isnative)


class RowDataset:
    """Arrays as a map-style dataset: single samples by an integer, batches by what `places` accepts.

    ``source`` may be changed: each read uses its arrays at that time.
    """

    source: Any = None  # of a subclass, which defines the columns
    _state: Any = None

    def __init__(self, source: object) -> None:
        self.source, self.columns, self._state = source, as_columns(source), state_of(source)

    def __len__(self) -> int:
        return len(self._columns())

    def current(self) -> Columns | None:
        """The columns of the source as it is now."""
        if self._state is not None and (state := state_of(self.source)) != self._state:
            self.columns, self._state = as_columns(self.source), state
        return self.columns

    def _columns(self) -> Columns:
        columns = self.current()
        assert columns is not None
        return columns

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source}  # the columns are views of it, which would be pickled as copies

    def __setstate__(self, state: dict[str, Any]) -> None:
        RowDataset.__init__(self, state["source"])

    def __getitem__(self, index: Any) -> Any:
        columns = self._columns()
        indices, single = places(len(columns), index)
        if not single:
            return columns.rows_at(indices)
        arrays = [np.empty(column.shape, column.dtype) for column in columns.columns]
        for column, row in zip(columns.columns, arrays, strict=True):
            column.gather(indices, row[None])
        return columns.batch_maker()(arrays)


class BatchDataset(RowDataset):
    """Arrays as a dataset of whole batches, so that workers need not collate."""

    def __getitems__(self, indices: list[int]) -> Any:
        return self[checked_indices(len(self), indices)]
