"""Parquet and Arrow IPC files in object stores, by row groups and record batches."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pytest_loaderperf.data.formats.arrow_ipc import STREAM, ArrowIpcTable
from pytest_loaderperf.data.formats.chunks import take_by_chunk
from pytest_loaderperf.data.formats.diagnosis import DAMAGED
from pytest_loaderperf.data.formats.parquet import ParquetTable
from pytest_loaderperf.data.formats.remote.table import END_NBYTES, ObjectTable, first_nbytes
from pytest_loaderperf.data.formats.table import CheckedTable
from pytest_loaderperf.data.objects.failures import DISK
from pytest_loaderperf.data.objects.ranges import AHEAD_NBYTES, Blocks, Range
from pytest_loaderperf.errors import DataError

_PARQUET = b"PAR1"


class ParquetObject(ObjectTable, ParquetTable):
    """A Parquet file: the requested columns of the row groups touched are read, the next ones ahead."""

    def _open(self) -> tuple[pa.Schema, int]:
        end = self.content.nbytes
        tail = self.content.fetch([Range(end - END_NBYTES, end)]).whole(0) if end else pa.py_buffer(b"")
        if tail[-4:].to_pybytes() != _PARQUET or tail.size < 3 * len(_PARQUET):
            self._refuse_others("parquet")
        footer_nbytes = struct.unpack("<i", tail[-8:-4].to_pybytes())[0] + 8
        if tail.size < min(footer_nbytes, end):
            tail = self.content.fetch([Range(end - footer_nbytes, end)]).whole(0)
        return self._described(pq.read_metadata(pa.BufferReader(tail)))

    def _groups(self, groups: Iterable[int], columns: list[str], first: int = AHEAD_NBYTES) -> Iterator[pq.ParquetFile]:
        """A reader of each of ``groups``, whose bytes are there."""
        for blocks in self.content.ahead((self._ranges(group, columns) for group in groups), first):
            yield pq.ParquetFile(
                self.content.file(blocks), metadata=self._meta, pre_buffer=False, page_checksum_verification=True
            )

    def _ranges(self, group: int, columns: list[str]) -> list[Range]:
        """Where the row group has the columns. The reader requests what is missing here by itself."""
        row_group, names, found = self._meta.row_group(group), set(columns), []
        for place in range(row_group.num_columns):
            leaf = row_group.column(place)
            path = leaf.path_in_schema  # a.b.c, of the column a, a.b or a.b.c
            if path in names or any(path[:end] in names for end, sign in enumerate(path) if sign == "."):
                start = min(leaf.data_page_offset, leaf.dictionary_page_offset or leaf.data_page_offset)
                found.append(Range(start, start + leaf.total_compressed_size))
        return found

    def _read(self, columns: list[str]) -> pa.Table:
        if not len(self._ends):
            return pa.Table.from_batches([], self._chosen(columns))
        files = enumerate(self._groups(range(len(self._ends)), columns))
        return pa.concat_tables([file.read_row_group(group, columns).select(columns) for group, file in files])

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        groups = np.unique(np.searchsorted(self._ends, indices, side="right")).tolist()
        files = self._groups(groups, columns)  # in the order in which they are asked for
        return take_by_chunk(
            self._ends, lambda group: next(files).read_row_group(group, columns=columns), indices
        ).select(columns)

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        for group, file in enumerate(self._groups(range(len(self._ends)), columns, first_nbytes(rows))):
            for batch in file.iter_batches(rows, row_groups=[group], columns=columns):
                yield batch.select(columns)

    def _close(self) -> None:
        del self._meta


class ArrowObject(ObjectTable, ArrowIpcTable):
    """An Arrow IPC file, by record batches. A compressed one is decoded."""

    def _open(self) -> tuple[pa.Schema, int]:
        ends, end = self._both_ends("arrow"), self.content.nbytes
        if self._bytes(ends, Range(0, len(STREAM))) == STREAM:
            raise DataError(f"{self.path} is an Arrow stream, which has no index of its batches. {DISK}.")
        (footer_nbytes,) = struct.unpack("<i", self._bytes(ends, Range(end - 10, end - 6)))
        footer = Range(end - 10 - footer_nbytes, end)
        ends = ends if ends.get(*footer) else self.content.fetch([footer])
        dictionaries, self._places = blocks_of(self._bytes(ends, footer)[:-10])
        wholes = [one.all for one in dictionaries]
        self._common = self.content.fetch([footer, *wholes, *(one.head for one in self._places)])
        lengths = [rows_of(self._bytes(self._common, one.head)) for one in self._places]
        self._ends = np.cumsum(lengths, dtype=np.int64)
        self._schema = pa.ipc.open_file(self.content.file(self._common)).schema
        return self._schema, sum(lengths)

    def _bytes(self, blocks: Blocks, one: Range) -> bytes:
        found = blocks.get(*one)
        if found is None:
            raise DataError(f"{self.path} is damaged: its footer points outside of it. {DAMAGED}.")
        return bytes(found.to_pybytes())

    def _batches_at(
        self, places: Sequence[int], columns: list[str], first: int = AHEAD_NBYTES
    ) -> Iterator[pa.RecordBatch]:
        found = self.content.ahead(([self._places[place].all] for place in places), first)
        for place, blocks in zip(places, found, strict=True):
            reader = pa.ipc.open_file(self.content.file(blocks, self._common))
            yield reader.get_batch(place).select(columns)

    def _read(self, columns: list[str]) -> pa.Table:
        batches = self._batches_at(range(len(self._places)), columns)
        return pa.Table.from_batches(batches, pa.schema([self._schema.field(name) for name in columns]))

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        touched = np.unique(np.searchsorted(self._ends, indices, side="right")).tolist()
        batches = self._batches_at(touched, columns)  # in the order in which they are asked for
        return take_by_chunk(self._ends, lambda _: pa.Table.from_batches([next(batches)]), indices)

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        return self._batches_at(range(len(self._places)), columns, first_nbytes(rows))

    def _sound(self, rows: pa.Table) -> pa.Table:
        return CheckedTable._sound(self, rows)  # noqa: SLF001 not that of the mapped file, whose batches are checked

    def _close(self) -> None:
        del self._common


class _Block(NamedTuple):
    """A message in an Arrow file: its start, and the bytes of its metadata and its body."""

    start: int
    head_nbytes: int
    body_nbytes: int

    @property
    def head(self) -> Range:
        return Range(self.start, self.start + self.head_nbytes)

    @property
    def all(self) -> Range:
        return Range(self.start, self.start + self.head_nbytes + self.body_nbytes)


# Arrow's metadata are FlatBuffers (Footer and Message of its format's specification), of which these read three fields:
# pyarrow tells neither where batches are nor, without reading them, how many rows they have.
_DICTIONARIES, _BATCHES = 2, 3  # fields of Footer
_HEADER, _LENGTH = 2, 0  # of Message, and of the RecordBatch in it
_BLOCK = struct.Struct("<qi4xq")


def blocks_of(footer: bytes) -> tuple[list[_Block], list[_Block]]:
    """The dictionaries and the record batches that an Arrow file's ``footer`` lists. Raises struct.error if damaged."""
    root = _uint(footer, 0)
    return _vector(footer, _field(footer, root, _DICTIONARIES)), _vector(footer, _field(footer, root, _BATCHES))


def rows_of(message: bytes) -> int:
    """The rows of the record batch with the metadata ``message``. Raises struct.error if it is damaged."""
    data = message[8:] if message.startswith(STREAM) else message[4:]
    header = _field(data, _uint(data, 0), _HEADER)
    assert header is not None
    length = _field(data, header + _uint(data, header), _LENGTH)
    return 0 if length is None else int(struct.unpack_from("<q", data, length)[0])


def _uint(data: bytes, at: int) -> int:
    return int(struct.unpack_from("<I", data, at)[0])


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where a field of the table at ``table`` is; None if it has its default."""
    fields = table - int(struct.unpack_from("<i", data, table)[0])
    slot = 4 + 2 * number
    if slot >= struct.unpack_from("<H", data, fields)[0]:
        return None
    offset = int(struct.unpack_from("<H", data, fields + slot)[0])
    return table + offset if offset else None


def _vector(data: bytes, at: int | None) -> list[_Block]:
    if at is None:
        return []
    start = at + _uint(data, at)
    return [_Block(*_BLOCK.unpack_from(data, start + 4 + i * _BLOCK.size)) for i in range(_uint(data, start))]
