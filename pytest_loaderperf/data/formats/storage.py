"""Arrow schemas and batches for libraries without extension types, with the original schema stored separately."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.arrow.lists import is_list
from pytest_loaderperf.data.formats.convert import any_inside, is_view, rebuilt, taken, with_schema, without_view
from pytest_loaderperf.data.formats.diagnosis import check_file
from pytest_loaderperf.data.formats.table import reading
from pytest_loaderperf.errors import DataError

_MOST_SHOWN = 200  # characters of a type
SCHEMA_FILE = "_schema.arrow"  # in the folders that we write: an Arrow IPC file without rows


def refuse_types(
    schema: pa.Schema, format_name: str, refused: Callable[[pa.DataType], bool], *, keeps_order: bool = False
) -> None:
    """Raise DataError for the first column of a type that ``format_name`` cannot hold, with what to do.

    ``refused``: whether a type, without the types inside it, is refused, in addition to those of most libraries:
    unions, intervals, lists of nothing but nulls, structs without fields or with two of one name, and dictionaries of
    lists and structs, or whose order means something: values are stored in their place. ``keeps_order``: dictionaries
    of texts are accepted.
    """
    for field in schema:
        if any_inside(field.type, lambda kind: refused(kind) or _is_odd(kind, keeps_order)):
            raise DataError(
                f"column {field.name!r}: expected a type that {format_name} can store and give back unchanged, got "
                f"{str(field.type)[:_MOST_SHOWN]}. Write it as arrow, which stores every type, or cast or drop that "
                "column."
            )


def _is_odd(kind: pa.DataType, keeps_order: bool) -> bool:  # noqa: FBT001 one that is passed on
    types = pa.types
    if types.is_struct(kind):
        names = [field.name for field in kind]
        return len(set(names)) < max(1, len(names))
    if types.is_dictionary(kind):
        return not _can_be_encoded(kind) or bool(
            kind.ordered and not (keeps_order and types.is_string(kind.value_type))
        )
    return bool(types.is_union(kind) or types.is_interval(kind) or (is_list(kind) and types.is_null(kind.value_type)))


def _can_be_encoded(kind: pa.DictionaryType) -> bool:
    """Whether Arrow can make such a dictionary again of its values."""
    try:
        pa.nulls(0, without_view(kind.value_type)).dictionary_encode()
    except pa.ArrowNotImplementedError:
        return False
    return True


def stored_names(names: list[str], refused: Callable[[str], bool], *, case: bool = True) -> list[str]:
    """``names``, with ``column_<place>`` for refused ones and, without ``case``, for those that differ only in case."""
    given: list[str] = []
    known = {name.lower() for name in names}
    for place, name in enumerate(names):
        new = name
        if refused(name) or (not case and name.lower() in {one.lower() for one in given}):
            new = next(one for one in (f"column_{place}" + "_" * n for n in count()) if one not in known)
        given.append(new)
    return given


def stored_schema(schema: pa.Schema, leaf: Callable[[pa.DataType], pa.DataType] = lambda kind: kind) -> pa.Schema:
    """``schema`` with types that libraries can store: no extension types, dictionaries, runs or views, at any depth.

    ``leaf``: of every other type without items or fields, what is stored for it.
    """
    return pa.schema([field.with_type(stored_type(field.type, leaf)) for field in schema], schema.metadata)


def stored_type(kind: pa.DataType, leaf: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """What `stored_schema` has for a column of ``kind``."""

    def inner(one: pa.DataType) -> pa.DataType:
        return stored_type(one, leaf)

    if isinstance(kind, pa.BaseExtensionType):
        return inner(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return inner(kind.value_type)
    if pa.types.is_list_view(kind):
        return pa.list_(kind.value_field.with_type(inner(kind.value_type)))
    if pa.types.is_large_list_view(kind):
        return pa.large_list(kind.value_field.with_type(inner(kind.value_type)))
    if is_view(kind):
        return without_view(kind)
    nested = rebuilt(kind, inner)
    return nested if kind.num_fields else leaf(kind)


def stored(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """``batches`` with the names and types of ``schema``, each in its own memory.

    Vortex and Lance panic on structs that are slices of others, DuckDB refuses them; a take copies only the slice.
    """
    for batch in batches:
        for part in with_schema(pa.Table.from_batches([batch]), schema).to_batches():
            if len(part):
                yield taken(part, np.arange(len(part)))


def schema_text(schema: pa.Schema) -> str:
    """``schema`` as ASCII text, for places that accept nothing else."""
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
        check_file(file)
        return pa.ipc.open_file(file.read_bytes()).schema
