"""Arrow schemas and batches as libraries without extension types store them, and the schema kept beside."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from pytest_loaderperf.data.formats.table import reading

SCHEMA_FILE = "_schema.arrow"  # in the folders that we write: an Arrow IPC file without rows


def stored_schema(schema: pa.Schema, leaf: Callable[[pa.DataType], pa.DataType] = lambda kind: kind) -> pa.Schema:
    """``schema`` with storage types for extension types, also inside lists and structs, and ``leaf`` of all others."""
    return pa.schema([field.with_type(_stored(field.type, leaf)) for field in schema], schema.metadata)


def _stored(kind: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        return _stored(kind.storage_type, leaf)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_stored(field.type, leaf)) for field in kind])
    for is_list, make in (
        (pa.types.is_list, pa.list_),
        (pa.types.is_large_list, pa.large_list),
        (pa.types.is_fixed_size_list, lambda item: pa.list_(item, kind.list_size)),
    ):
        if is_list(kind):
            return make(kind.value_field.with_type(_stored(kind.value_type, leaf)))
    return leaf(kind)


def stored(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """``batches`` cast to the storage types of ``schema``, and each in memory of its own.

    Vortex and Lance panic on structs that are slices of others, DuckDB refuses them; IPC writes the slice alone.
    """
    for batch in batches:
        for part in pa.Table.from_batches([batch]).cast(schema).to_batches():
            yield pa.ipc.read_record_batch(part.serialize(), schema)


def schema_text(schema: pa.Schema) -> str:
    """``schema`` as ASCII text, for places that take nothing else."""
    return b64encode(schema.serialize()).decode()


def schema_of_text(text: str | bytes) -> pa.Schema:
    """The schema that ``schema_text`` and Parquet write so."""
    return pa.ipc.read_schema(pa.py_buffer(b64decode(text)))


def write_schema(schema: pa.Schema, folder: Path) -> None:
    """Keep ``schema`` in ``folder``."""
    pa.ipc.new_file(folder / SCHEMA_FILE, schema).close()


def read_schema(folder: Path) -> pa.Schema | None:
    """The schema that ``write_schema`` kept in ``folder``, or None."""
    file = folder / SCHEMA_FILE
    if not file.exists():
        return None
    with reading(file):
        return pa.ipc.open_file(file.read_bytes()).schema
