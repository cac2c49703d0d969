"""Parquet: compressed columns in row groups; reading a row decodes its row group."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pytest_loaderperf.data.arrays.mapping import FileMapping
from pytest_loaderperf.data.formats.chunks import merged, range_by_chunk, take_by_chunk
from pytest_loaderperf.data.formats.convert import converted, is_view
from pytest_loaderperf.data.formats.parts import FolderTable, open_folder
from pytest_loaderperf.data.formats.storage import refuse_types, schema_of_text
from pytest_loaderperf.data.formats.table import CheckedTable
from pytest_loaderperf.data.formats.writing import complete_or_absent

ROW_GROUP_NBYTES = 16 << 20  # before compression; much smaller ones take more time for footers than they save in a take


class Parquet:
    """Format ``parquet``. Arrow types, extension types and metadata survive by Parquet's own Arrow schema."""

    name = "parquet"
    suffix = ".parquet"
    package = "pyarrow"
    options = ()

    def write(self, batches: pa.RecordBatchReader, path: Path) -> None:
        """Write all rows to the file ``path``, complete or absent. Raises DataError."""
        refuse_types(batches.schema, self.name, _is_refused, keeps_order=True)
        with complete_or_absent(path) as new, pq.ParquetWriter(new, batches.schema) as writer:
            for batch in map(_writable, merged(batches, ROW_GROUP_NBYTES)):
                rows = max(1, int(len(batch) * ROW_GROUP_NBYTES / max(batch.nbytes, ROW_GROUP_NBYTES)))
                writer.write_table(pa.Table.from_batches([batch]), row_group_size=rows)

    def open(self, path: Path, **options: Any) -> CheckedTable:
        """The table in the file ``path``, or in all files of the folder. Raises DataError."""
        return open_folder(ParquetFolderTable, path, options)


class ParquetTable(CheckedTable):
    """A Parquet file, mapped into memory and decoded on request."""

    format_name = "parquet"

    def _open(self) -> tuple[pa.Schema, int]:
        self._map = FileMapping(self.path, 4 * ROW_GROUP_NBYTES)
        return self._described(pq.read_metadata(pa.BufferReader(self._map.buffer)))

    def _described(self, meta: pq.FileMetaData) -> tuple[pa.Schema, int]:
        self._meta = meta
        self._ends = np.cumsum([meta.row_group(i).num_rows for i in range(meta.num_row_groups)], dtype=np.int64)
        # Parquet renames the items of lists; its copy of the Arrow schema has the written names.
        written = (meta.metadata or {}).get(b"ARROW:schema")
        found = meta.schema.to_arrow_schema()
        schema = schema_of_text(written) if written else found
        if schema.names != found.names:  # a program copied it from another file, as a part of that one's metadata
            schema = found
        return schema, meta.num_rows

    def _file(self) -> pq.ParquetFile:
        """A reader of the mapped file for one call: a reader shared by threads crashes the process."""
        source = pa.BufferReader(self._map.buffer)
        return pq.ParquetFile(source, metadata=self._meta, pre_buffer=False, page_checksum_verification=True)

    def _read(self, columns: list[str]) -> pa.Table:
        return self._file().read(columns).select(columns)

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        rows = take_by_chunk(self._ends, partial(self._file().read_row_group, columns=columns), indices).select(columns)
        self._map.note_read(rows.nbytes, len(indices))
        return rows

    def _range(self, start: int, stop: int, columns: list[str]) -> pa.Table:
        chunk = partial(self._file().read_row_group, columns=columns)
        rows = range_by_chunk(self._ends, chunk, start, stop).select(columns)
        self._map.note_read(rows.nbytes, 1)
        return rows

    @property
    def ends(self) -> np.ndarray | None:
        """Those of its row groups."""
        ends: np.ndarray = self._ends
        return ends

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        mapping = self._map  # kept alive as long as the stream
        for batch in self._file().iter_batches(rows, columns=columns):
            yield batch.select(columns)
            mapping.note_read(batch.nbytes, 1)

    def _close(self) -> None:
        del self._map


class ParquetFolderTable(FolderTable):
    """A folder of Parquet files."""

    part = ParquetTable
    endings = (".parquet", ".pq")


def _writable(batch: pa.RecordBatch) -> pa.RecordBatch:
    """``batch`` without nulls among the values of its dictionaries, which Parquet lacks: the rows are null instead."""
    columns = [
        converted(column.dictionary_decode(), column.type)
        if pa.types.is_dictionary(column.type) and column.dictionary.null_count
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _is_refused(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return is_view(kind.value_type)
    if pa.types.is_decimal(kind):
        return bool(kind.scale < 0)
    empty = pa.types.is_fixed_size_list(kind) and not kind.list_size
    return bool(empty or pa.types.is_run_end_encoded(kind))
