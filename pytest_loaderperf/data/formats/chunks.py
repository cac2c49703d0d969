"""Rows by index out of a file that is read chunk by chunk, and chunks of a good size for one that is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.convert import taken


def take_by_chunk(ends: np.ndarray, chunk: Callable[[int], pa.Table], indices: np.ndarray) -> pa.Table:
    """The rows at ``indices``, reading one chunk at a time, and only those that hold one of them.

    ``ends``: the row after the last one of each chunk. ``chunk``: the rows of one of them.
    """
    rows, back = np.unique(indices, return_inverse=True)
    owner = np.searchsorted(ends, rows, side="right")
    starts = np.concatenate([[0], ends])
    parts = [taken(chunk(i), pa.array(rows[owner == i] - starts[i])) for i in np.unique(owner)]
    return reordered(pa.concat_tables(parts), back)


def range_by_chunk(ends: np.ndarray, chunk: Callable[[int], pa.Table], start: int, stop: int) -> pa.Table:
    """The rows from ``start`` to before ``stop``, at least one, as slices of the chunks that hold them."""
    first, last = np.searchsorted(ends, [start, stop - 1], side="right").tolist()
    before = int(ends[first - 1]) if first else 0
    return pa.concat_tables([chunk(i) for i in range(first, last + 1)]).slice(start - before, stop - start)


def reordered(table: pa.Table, back: np.ndarray) -> pa.Table:
    """The rows of ``table`` at ``back``; the same table if these are all rows in sequence."""
    return table if np.array_equal(back, np.arange(len(table))) else taken(table, pa.array(back))


def merged(batches: Iterable[pa.RecordBatch], nbytes: int) -> Iterator[pa.RecordBatch]:
    """The rows of ``batches`` in batches of at least ``nbytes``, except the last one. Batches are never split."""
    held: list[pa.RecordBatch] = []
    held_nbytes = 0
    for batch in batches:
        held.append(batch)
        held_nbytes += batch.nbytes
        if held_nbytes >= nbytes:
            yield _joined(held)
            held, held_nbytes = [], 0
    if held:
        yield _joined(held)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def unsliced(batch: pa.RecordBatch) -> pa.RecordBatch:
    """``batch`` with structs that begin at their first row: Arrow mistakes slices of those with a null field."""
    if not any(pa.types.is_struct(column.type) and column.offset for column in batch.columns):
        return batch
    return pa.RecordBatch.from_arrays([_whole(column) for column in batch.columns], schema=batch.schema)


def _whole(array: pa.Array) -> pa.Array:
    if not pa.types.is_struct(array.type) or not array.offset or not array.type.num_fields:
        return array
    fields = [_whole(array.field(i)) for i in range(array.type.num_fields)]
    mask = array.is_null() if array.null_count else None
    return pa.StructArray.from_arrays(fields, fields=list(array.type), mask=mask)
