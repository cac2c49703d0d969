"""Vortex: a file of lightly compressed columns that is mapped into memory and taken from by index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.chunks import reordered
from pytest_loaderperf.data.formats.library import library
from pytest_loaderperf.data.formats.storage import (
    refuse_types,
    schema_of_text,
    schema_text,
    stored,
    stored_names,
    stored_schema,
)
from pytest_loaderperf.data.formats.table import CheckedTable
from pytest_loaderperf.data.formats.writing import complete_or_absent

# Vortex stores neither extension types nor metadata. A last column of nulls, which takes no space, has the Arrow schema
# for its name: unlike a second file it can neither be lost nor belong to another version of the table.
SCHEMA_COLUMN = "ARROW:schema:"


class Vortex:
    """Format ``vortex``."""

    name = "vortex"
    suffix = ".vortex"
    package = "vortex-data"
    options = ()

    def write(self, batches: pa.RecordBatchReader, path: Path) -> None:
        """Write all rows to the file ``path``, complete or absent. Raises DataError."""
        write = library("vortex.io", self.package).write
        refuse_types(batches.schema, self.name, lambda _: False)
        schema = _stored(batches.schema)
        marked = schema.append(pa.field(SCHEMA_COLUMN + schema_text(batches.schema), pa.null()))
        with complete_or_absent(path) as new:
            rows = (
                pa.record_batch([*batch.columns, pa.nulls(len(batch))], schema=marked)
                for batch in stored(batches, schema)
            )
            write(pa.RecordBatchReader.from_batches(marked, rows), str(new))

    def open(self, path: Path, **options: Any) -> VortexTable:
        """The table in the file ``path``, which must not be cut while it is mapped. Raises DataError."""
        return VortexTable(path, options)


class VortexTable(CheckedTable):
    """A Vortex file mapped into memory and decoded on request."""

    format_name = "vortex"

    def _open(self) -> tuple[pa.Schema, int]:
        self._vortex = library("vortex", Vortex.package)
        self._file = self._library_file()
        schema = self._file.dtype.to_arrow_schema()
        if schema.names and schema.names[-1].startswith(SCHEMA_COLUMN):
            schema = schema_of_text(schema.names[-1].removeprefix(SCHEMA_COLUMN))
        self._stored = _stored(schema)
        return schema, len(self._file)

    def _library_file(self) -> Any:
        return self._vortex.open(str(self.path), memory_map=True)

    def _scan(self, columns: list[str], **rows: object) -> pa.RecordBatchReader:
        chosen = [self._stored.field(self.schema.get_field_index(name)) for name in columns]
        return self._file.to_arrow([field.name for field in chosen], schema=pa.schema(chosen), **rows)

    def _read(self, columns: list[str]) -> pa.Table:
        return self._scan(columns, batch_size=max(1, len(self))).read_all()  # in one chunk

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        rows, back = np.unique(indices, return_inverse=True)  # it accepts only strictly increasing ones
        chosen = self._vortex.array(pa.array(rows.astype(np.uint64)))
        return reordered(self._scan(columns, indices=chosen).read_all(), back)

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        reader: Iterator[pa.RecordBatch] = self._scan(columns, batch_size=rows)
        return reader

    def _close(self) -> None:
        del self._file


def _stored(schema: pa.Schema) -> pa.Schema:
    stored = stored_schema(schema, _stored_leaf)
    names = stored_names(stored.names, lambda name: not name or "\0" in name)
    return pa.schema([field.with_name(name) for field, name in zip(stored, names, strict=True)])


def _stored_leaf(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    return pa.int64() if pa.types.is_duration(kind) else kind
