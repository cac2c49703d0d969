"""Columns of numbers with one shape, as NumPy arrays and back, sharing memory; and tables of such arrays."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.arrays.tensors import as_rows
from pytest_loaderperf.data.arrow.lists import COMPLEX, is_number
from pytest_loaderperf.data.formats.table import CheckedTable
from pytest_loaderperf.errors import DataError


class Layout(NamedTuple):
    """The layout of one row in memory, in C order."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def layout_of(kind: pa.DataType) -> Layout | None:
    """The layout of a row of ``kind``; None if rows are not numbers of one shape."""
    if isinstance(kind, pa.FixedShapeTensorType):
        inner = layout_of(kind.value_type)
        return inner and Layout((*kind.shape, *inner.shape), inner.dtype)
    if pa.types.is_fixed_size_list(kind):
        inner = layout_of(kind.value_type)
        return inner and Layout((kind.list_size, *inner.shape), inner.dtype)
    return Layout((), np.dtype(kind.to_pandas_dtype())) if is_number(kind) else None


def layouts_of(schema: pa.Schema, format_name: str) -> list[Layout]:
    """The layout of every column. Raises DataError for one that has none."""
    layouts = []
    for field in schema:
        layout = layout_of(field.type)
        if layout is None:
            raise DataError(
                f"column {field.name!r}: expected numbers, bools, or fixed-size lists or fixed-shape tensors of them, "
                f"for {format_name}, got {field.type}. Use parquet, or drop the column."
            )
        layouts.append(layout)
    return layouts


def is_file_name(name: str) -> bool:
    """Whether it is a file's name in its folder, not a path, on this system."""
    return name not in ("", ".", "..") and "\0" not in name and Path(name).name == name and "/" not in name


def dense_array(column: pa.Array, layout: Layout, name: str) -> np.ndarray:
    """The rows of the column ``name`` in C order, sharing its memory except for bools.

    Raises DataError if it has nulls.
    """
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    rows = as_rows(storage, copy=None, name=f"column {name!r}").array
    return np.ascontiguousarray(rows.reshape(len(column), *layout.shape))


def column_of(rows: np.ndarray, kind: pa.DataType) -> pa.Array:
    """``rows`` as an Arrow array of ``kind``, sharing their memory if they are native, in C order and not bools."""
    native = np.ascontiguousarray(rows, rows.dtype.newbyteorder("="))
    return _wrapped(pa.array(native.reshape(-1)), kind, len(rows))


def _real(rows: np.ndarray) -> np.ndarray:
    """``rows`` with pairs instead of complex numbers, sharing their memory if they are in C order."""
    if rows.dtype.kind != "c":
        return rows
    parts = np.dtype(f"{rows.dtype.byteorder}f{rows.dtype.itemsize // 2}")
    return np.ascontiguousarray(rows)[..., None].view(parts)


def _wrapped(values: pa.Array, kind: pa.DataType, rows: int) -> pa.Array:
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, _wrapped(values, kind.storage_type, rows))
    if pa.types.is_fixed_size_list(kind):
        items = _wrapped(values, kind.value_type, rows * kind.list_size)
        return pa.Array.from_buffers(kind, rows, [None], children=[items])
    return values


def field_of(name: str, layout: Layout) -> pa.Field:
    """The field of rows without a written schema. Complex numbers are pairs, and the metadata say so."""
    real = real_layout(layout)
    return pa.field(
        name, kind_of(real), metadata=None if real == layout else {COMPLEX: str(layout.dtype.newbyteorder("="))}
    )


def real_layout(layout: Layout) -> Layout:
    """``layout`` in the machine's byte order, with a last dimension of two in place of complex numbers."""
    dtype = layout.dtype.newbyteorder("=")
    if dtype.kind != "c":
        return Layout(layout.shape, dtype)
    return Layout((*layout.shape, 2), np.dtype(f"f{dtype.itemsize // 2}"))


def kind_of(layout: Layout) -> pa.DataType:
    """The Arrow type of rows without a written schema: numbers, or fixed-shape tensors."""
    number = pa.from_numpy_dtype(layout.dtype.newbyteorder("="))
    return pa.fixed_shape_tensor(number, layout.shape) if layout.shape else number


_MOST_ITEM_NBYTES = {"c": 16}
MOST_NBYTES = 8  # of an item of any other kind


class OneOfArrays(Protocol):
    """An array whose rows are read on request."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def ndim(self) -> int: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


class ArraysTable(CheckedTable):
    """Rows of arrays of one length; ``read`` and ``stream`` give views of them, except for bools."""

    def _open(self) -> tuple[pa.Schema, int]:
        self._arrays, schema = self._load()
        lengths = {name: len(array) if array.ndim else None for name, array in self._arrays.items()}
        if len(set(lengths.values())) != 1 or None in lengths.values():
            raise DataError(
                f"{self.path}: expected arrays of one length, got {lengths}. Keep others elsewhere, or name "
                "those to open: columns=[...]."
            )
        for name, array in self._arrays.items():
            kind = array.dtype.kind
            if kind not in "biufc" or array.dtype.itemsize > _MOST_ITEM_NBYTES.get(kind, MOST_NBYTES):
                raise DataError(
                    f"{self.path}, column {name!r} holds {array.dtype}. Expected bools, integers or floats of at most "
                    "64 bits, or complex numbers of two such: convert it, or open the others: columns=[...]."
                )
        if schema is None:
            fields = [(name, Layout(array.shape[1:], array.dtype)) for name, array in self._arrays.items()]
            schema = pa.schema([field_of(name, layout) for name, layout in fields])
        for field in schema:
            array = self._arrays[field.name]
            layout, found = layout_of(field.type), real_layout(Layout(array.shape[1:], array.dtype))
            if layout != found:
                raise DataError(
                    f"{self.path}, column {field.name!r}: expected rows of {field.type}, as its schema says, "
                    f"got {found.dtype} of shape {found.shape}. Write it again."
                )
        return schema, len(self._arrays[schema.names[0]])

    @abstractmethod
    def _load(self) -> tuple[Mapping[str, OneOfArrays], pa.Schema | None]:
        """The arrays that are wanted by name, and the schema of these that was written, if any."""

    def _gather(self, names: list[str], rows: np.ndarray | slice) -> pa.Table:
        return self._columns_of({name: self._arrays[name][rows] for name in names})

    def _columns_of(self, arrays: Mapping[str, np.ndarray]) -> pa.Table:
        """The rows of ``arrays`` by the names of their columns."""
        columns = [column_of(_real(rows), self.schema.field(name).type) for name, rows in arrays.items()]
        return pa.Table.from_arrays(columns, list(arrays))

    def _read(self, columns: list[str]) -> pa.Table:
        return self._gather(columns, slice(None))

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        return self._gather(columns, indices)

    def _range(self, start: int, stop: int, columns: list[str]) -> pa.Table:
        return self._gather(columns, slice(start, stop))

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        for start in range(0, len(self), rows):
            yield from self._gather(columns, slice(start, start + rows)).to_batches()

    def _close(self) -> None:
        self._arrays = {}
