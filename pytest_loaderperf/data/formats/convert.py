"""Arrow arrays from one type to another and back, where Arrow's own casts and takes have gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from pytest_loaderperf.data.arrow.lists import dictionary_decoded, is_list, items_of


def any_inside(kind: pa.DataType, is_one: Callable[[pa.DataType], bool]) -> bool:
    """Whether ``is_one`` holds for ``kind`` or for a type inside it: items, fields, storage, values of a dictionary."""
    return is_one(kind) or any(any_inside(inner, is_one) for inner in _inside(kind))


def _inside(kind: pa.DataType) -> Iterator[pa.DataType]:
    if isinstance(kind, pa.BaseExtensionType):
        yield kind.storage_type
    elif types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        yield kind.value_type
    else:
        yield from (kind.field(i).type for i in range(kind.num_fields))


def is_view(kind: pa.DataType) -> bool:
    """Whether it is one of Arrow's types of texts or bytes that point into buffers."""
    return bool(types.is_string_view(kind) or types.is_binary_view(kind))


def _has_gaps(kind: pa.DataType) -> bool:
    """Whether Arrow has no cast to it, or one that gives other memory for fixed-size lists that are slices.

    In structs that are null it refuses nulls of fields that are not nullable.
    """
    list_views = types.is_list_view(kind) or types.is_large_list_view(kind)
    encoded = types.is_dictionary(kind) or types.is_run_end_encoded(kind)
    strict = types.is_struct(kind) and not all(field.nullable for field in kind)
    return bool(encoded or list_views or strict or isinstance(kind, pa.BaseExtensionType))


