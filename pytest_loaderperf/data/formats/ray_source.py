"""A table as a datasource of Ray Data: each task opens it and reads a range of its rows as Arrow tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from ray.data import DataContext, Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from pytest_loaderperf.errors import DataError

if TYPE_CHECKING:
    from pytest_loaderperf.data.formats.table import CheckedTable

FIRST_ROWS = 32  # read to learn the size of rows


class TableSource(Datasource):
    """The rows of ``table``, which stays the caller's. Schema and number of rows are known before anything is read.

    Blocks are Arrow tables of the table's schema. Their buffers are those that the format gives: of mapped formats
    (arrow, npy, safetensors) the file itself. Selecting columns reads only these.

    Raises DataError for a table in memory.
    """

    def __init__(self, table: CheckedTable) -> None:
        super().__init__()
        self._projection_map: dict[str, str] | None = None  # set by `apply_projection`
        kind, given = table.__reduce__()[:2]
        if not _is_on_disk(given):
            raise DataError(
                f"{table.path}: expected a table on disk, which each task can open, got one in memory. "
                "Give its Arrow table to ray.data.from_arrow, or write it first: write_table(table, 'x.parquet')."
            )
        self._open: Callable[[], CheckedTable] = partial(kind, *_absolute(given))
        self._path, self._schema, self._rows, self._ends = table.path.absolute(), table.schema, len(table), table.ends
        first = next(table.stream(FIRST_ROWS), None)
        self._row_nbytes = 0.0 if first is None else first.nbytes / len(first)

    def get_name(self) -> str:
        """What Ray's progress calls it."""
        return self._path.name

    def supports_projection_pushdown(self) -> bool:
        """Columns that are not selected are not read."""
        return True

    def estimate_inmemory_data_size(self) -> int:
        """Bytes of all rows and columns, if they are similar to the first ones."""
        return ceil(self._rows * self._row_nbytes)

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """At most ``parallelism`` tasks; less where a chunk of the file would be read by several."""
        context = data_context or DataContext.get_current()
        block_nbytes = context.target_max_block_size or self.estimate_inmemory_data_size()
        block_rows = max(1, int(block_nbytes / max(1.0, self._row_nbytes)))
        columns = self._get_data_columns()
        schema = self._schema if columns is None else pa.schema([self._schema.field(name) for name in columns])
        tasks = []
        for start, stop in ranges(0, self._rows, self._ends, ceil(self._rows / parallelism)):
            rows = stop - start
            nbytes = ceil(rows * self._row_nbytes)
            metadata = BlockMetadata(num_rows=rows, size_bytes=nbytes, input_files=(str(self._path),), exec_stats=None)
            read = partial(_blocks, self._open, start, stop, columns, block_rows)
            tasks.append(ReadTask(read, metadata, schema, per_task_row_limit))
        return tasks


def ranges(start: int, stop: int, ends: np.ndarray | None, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most ``most`` rows that together are ``start`` to ``stop``.

    They stop at ``ends`` of chunks, if these are given; one with a larger chunk has that chunk alone.
    """
    while start < stop:
        end = min(start + most, stop)
        if ends is not None and end < stop:
            place = int(np.searchsorted(ends, end, side="right"))
            end = int(ends[place - 1]) if place and ends[place - 1] > start else min(int(ends[place]), stop)
        yield start, end
        start = end


def _blocks(
    opened: Callable[[], CheckedTable], start: int, stop: int, columns: list[str] | None, rows: int
) -> Iterator[pa.Table]:
    with closing(opened()) as table:
        names = columns if columns is None or columns else table.schema.names[:1]  # no columns: only their number
        if (start, stop) == (0, len(table)):
            found = (pa.Table.from_batches([batch]) for batch in table.stream(rows, names))
        else:
            found = (table.rows(*one, names) for one in ranges(start, stop, table.ends, rows))
        yield from found if names is columns else (block.select([]) for block in found)


def _is_on_disk(given: Any) -> bool:
    return not isinstance(given, pa.Table) and (not isinstance(given, tuple) or all(map(_is_on_disk, given)))


def _absolute(given: Any) -> Any:
    """``given``, arguments that open a table, with absolute paths: tasks may run in another folder."""
    if isinstance(given, tuple):
        return tuple(map(_absolute, given))
    return given.absolute() if isinstance(given, Path) else given
