"""Arrow's nested lists as flat buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from pytest_loaderperf.data.arrays.ragged import Flat
from pytest_loaderperf.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

COMPLEX = "complex"  # metadata key of a field of pairs of floats: the dtype of the complex numbers
RowOf = Callable[[int], int]  # from the position of an item to the row of the table that it belongs to


def shifted(row_of: RowOf, first: int) -> RowOf:
    """``row_of`` for positions that count from ``first``."""
    return lambda position: row_of(first + position)


def is_list(kind: pa.DataType) -> bool:
    """Whether it is one of Arrow's types of lists."""
    from pyarrow import types

    views = types.is_list_view(kind) or types.is_large_list_view(kind)
    return bool(views or types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def is_number(kind: pa.DataType) -> bool:
    """Whether tensors can hold it, except floats of other widths."""
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def decoded(array: pa.Array) -> pa.Array:
    """The plain values of an extension type, a dictionary or runs; else ``array``. Items of lists do not change."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    while not array.type.equals(value_type(array.type)):
        if isinstance(array, pa.ExtensionArray):
            array = array.storage
        elif types.is_dictionary(array.type):
            array = dictionary_decoded(array)
        else:
            array = pc.run_end_decode(array)
    return array


def dictionary_decoded(array: pa.DictionaryArray) -> pa.Array:
    """The values of ``array`` in place of its codes."""
    import pyarrow as pa

    values = array.dictionary
    if values.type.num_fields:  # Arrow takes other memory from slices of nested fixed-size lists: copy the slice
        values = pa.concat_arrays([values, values.slice(0, 0)])
    return pa.DictionaryArray.from_arrays(array.indices, values).dictionary_decode()


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type of what `decoded` gives."""
    from pyarrow import types

    while True:
        if hasattr(kind, "storage_type"):
            kind = kind.storage_type
        elif types.is_dictionary(kind) or types.is_run_end_encoded(kind):
            kind = kind.value_type
        else:
            return kind


def refuse_nulls(array: pa.Array, where: str, row_of: RowOf) -> None:
    """Raise DataError with the row of the first null in ``array``, if there is one."""
    if array.null_count:
        position = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise DataError(
            f"{where} is null in row {row_of(position)}, and no tensor can hold that. "
            "Fill it in, or drop such rows, before loading."
        )


def items_of(lists: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The items of all ``lists`` and the length of each in int64: a view; for list views a copy.

    A null has items in lists of fixed size, none in list views, and otherwise those that are in the buffer.
    """
    from pyarrow import types

    if types.is_list_view(lists.type) or types.is_large_list_view(lists.type):
        return lists.flatten(), lists.value_lengths().fill_null(0).to_numpy().astype(np.int64, copy=False)
    if types.is_fixed_size_list(lists.type):
        size = lists.type.list_size
        lengths = np.broadcast_to(np.int64(size), len(lists))
        start = lists.offset * size  # .values also has the items before this slice
    else:
        offsets = lists.offsets.to_numpy()
        lengths = np.diff(offsets).astype(np.int64, copy=False)
        start = int(offsets[0]) if len(offsets) else 0
    return lists.values.slice(start, int(lengths.sum())), lengths


def numbers_of(array: pa.Array, where: str, row_of: RowOf) -> np.ndarray:
    """The numbers of ``array`` as a view; bools, of which Arrow stores eight in a byte, as a copy."""
    from pyarrow import types

    refuse_nulls(array, where, row_of)
    numbers: np.ndarray = array.to_numpy(zero_copy_only=not types.is_boolean(array.type))
    return numbers


def flat_lists(lists: pa.Array, name: str, row_of_list: RowOf) -> Flat:
    """Samples of a list column, of different lengths; within a sample the lists of one level have one length.

    Raises DataError, with the row that ``row_of_list`` gives, for nulls and for jagged samples.
    """
    array, counts, shapes = lists, np.ones(len(lists), np.int64), []

    def row_of(position: int) -> int:
        return row_of_list(int(np.searchsorted(np.cumsum(counts), position, "right")))

    while is_list((array := decoded(array)).type):
        refuse_nulls(array, f"column {name!r}", row_of)
        array, lengths = items_of(array)
        sizes = np.zeros(len(lists), np.int64)
        filled = counts > 0
        sizes[filled] = lengths[(np.cumsum(counts) - counts)[filled]]
        jagged = lengths != np.repeat(sizes, counts)
        if jagged.any():
            _refuse_jagged(name, row_of(int(jagged.argmax())))
        counts = counts * sizes
        shapes.append(sizes)
    return Flat(numbers_of(array, f"column {name!r}", row_of), np.stack(shapes, axis=1))


def _refuse_jagged(name: str, row: int) -> NoReturn:
    raise DataError(
        f"column {name!r} has lists of several lengths within row {row}; a tensor needs one length along each axis. "
        "Pad them, or leave the column out of columns=."
    )