def converted(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """``array`` as ``kind``: the same values, or the same array if the types are equal. Raises as Arrow's casts.

    Of a dictionary the values come back, each in the place of its first row.
    """
    got = array.type
    if got.equals(kind):
        return array
    if not any(any_inside(one, _has_gaps) for one in (got, kind)):
        return array.cast(kind)
    if isinstance(array, pa.ExtensionArray):
        array = converted(array.storage, kind)
    elif types.is_dictionary(got):
        array = converted(_decoded(array), kind)
    elif types.is_run_end_encoded(got):
        array = converted(pc.run_end_decode(array), kind)
    elif isinstance(kind, pa.BaseExtensionType):
        array = pa.ExtensionArray.from_storage(kind, converted(array, kind.storage_type))
    elif types.is_dictionary(kind):
        encoded = converted(array, without_view(kind.value_type)).dictionary_encode()
        codes, values = encoded.indices.cast(kind.index_type), converted(encoded.dictionary, kind.value_type)
        array = pa.DictionaryArray.from_arrays(codes, values, ordered=kind.ordered)
    elif types.is_run_end_encoded(kind):
        array = pc.run_end_encode(converted(array, kind.value_type), run_end_type=kind.run_end_type)
    else:
        array = _nested(array, kind)
    return array


def without_view(kind: pa.DataType) -> pa.DataType:
    """``kind``, or the type of the same values without views, for which Arrow lacks kernels of dictionaries."""
    if not is_view(kind):
        return kind
    return pa.large_string() if types.is_string_view(kind) else pa.large_binary()


def _decoded(array: pa.DictionaryArray) -> pa.Array:
    values = converted(array.dictionary, without_view(array.type.value_type))
    return dictionary_decoded(pa.DictionaryArray.from_arrays(array.indices, values))


def _nested(array: pa.Array, kind: pa.DataType) -> pa.Array:
    mask = array.is_null() if array.null_count else None
    if types.is_struct(kind):
        fields = [converted(array.field(i), kind.field(i).type) for i in range(kind.num_fields)]
        return pa.StructArray.from_arrays(fields, fields=list(kind), mask=mask)
    if types.is_map(kind):
        offsets = pa.array(array.offsets.to_numpy() - array.offsets[0].as_py(), mask=_mask_of_offsets(array))
        start, count = array.offsets[0].as_py(), array.offsets[-1].as_py() - array.offsets[0].as_py()
        keys = converted(array.keys.slice(start, count), kind.key_type)
        return pa.MapArray.from_arrays(
            offsets, keys, converted(array.items.slice(start, count), kind.item_type), type=kind
        )
    items, lengths = items_of(array)
    items = converted(items, kind.value_type)
    if types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(items, type=kind, mask=mask)
    ends = np.cumsum(lengths)
    large = types.is_large_list(kind) or types.is_large_list_view(kind)
    offsets = np.concatenate([[0], ends]).astype(np.int64 if large else np.int32)
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        make = pa.LargeListViewArray if large else pa.ListViewArray
        sizes = pa.array(lengths.astype(offsets.dtype))
        return make.from_arrays(pa.array(offsets[:-1]), sizes, items, type=kind, mask=mask)
    return (pa.LargeListArray if large else pa.ListArray).from_arrays(pa.array(offsets), items, type=kind, mask=mask)


def _mask_of_offsets(array: pa.Array) -> np.ndarray | None:
    if not array.null_count:
        return None
    return np.append(array.is_null().to_numpy(zero_copy_only=False), False)


def with_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of ``table``, by position, with the names and types of ``schema``; shared if they are the same.

    Raises ArrowInvalid and ArrowNotImplementedError, whose texts begin with the column, if a cast loses something.
    """
    if table.schema.equals(schema, check_metadata=True):
        return table  # Arrow fails to cast slices of some structs, even to what they are
    columns = []
    for column, field in zip(table.columns, schema, strict=True):
        try:
            columns.append(pa.chunked_array([converted(chunk, field.type) for chunk in column.chunks], field.type))
        except pa.ArrowException as error:
            raise type(error)(f"column {field.name!r}: {error}") from error
    return pa.Table.from_arrays(columns, schema=schema)


def taken(rows: Any, indices: Any) -> Any:
    """``rows``, a table or a record batch, at ``indices``; also columns of the types that Arrow cannot take from."""
    plain = pa.schema([field.with_type(_takeable(field.type)) for field in rows.schema], rows.schema.metadata)
    if plain.equals(rows.schema) and not any(map(_is_shifted, rows.columns)):
        return rows.take(indices)
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
    table = with_schema(table, plain)
    shifted = any(map(_is_shifted, table.columns))
    found = with_schema(_from_slices(table, np.asarray(indices)) if shifted else table.take(indices), rows.schema)
    return found if isinstance(rows, pa.Table) else found.combine_chunks().to_batches()[0]


def _from_slices(table: pa.Table, places: np.ndarray) -> pa.Table:
    """The rows at ``places``, copied from slices of consecutive ones."""
    runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
    slices = [table.slice(int(run[0]), len(run)) for run in runs if len(run)]
    return pa.concat_tables([*slices, table.slice(0, 0)]).combine_chunks()  # one chunk alone would not be copied


def _is_shifted(column: Any) -> bool:
    """Whether it has, at any depth, slices of fixed-size lists of such lists: Arrow takes other memory from those."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return any_inside(column.type, _is_nested_fixed) and any(map(_has_shifted, chunks))


def _is_nested_fixed(kind: pa.DataType) -> bool:
    return bool(types.is_fixed_size_list(kind) and types.is_fixed_size_list(_storage(kind.value_type)))


def _storage(kind: pa.DataType) -> pa.DataType:
    return _storage(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def _has_shifted(array: pa.Array) -> bool:
    if isinstance(array, pa.ExtensionArray):
        return _has_shifted(array.storage)
    inner = list(_children(array))
    if _is_nested_fixed(array.type) and (array.offset or any(one.offset for one in inner)):
        return True
    return any(map(_has_shifted, inner))


def _children(array: pa.Array) -> Iterator[pa.Array]:
    """The arrays inside ``array``: those of lists with all items, also before and after a slice."""
    if types.is_map(array.type):
        yield from (array.keys, array.items)
    elif is_list(array.type):
        yield array.values
    elif types.is_struct(array.type) or types.is_union(array.type):
        yield from (array.field(i) for i in range(array.type.num_fields))


def _takeable(kind: pa.DataType) -> pa.DataType:
    """``kind`` itself; for types without a take, a type with the same values that has one."""
    if types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary_view(kind):
        return pa.large_binary()
    if types.is_run_end_encoded(kind):
        return _takeable(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        inner = _takeable(kind.storage_type)
        return kind if inner.equals(kind.storage_type) else inner
    return rebuilt(kind, _takeable)


def rebuilt(kind: pa.DataType, inner: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """``kind`` with ``inner`` of the types of its items or fields; itself if it has none."""
    if types.is_struct(kind):
        return pa.struct([field.with_type(inner(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(
            kind.key_field.with_type(inner(kind.key_type)),
            kind.item_field.with_type(inner(kind.item_type)),
            keys_sorted=kind.keys_sorted,
        )
    for is_one, make in (
        (types.is_list, pa.list_),
        (types.is_large_list, pa.large_list),
        (types.is_list_view, pa.list_view),
        (types.is_large_list_view, pa.large_list_view),
        (types.is_fixed_size_list, lambda item: pa.list_(item, kind.list_size)),
    ):
        if is_one(kind):
            return make(kind.value_field.with_type(inner(kind.value_type)))
    return kind
