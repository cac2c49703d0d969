"""Columns of encoded pictures: how they are recognised, their values, and the Arrow arrays of decoded ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pytest_loaderperf.data.encoded.decoder import Decoder
from pytest_loaderperf.data.encoded.header import Header, is_picture
from pytest_loaderperf.data.formats.convert import taken
from pytest_loaderperf.data.formats.dense import Layout, column_of, kind_of
from pytest_loaderperf.data.formats.table import reading
from pytest_loaderperf.data.objects.place import ObjectPath
from pytest_loaderperf.errors import DataError

SNIFFED_ROWS = 32  # of a column; the first value that is not null shows whether it contains pictures
BYTES, PATH = "bytes", "path"  # of the struct that Hugging Face's datasets stores a picture in


class InMemory:
    """A ``pa.Table`` with the methods of a table of ``data/formats``."""

    path = Path("the table in memory")

    def __init__(self, table: pa.Table) -> None:
        self.table, self.schema = table, table.schema

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def read(self, columns: list[str]) -> pa.Table:
        """All rows."""
        return self.table.select(columns)

    def take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        """The rows at ``indices``."""
        return taken(self.table.select(columns), pa.array(indices))

    def stream(self, rows: int, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """All rows, at most ``rows`` at a time."""
        yield from self.table.select(columns).to_batches(max_chunksize=rows)

    def close(self) -> None:
        """Does nothing: no file is open."""


def picture_columns(table: Any, names: list[str]) -> list[str]:
    """Those of ``names`` that contain encoded pictures, by their type and by the first bytes of the first picture.

    ``table``: as those of ``data/formats``.
    """
    typed = [name for name in names if may_hold_pictures(table.schema.field(name).type)]
    batch = next(iter(table.stream(SNIFFED_ROWS, typed)), None) if typed else None
    if batch is None:
        return []
    found, folder = [], place_of(table).parent
    for name in typed:
        values = (encoded_bytes(value, folder) for value in batch.column(name))
        first = next((data for data in values if data is not None), None)
        if first is not None and is_picture(first):
            found.append(name)
    return found


def place_of(table: Any) -> Path | ObjectPath:
    """Where ``table`` is."""
    path = getattr(table, "path", InMemory.path)
    return path if isinstance(path, ObjectPath) else Path(path)


def may_hold_pictures(kind: pa.DataType) -> bool:
    """Whether it is binary, or a struct of bytes and path as in Hugging Face's datasets."""
    types = pa.types
    if types.is_struct(kind):
        names = {field.name: field.type for field in kind}
        return set(names) == {BYTES, PATH} and may_hold_pictures(names[BYTES])
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def encoded_bytes(value: pa.Scalar, folder: Path | ObjectPath | None = None) -> bytes | None:
    """The bytes of one value, None if it is null.

    For a struct without bytes, those of the file at its path, which is relative to ``folder``. Raises DataError.
    """
    known = value.as_py()
    if not isinstance(known, dict):
        return known  # type: ignore[no-any-return]
    if known[BYTES] is None and known[PATH] is not None:
        path = (folder or Path()) / known[PATH]
        if isinstance(path, ObjectPath):
            raise DataError(
                f"{path}: expected pictures in the column itself, got a path. Copy the table to a disk first."
            )
        with reading(path):
            content: bytes = path.read_bytes()
        return content
    return known[BYTES]  # type: ignore[no-any-return]


def paths_of(pictures: pa.StructArray, folder: Path | ObjectPath) -> list[Path]:
    """The files that `encoded_bytes` reads for ``pictures``."""
    without_bytes = pc.is_null(pictures.field(BYTES))
    paths = pictures.field(PATH).filter(without_bytes).drop_null()
    return [] if isinstance(folder, ObjectPath) else [folder / path for path in paths.to_pylist()]


def decoded_type(decoder: Decoder) -> pa.DataType:
    """The Arrow type of pictures: a fixed-shape tensor if they have one size, else lists of lists of pixels."""
    if decoder.one_shape is not None:
        return kind_of(Layout(decoder.one_shape, decoder.dtype))
    pixel = pa.from_numpy_dtype(decoder.dtype)
    if decoder.channels:
        pixel = pa.list_(pixel, decoder.channels[0])
    return pa.list_(pa.list_(pixel))


class Canvas:
    """Memory for the pictures of ``headers`` in one array: ``rows``, views to decode to, ``column``, all of them."""

    def __init__(self, decoder: Decoder, headers: list[Header]) -> None:
        self._decoder, self._shapes = decoder, [decoder.shape_of(header) for header in headers]
        sizes = [int(np.prod(shape, dtype=np.int64)) for shape in self._shapes]
        ends = np.cumsum([0, *sizes])
        self._values = np.empty(int(ends[-1]), decoder.dtype)
        parts = zip(ends[:-1], ends[1:], self._shapes, strict=True)
        self.rows = [self._values[start:end].reshape(shape) for start, end, shape in parts]

    def column(self) -> pa.Array:
        """All pictures as an array of `decoded_type`, which shares their memory."""
        kind = decoded_type(self._decoder)
        if self._decoder.one_shape is not None:
            return column_of(self._values.reshape(-1, *self._decoder.one_shape), kind)
        heights, widths = (np.array([shape[axis] for shape in self._shapes], np.int64) for axis in (0, 1))
        pixels = pa.array(self._values)
        if self._decoder.channels:
            pixels = pa.FixedSizeListArray.from_arrays(pixels, self._decoder.channels[0])
        lines = pa.ListArray.from_arrays(_offsets(np.repeat(widths, heights)), pixels)
        return pa.ListArray.from_arrays(_offsets(heights), lines).cast(kind)


def _offsets(lengths: np.ndarray) -> pa.Array:
    return pa.array(np.cumsum([0, *lengths]), pa.int32())


def present(data: bytes | None) -> bytes:
    """``data``. Raises DataError if it is null."""
    if data is None:
        raise DataError("is null, which no tensor can hold. Fill it in, or drop such rows.")
    return data
