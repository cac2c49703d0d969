"""The columns of an Arrow table as arrays over Arrow's own buffers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pytest_loaderperf.data.arrays.ragged import Flat, Ragged, alike, joined, settled
from pytest_loaderperf.data.arrays.tensors import as_rows
from pytest_loaderperf.data.arrow.lists import (
    COMPLEX,
    RowOf,
    decoded,
    flat_lists,
    is_list,
    is_number,
    items_of,
    refuse_nulls,
    shifted,
    value_type,
)
from pytest_loaderperf.data.arrow.ome_arrow import flat_images, is_ome_arrow
from pytest_loaderperf.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_PARTS = 2  # of a complex number: real, imaginary


def arrays_of(table: pa.Table) -> dict[str, np.ndarray | Ragged]:
    """Every column of ``table`` by its name: (rows, ...) if all samples have one shape, else ragged.

    Read-only views of Arrow's buffers. Columns of several chunks, bools (Arrow stores eight in a byte), and OME-Arrow
    images whose planes are out of order are copied once.

    Raises DataError, with column and row, for nulls, for what no tensor can hold, and for images as `images_of` does.
    """
    check_columns(table.schema)
    return {name: array_of(table, name) for name in table.column_names}


def array_of(table: pa.Table, name: str) -> np.ndarray | Ragged:
    """One column, as in `arrays_of`."""
    column = table.column(name)
    if _may_differ(column.type):
        return settled(flat_of(table, name))
    rows = [_rows(chunk, name, own) for chunk, own in _chunks(column, int)]
    array = rows[0] if len(rows) == 1 else np.concatenate(rows)
    dtype = complex_dtype(table.schema.field(name))
    return array if dtype is None else array.view(dtype)[..., 0]


def flat_of(table: pa.Table, name: str, row_of: RowOf = int) -> Flat:
    """A column as it is in memory, with the shape of each sample, which may differ in later chunks.

    ``row_of``: the row of the table that errors name, by the position in the column.
    """
    flat = _flat(table.column(name), name, row_of)
    dtype = complex_dtype(table.schema.field(name))
    return flat if dtype is None else Flat(flat.values.view(dtype), flat.shapes[:, :-1])


def complex_dtype(field: pa.Field) -> str | None:
    """The complex dtype of a column with real and imaginary parts as its last dimension, as in `data.formats`."""
    import pyarrow as pa

    dtype = (field.metadata or {}).get(COMPLEX.encode(), b"").decode()
    is_pairs = isinstance(field.type, pa.FixedShapeTensorType) and field.type.shape[-1] == _PARTS
    parts = field.type.value_type if is_pairs else None
    known = {"complex64": "float", "complex128": "double"}
    return dtype if dtype in known and str(parts) == known[dtype] else None


def _flat(column: pa.ChunkedArray, name: str, row_of: RowOf) -> Flat:
    if is_ome_arrow(column.type):
        return flat_images(column.chunks, name, row_of)
    if _may_differ(column.type):
        return joined([flat_lists(chunk, name, own) for chunk, own in _chunks(column, row_of)])
    parts = [_rows(chunk, name, own) for chunk, own in _chunks(column, row_of)]
    return joined([Flat(part.ravel(), alike(len(part), part.shape[1:])) for part in parts])


def check_columns(schema: pa.Schema) -> None:
    """Raise DataError that names the first column that no tensor can hold, and all that tensors can hold."""
    good = [field.name for field in schema if _holds_numbers(field.type)]
    names = schema.names
    if not names or len(set(names)) < len(names):
        raise DataError(f"expected a table with columns of different names, got {names}. Rename or add some.")
    for field in schema:
        if field.name not in good:
            raise DataError(
                f"column {field.name!r} holds {str(field.type)[:80]}, which no tensor can hold. "
                f"Encode it as numbers, or leave it out: columns={good}."
            )


def _holds_numbers(kind: pa.DataType) -> bool:
    if is_ome_arrow(kind):
        return True
    while is_list(kind := value_type(kind)):
        kind = kind.value_type
    return is_number(kind)


def _may_differ(kind: pa.DataType) -> bool:
    """Whether its samples may differ in shape."""
    from pyarrow import types

    if is_ome_arrow(kind):
        return True
    while types.is_fixed_size_list(kind := value_type(kind)):
        kind = kind.value_type
    return is_list(kind)


def _chunks(column: pa.ChunkedArray, row_of: RowOf) -> Sequence[tuple[pa.Array, RowOf]]:
    """The chunks with rows, or an empty one, and the row of each position in them."""
    import pyarrow as pa

    found, first = [], 0
    for chunk in column.chunks:
        if len(chunk):
            found.append((_plain(chunk), shifted(row_of, first)))
        first += len(chunk)
    return found or [(_plain(pa.nulls(0, column.type)), row_of)]


def _plain(chunk: pa.Array) -> pa.Array:
    """``chunk`` with values in place of dictionaries and runs, down to the items of its fixed-size lists."""
    import pyarrow as pa
    from pyarrow import types

    if isinstance(chunk, pa.ExtensionArray) and not _is_encoded(chunk.type):
        return chunk
    chunk = decoded(chunk)
    if not types.is_fixed_size_list(chunk.type) or not _is_encoded(chunk.type):
        return chunk
    items = _plain(items_of(chunk)[0])
    mask = chunk.is_null() if chunk.null_count else None
    return pa.FixedSizeListArray.from_arrays(items, chunk.type.list_size, mask=mask)


def _is_encoded(kind: pa.DataType) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return True
    inner = getattr(kind, "storage_type", None) or (kind.value_type if is_list(kind) else None)
    return inner is not None and _is_encoded(inner)


def _row_of_item(row_of: RowOf, width: int, item: int) -> int:
    return row_of(item // width)


def _rows(chunk: pa.Array, name: str, row_of: RowOf) -> np.ndarray:
    from pyarrow import types

    array, width = getattr(chunk, "storage", chunk), 1
    refuse_nulls(array, f"column {name!r}", row_of)
    while types.is_fixed_size_list(array.type):
        width *= array.type.list_size
        array, _ = items_of(array)
        refuse_nulls(array, f"column {name!r}", partial(_row_of_item, row_of, width))
    return as_rows(chunk, copy=None, name=f"column {name!r}").array
