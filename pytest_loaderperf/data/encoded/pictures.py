"""Encoded pictures of a folder or a column, as a table of pixels and as a dataset that decodes into the batch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch

from pytest_loaderperf.data.encoded.columns import (
    Canvas,
    InMemory,
    decoded_type,
    encoded_bytes,
    paths_of,
    picture_columns,
    place_of,
    present,
)
from pytest_loaderperf.data.encoded.decoder import MOST_NBYTES, Decoder, Fit, Mode, Size
from pytest_loaderperf.data.encoded.header import Header, header_of
from pytest_loaderperf.data.encoded.held import Held, held
from pytest_loaderperf.data.execution.executor import PersistentExecutor
from pytest_loaderperf.data.formats import open_table
from pytest_loaderperf.data.formats.picture_folder import PictureFiles
from pytest_loaderperf.data.formats.table import CheckedTable
from pytest_loaderperf.errors import DataError

BATCH_NBYTES = 64 << 20  # decoded together: enough for all cores, little compared with all rows
BATCH_ROWS = 256  # of encoded pictures, read together


def open_pictures(
    source: Any,
    *,
    mode: Mode = "RGB",
    size: int | Size | None = None,
    fit: Fit = "crop",
    pictures: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    most_nbytes: int = MOST_NBYTES,
) -> Pictures:
    """The pictures of ``source``: a path, a table of ``data/formats``, or a ``pa.Table``.

    ``mode``, ``size``, ``fit`` and ``most_nbytes``: see `Decoder`. ``pictures``: columns of encoded pictures;
    None: all of them. ``columns``: those to load; None: all. Raises DataError if there are no pictures.
    """
    if isinstance(source, str | os.PathLike):
        source = open_table(source)
    if isinstance(source, Pictures):
        source = source.encoded
    return Pictures(source, Decoder(mode, size, fit, most_nbytes), pictures=pictures, columns=columns)


def with_pictures(table: Any, columns: Sequence[str] | None = None) -> Any:
    """``table``, with the encoded pictures in ``columns`` (None: all) decoded to RGB."""
    encoded = InMemory(table) if isinstance(table, pa.Table) else table
    known = table.schema.names
    if isinstance(columns, str) or len(set(known)) < len(known):
        return table  # the store reports it
    found = picture_columns(encoded, [name for name in known if columns is None or name in columns])
    return Pictures(table, pictures=found) if found else table


class Pictures(CheckedTable):
    """Table of ``encoded`` with its ``pictures`` decoded; also a map-style dataset of dicts of one tensor a column.

    ``encoded``: a ``pa.Table`` or a table of ``data/formats``, which is closed with this one. ``pictures``: its columns
    of encoded pictures, binary or structs of bytes and path; None: all that are. ``columns``: those to load; None: all.
    A decoded column has fixed-shape tensors if ``decoder`` has a size, else nested lists, which may differ in shape.

    A sample is decoded on request; ``__getitem_into__`` decodes it directly into the batch. A folder's files are read
    one by one. Other tables are kept in memory, encoded, if they fit into half of the available memory; else each row
    is read from disk.

    Raises DataError if there is no such column. Reading raises it with the file or row of a damaged picture.
    """

    packages = ("pillow", "simplejpeg")  # whose versions are part of a cache's name

    def __init__(
        self,
        encoded: Any,
        decoder: Decoder | None = None,
        *,
        pictures: Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> None:
        self.encoded = InMemory(encoded) if isinstance(encoded, pa.Table) else encoded
        self.decoder, self.path = decoder or Decoder(), cast("Path", place_of(self.encoded))
        self._closed, self._rows = False, len(encoded)
        self._held: Held | None = None
        known = encoded.schema.names
        names = list(known if columns is None else columns)
        if unknown := sorted({*names, *(pictures or ())} - set(known)):
            raise DataError(f"{self.path}: expected columns out of {', '.join(known)}, got {', '.join(unknown)}.")
        found = picture_columns(self.encoded, names)
        self.pictures = found if pictures is None else list(pictures)
        if not self.pictures or set(self.pictures) - set(found):
            got = ", ".join(f"{name} of {encoded.schema.field(name).type}" for name in pictures or names)
            raise DataError(
                f"{self.path}: expected columns of encoded pictures, as binary or structs of bytes and path, got {got}."
            )
        fields = [encoded.schema.field(name) for name in names]
        kind = decoded_type(self.decoder)
        self.schema = pa.schema([f.with_type(kind) if f.name in self.pictures else f for f in fields])

    @property
    def classes(self) -> list[str]:
        """The names of a folder's classes, in the order of their labels."""
        return self.encoded.classes if isinstance(self.encoded, PictureFiles) else []

    @property
    def class_to_idx(self) -> dict[str, int]:
        """The label of each class, as in torchvision's ``ImageFolder``."""
        return {name: label for label, name in enumerate(self.classes)}

    def __reduce__(self) -> tuple[Any, ...]:
        more = self.decoder, tuple(self.pictures), tuple(self.schema.names)
        if not isinstance(self.encoded, CheckedTable):
            encoded = self.encoded.table if isinstance(self.encoded, InMemory) else self.encoded
            return _pictures, (None, encoded, *more)
        kind, given = self.encoded.__reduce__()[:2]
        return _pictures, (kind, given, *more)

    def sizes(self, name: str | None = None) -> np.ndarray:
        """Height and width of each picture as shown, int64 (rows, 2), from the headers.

        ``name``: of which column; None: of the first one of pictures. Raises DataError for one without a header.
        """
        name = name or self.pictures[0]
        found = np.empty((len(self), 2), np.int64)
        for rows, batch in self._batches([name], BATCH_ROWS):
            for row, data in self._encoded(rows, batch, name):
                found[row] = self._header(row, name, data, whole=False).size
        return found

    def mean_nbytes(self, columns: Sequence[str]) -> dict[str, float]:
        """The average bytes of a decoded picture in each of ``columns`` with pictures, from the headers.

        Empty if all have one size, because then any row shows it.
        """
        wanted = [name for name in columns if name in self.pictures and self.decoder.size is None and len(self)]
        pixel_nbytes = int(np.prod(self.decoder.channels)) * self.decoder.dtype.itemsize
        return {name: float(self.sizes(name).prod(axis=1).mean()) * pixel_nbytes for name in wanted}

    @property
    def elsewhere(self) -> Sequence[Path]:
        """Files of pictures that a column has by their paths."""
        named: list[Path] = []
        columns = [name for name in self.pictures if pa.types.is_struct(self.encoded.schema.field(name).type)]
        for _, batch in self._batches(columns, BATCH_ROWS) if columns else ():
            named += [file for name in columns for file in paths_of(batch.column(name), self.path.parent)]
        return [*getattr(self.encoded, "elsewhere", ()), *named]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._sample(index, {})

    def __getitem_into__(self, index: int, out: dict[str, Any]) -> dict[str, Any]:
        """The sample at ``index``, with its pictures decoded into the tensors of ``out`` that have their shape."""
        return self._sample(index, out)

    def _sample(self, index: int, out: dict[str, Any]) -> dict[str, Any]:
        self._check_open()
        row = int(index)
        if not -len(self) <= row < len(self):
            raise IndexError(f"index {index} is out of range for {self.path}, which has {len(self)} rows.")
        row %= len(self)
        values, sample = self._columns().values, {}
        for name in self.schema.names:
            value = values[name](row)
            sample[name] = self._tensor(row, name, value, out.get(name)) if name in self.pictures else value
        return sample

    def _tensor(self, row: int, name: str, data: bytes | None, out: torch.Tensor | None) -> torch.Tensor:
        header = self._header(row, name, data)
        try:
            shape = self.decoder.shape_of(header)
            if out is None or tuple(out.shape) != shape:
                out = torch.from_numpy(np.empty(shape, self.decoder.dtype))
            self.decoder.decode_into(present(data), out.numpy(), header)
        except DataError as error:
            raise self._named(row, name, error) from error
        return out

    def _header(self, row: int, name: str, data: bytes | None, *, whole: bool = True) -> Header:
        try:
            return header_of(present(data), whole=whole)
        except DataError as error:
            raise self._named(row, name, error) from error

    def _named(self, row: int, name: str, error: DataError) -> DataError:
        if isinstance(self.encoded, PictureFiles):
            return DataError(f"{self.encoded.files[row]}: {error}")
        return DataError(f"{self.path}, column {name!r}, row {row}: {error}")

    def _columns(self) -> Held:
        if self._held is None:
            self._held = held(self.encoded, self.path, self.schema.names, self.pictures)
        return self._held

    def _read(self, columns: list[str]) -> pa.Table:
        return pa.Table.from_batches(list(self._stream(BATCH_ROWS, columns)), self._chosen(columns))

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        batch = self.encoded.take(indices, columns).combine_chunks().to_batches()[0]
        with PersistentExecutor() as executor:
            return pa.Table.from_batches(list(self._decoded(indices, batch, executor)), self._chosen(columns))

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        with PersistentExecutor() as executor:
            for numbers, batch in self._batches(columns, min(rows, BATCH_ROWS)):
                yield from self._decoded(numbers, batch, executor)

    def _batches(self, columns: list[str], rows: int) -> Iterator[tuple[np.ndarray, pa.RecordBatch]]:
        """Encoded rows with their numbers."""
        start = 0
        for batch in self.encoded.stream(rows, columns):
            yield np.arange(start, start + len(batch)), batch
            start += len(batch)

    def _encoded(self, rows: np.ndarray, batch: pa.RecordBatch, name: str) -> Iterator[tuple[int, bytes | None]]:
        for row, value in zip(rows.tolist(), batch.column(name), strict=True):
            yield row, encoded_bytes(value, self.path.parent)

    def _decoded(
        self, rows: np.ndarray, batch: pa.RecordBatch, executor: PersistentExecutor
    ) -> Iterator[pa.RecordBatch]:
        """``batch``, whose rows have the numbers ``rows``, decoded in parts of about `BATCH_NBYTES`."""
        names = [name for name in batch.schema.names if name in self.pictures]
        data = {name: list(self._encoded(rows, batch, name)) for name in names}
        headers = {name: [self._header(row, name, one) for row, one in data[name]] for name in names}
        nbytes = np.zeros(len(batch), np.int64)
        for name in names:
            nbytes += [self._nbytes(row, name, head) for (row, _), head in zip(data[name], headers[name], strict=True)]
        for start, stop in _parts(nbytes):
            part = batch.slice(start, stop - start)
            arrays = dict(zip(batch.schema.names, part.columns, strict=True))
            for name in names:
                canvas = Canvas(self.decoder, headers[name][start:stop])
                tasks = zip(data[name][start:stop], canvas.rows, strict=True)
                futures = [
                    executor.submit(self._tensor, row, name, one, torch.from_numpy(out)) for (row, one), out in tasks
                ]
                for future in futures:
                    future.result()
                arrays[name] = canvas.column()
            yield pa.RecordBatch.from_arrays(list(arrays.values()), schema=self._chosen(batch.schema.names))

    def _nbytes(self, row: int, name: str, header: Header) -> int:
        try:
            return int(np.prod(self.decoder.shape_of(header), dtype=np.int64)) * self.decoder.dtype.itemsize
        except DataError as error:
            raise self._named(row, name, error) from error

    def _open(self) -> tuple[pa.Schema, int]:
        return self.schema, self._rows

    def _close(self) -> None:
        self._held = None
        if hasattr(self.encoded, "close"):
            self.encoded.close()


def _pictures(kind: Any, given: Any, decoder: Decoder, pictures: Sequence[str], columns: Sequence[str]) -> Pictures:
    """The pictures of a table that is made again from its pickled arguments, or of a ``given`` one."""
    return Pictures(given if kind is None else kind(*given), decoder, pictures=pictures, columns=columns)


def _parts(nbytes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of rows, each of at most `BATCH_NBYTES`, or of one row."""
    start = held = 0
    for row, one in enumerate(nbytes.tolist()):
        if row > start and held + one > BATCH_NBYTES:
            yield start, row
            start, held = row, 0
        held += one
    if len(nbytes) > start:
        yield start, len(nbytes)
