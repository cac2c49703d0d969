"""Lance: a folder of columns that are made for taking rows by index."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.convert import any_inside
from pytest_loaderperf.data.formats.diagnosis import refuse_others
from pytest_loaderperf.data.formats.library import library
from pytest_loaderperf.data.formats.storage import (
    refuse_types,
    schema_of_text,
    schema_text,
    stored,
    stored_names,
    stored_type,
)
from pytest_loaderperf.data.formats.table import CheckedTable
from pytest_loaderperf.data.formats.writing import complete_or_absent
from pytest_loaderperf.errors import DataError

SCHEMA_KEY = b"ARROW:schema"  # in Lance's metadata of the schema, if Lance lacks a name or type of the table
_BLOB = b"lance-encoding:blob"  # in the metadata of a field
_BYTES = {"blob_handling": "all_binary"}
_RESERVED = ("_rowid", "_rowaddr", "_rowoffset", "_row_created_at_version", "_row_last_updated_at_version")


class Lance:
    """Format ``lance``. Extension types and metadata survive by Lance's own schema."""

    name = "lance"
    suffix = ".lance"
    package = "pylance"
    options = ()

    def write(self, batches: pa.RecordBatchReader, path: Path) -> None:
        """Write all rows to the folder ``path``, complete or absent. Raises DataError."""
        lance = library("lance", self.package)
        refuse_types(batches.schema, self.name, _is_refused)
        schema = _stored(batches.schema)
        with complete_or_absent(path) as new:
            lance.write_dataset(pa.RecordBatchReader.from_batches(schema, stored(batches, schema)), str(new))

    def open(self, path: Path, **options: Any) -> LanceTable:
        """The newest version of the dataset in the folder ``path``. Raises DataError."""
        return LanceTable(path, options)


class LanceTable(CheckedTable):
    """A Lance dataset. Its threads do not outlive a fork: give workers the pickled table."""

    is_folder = True

    def _open(self) -> tuple[pa.Schema, int]:
        self._dataset = self._newest()
        schema = self._dataset.schema
        self._names = dict(zip(schema.names, schema.names, strict=True))
        if text := (schema.metadata or {}).get(SCHEMA_KEY):
            kept = schema_of_text(text)
            if _stored(kept).names == schema.names:  # else others changed it since
                self._names = dict(zip(kept.names, schema.names, strict=True))
                schema = kept
        self._blobs = {field.name for field in self._dataset.schema if _is_blob(field)}
        for place, field in enumerate(schema):
            if self._names[field.name] in self._blobs and isinstance(field.type, pa.BaseExtensionType):
                schema = schema.set(place, field.with_type(pa.large_binary()))
        return schema, self._dataset.count_rows()

    def _newest(self) -> Any:
        if not (self.path / "_versions").is_dir():  # for which Lance would search repeatedly
            raise DataError(f"{self.path} holds no _versions. Expected the folder of a Lance dataset.")
        refuse_others(self.path)
        return library("lance", Lance.package).dataset(str(self.path))

    def _columns(self, columns: list[str]) -> list[str] | None:
        """The names to request from Lance; None, for all, if Lance would read one of them as an expression."""
        names = [self._names[name] for name in columns]
        return None if any(map(_is_no_name, names)) else names

    def _chosen_of(self, rows: Any, columns: list[str]) -> Any:
        return rows.select([self._names[name] for name in columns])

    def _read(self, columns: list[str]) -> pa.Table:
        rows = self._dataset.to_table(
            columns=self._columns(columns), batch_size=max(1, len(self)), **_BYTES
        )  # in one chunk
        return self._chosen_of(rows, columns)

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        names = [self._names[name] for name in columns]
        plain = [name for name in columns if self._names[name] not in self._blobs]
        arrays = {name: self._blobs_at(indices, name) for name in names if name in self._blobs}
        if plain:
            found = self._dataset.take(indices.tolist(), self._columns(plain))
            arrays |= {self._names[name]: found.column(self._names[name]) for name in plain}
        return pa.Table.from_arrays([arrays[name] for name in names], names)

    def _blobs_at(self, indices: np.ndarray, name: str) -> pa.Array:
        rows, back = np.unique(indices, return_inverse=True)
        files = self._dataset.take_blobs(name, indices=rows.tolist())
        found = [None if file is None else file.readall() for file in files]
        return pa.array([found[place] for place in back], pa.large_binary())

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        for batch in self._dataset.to_batches(columns=self._columns(columns), batch_size=rows, **_BYTES):
            yield self._chosen_of(batch, columns)

    def _close(self) -> None:
        del self._dataset


def _is_blob(field: pa.Field) -> bool:
    """Whether Lance stores its bytes separately, and by default gives their location instead of them."""
    marked = (field.metadata or {}).get(_BLOB) == b"true"
    return marked or getattr(field.type, "extension_name", "").startswith("lance.blob")


def _is_no_name(name: str) -> bool:
    """Whether Lance refuses a column of that name, or reads it as an expression."""
    return name in _RESERVED or name in ("", "*") or any(sign in name for sign in "`.\0")


def _stored(schema: pa.Schema) -> pa.Schema:
    """``schema`` itself if Lance gives it back unchanged, else one for Lance, with ``schema`` in the metadata."""
    names = stored_names(schema.names, _is_no_name)
    fields = [
        field.with_type(_stored_type(field.type)).with_name(name) for field, name in zip(schema, names, strict=True)
    ]
    stored = pa.schema(fields, schema.metadata)
    if stored.equals(schema) and not any(map(_is_blob, schema)):
        return schema
    return stored.with_metadata({**(schema.metadata or {}), SCHEMA_KEY: schema_text(schema)})


def _stored_type(kind: pa.DataType) -> pa.DataType:
    return stored_type(kind, _stored_leaf) if any_inside(kind, _is_foreign) else kind


def _stored_leaf(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        return pa.decimal128(kind.precision, kind.scale)
    return kind


def _is_foreign(kind: pa.DataType) -> bool:
    """Whether Lance lacks it, and another type of Lance can replace it."""
    if pa.types.is_fixed_size_list(kind):
        return isinstance(kind.value_type, pa.BaseExtensionType)
    return stored_type(kind, _stored_leaf).id != kind.id and not isinstance(kind, pa.BaseExtensionType)


def _is_refused(kind: pa.DataType) -> bool:
    if not pa.types.is_fixed_size_list(kind):
        return False
    item = stored_type(kind.value_type, _stored_leaf)
    while pa.types.is_fixed_size_list(item):
        item = item.value_type
    return not kind.list_size or not (pa.types.is_primitive(item) or pa.types.is_fixed_size_binary(item))
