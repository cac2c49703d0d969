"""Arrays in object stores, of whose rows only those asked for are read: .npy and safetensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.dense import ArraysTable, OneOfArrays
from pytest_loaderperf.data.formats.npz import NpzTable
from pytest_loaderperf.data.formats.remote.table import ObjectTable, first_nbytes
from pytest_loaderperf.data.formats.safetensors import SCHEMA_KEY, stored_columns
from pytest_loaderperf.data.formats.storage import schema_of_text
from pytest_loaderperf.data.objects.failures import DISK
from pytest_loaderperf.data.objects.ranges import PIECE_NBYTES, Blocks, Range, StoredObject
from pytest_loaderperf.errors import DataError

_MOST_HEAD_NBYTES = 100 << 20  # of a safetensors header, as its library has it
_DTYPES = {  # of safetensors, by its names
    "BOOL": "?",
    **{f"{sign}{bits}": f"<{kind}{bits // 8}" for sign, kind in (("I", "i"), ("U", "u")) for bits in (8, 16, 32, 64)},
    **{f"F{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}


class RangeArray:
    """An array in C order in ``content``, from byte ``start``, of which only the requested rows are read."""

    def __init__(self, content: StoredObject, start: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._content, self._start, self.shape, self.dtype = content, start, shape, dtype
        self.row_nbytes = prod(shape[1:]) * dtype.itemsize

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        if isinstance(rows, slice):
            first, last, _ = rows.indices(len(self))
            return self.among(self._content.fetch([self.place(first, last)]), first, last)
        images = np.empty((len(rows), *self.shape[1:]), self.dtype)
        blocks = self._content.fetch(self.place(row, row + 1) for row in np.unique(rows).tolist())
        for place, row in enumerate(rows.tolist()):
            images[place : place + 1] = self.among(blocks, row, row + 1)
        return images

    def place(self, first: int, last: int) -> Range:
        """The bytes of the rows from ``first`` to below ``last``."""
        return Range(self._start + first * self.row_nbytes, self._start + last * self.row_nbytes)

    def among(self, blocks: Blocks, first: int, last: int) -> np.ndarray:
        """These rows, whose bytes are in ``blocks``, without a copy."""
        shape = (max(0, last - first), *self.shape[1:])
        if not prod(shape):
            return np.empty(shape, self.dtype)
        found = blocks.get(*self.place(first, last))
        assert found is not None
        return np.frombuffer(found, self.dtype).reshape(shape)


class _RangeArrays(ObjectTable, ArraysTable):
    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        """In larger parts than ``rows``, which the base divides: each is a round of requests."""
        arrays: dict[str, Any] = {name: self._arrays[name] for name in columns}
        step = max(1, PIECE_NBYTES // max(1, sum(array.row_nbytes for array in arrays.values())))
        parts = [(first, min(first + step, len(self))) for first in range(0, len(self), step)]
        lists = ([array.place(*part) for array in arrays.values()] for part in parts)
        for part, blocks in zip(parts, self.content.ahead(lists, first_nbytes(rows)), strict=True):
            found = {name: array.among(blocks, *part) for name, array in arrays.items()}
            yield from self._columns_of(found).to_batches()


class NpyObject(_RangeArrays):
    """A .npy file, whose first dimension is the rows of one column of its name."""

    format_name = "npy"

    def _load(self) -> tuple[Mapping[str, OneOfArrays], pa.Schema | None]:
        with self._head("npy") as file:
            version = np.lib.format.read_magic(file)
            read = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
            shape, fortran, dtype = read(file)
            start = file.tell()
        if fortran and len(shape) > 1:
            raise DataError(f"{self.path}: expected an array in C order, got one in Fortran order. {DISK}.")
        if dtype.hasobject:
            raise DataError(f"{self.path}: expected an array of numbers, got Python objects. Save it again as numbers.")
        expected, got = prod(shape) * dtype.itemsize, self.content.nbytes - start
        if expected != got:
            raise DataError(
                f"{self.path}: expected {expected} bytes for {dtype} of shape {shape}, got {got}. Write it again."
            )
        array = RangeArray(self.content, start, shape, dtype)
        return dict.fromkeys(self._wanted([self.path.stem]), array), None


class SafetensorsObject(_RangeArrays):
    """A safetensors file whose tensors' first dimension is the rows."""

    format_name = "safetensors"

    def _load(self) -> tuple[Mapping[str, OneOfArrays], pa.Schema | None]:
        with self._head("safetensors") as file:
            head_nbytes = struct.unpack("<Q", file.read(8).ljust(8, b"\xff"))[0]
            if head_nbytes > min(_MOST_HEAD_NBYTES, self.content.nbytes - 8):
                raise DataError(f"{self.path} is damaged or no safetensors file. Write it again.")
            head: dict[str, Any] = json.loads(file.read(head_nbytes))
        text = head.pop("__metadata__", {}).get(SCHEMA_KEY)
        schema = schema_of_text(text) if text else None
        if not head:
            raise DataError(f"{self.path} holds no tensors. Expected one for each column.")
        stored = stored_columns(schema, list(head))
        wanted = self._wanted(stored)
        arrays = {name: self._array(name, head[stored[name]], 8 + head_nbytes) for name in wanted}
        if schema is not None:
            schema = pa.schema([schema.field(name) for name in wanted], schema.metadata)
        return arrays, schema

    def _array(self, name: str, facts: dict[str, Any], start: int) -> RangeArray:
        if facts["dtype"] not in _DTYPES:
            raise DataError(f"{self.path}, column {name!r}: {facts['dtype']} cannot be read by ranges. {DISK}.")
        dtype, shape = np.dtype(_DTYPES[facts["dtype"]]), tuple(facts["shape"])
        first, last = facts["data_offsets"]
        if last - first != prod(shape) * dtype.itemsize or start + last > self.content.nbytes or first < 0:
            raise DataError(
                f"{self.path}, column {name!r} is damaged: its place does not fit its shape. Write it again."
            )
        return RangeArray(self.content, start + first, shape, dtype)


class NpzObject(ObjectTable, NpzTable):
    """A .npz file, of which the first row that is read loads the complete array."""
