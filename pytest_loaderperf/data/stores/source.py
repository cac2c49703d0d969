"""The table that a store is filled from: in memory or on disk, and which of its columns are wanted."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_loaderperf.data.arrow_columns import check_columns, flat_of
from pytest_loaderperf.data.ragged import Flat
from pytest_loaderperf.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

FIRST_ROWS = 32  # read to learn what the rows are like
FIRST_NBYTES = 8 << 20  # that they may take; of larger ones the first row alone is read
VERBS = ("read", "take", "stream", "schema")  # by which a table of data/formats is known


class Source:
    """``table``: a ``pa.Table``, or a Table of ``data/formats``; ``columns``: those that are wanted, None: all.

    ``first``: the first rows of each column; ``row_nbytes``: what a row takes in memory, if the others are like them.

    Raises DataError where there is no such column, or one that no tensor can hold.
    """

    def __init__(self, table: Any, columns: Sequence[str] | None) -> None:
        import pyarrow as pa

        self.table, self.in_memory = table, isinstance(table, pa.Table)
        known = table.schema.names
        if columns is not None and (isinstance(columns, str) or not columns or set(columns) - set(known)):
            raise DataError(f"columns must be a list of some of {known}, but {columns!r} came. Name those to load.")
        if len(set(known)) < len(known):
            raise DataError(f"a table must have columns, each of another name, but {known} came. Rename some.")
        self.names: list[str] = list(known if columns is None else columns)
        self.schema: pa.Schema = pa.schema([table.schema.field(name) for name in self.names])
        check_columns(self.schema)
        self._chunks: list[pa.RecordBatch] | None = None
        rows = self._first(1)  # one may be as large as the budget
        if rows.nbytes * FIRST_ROWS <= FIRST_NBYTES:
            rows = self._first(FIRST_ROWS)
        self.first: dict[str, Flat] = {name: flat_of(rows.column(name), name) for name in self.names}
        nbytes = sum(flat.values.nbytes for flat in self.first.values())
        self.row_nbytes: int = -(-nbytes // max(1, rows.num_rows))

    def __len__(self) -> int:
        return len(self.table)

    @property
    def nbytes(self) -> int:
        """What all rows take in memory, if they are like the first ones."""
        return len(self) * self.row_nbytes

    def read(self) -> pa.Table:
        """All rows at once."""
        return self.table.select(self.names) if self.in_memory else self.table.read(self.names)

    def take(self, indices: np.ndarray) -> pa.Table:
        """The rows at ``indices``, each from 0 up, in that order."""
        if self.in_memory:
            return self._take_by_chunk(indices)
        return self.table.take(indices, self.names)

    def _take_by_chunk(self, indices: np.ndarray) -> pa.Table:
        """From the chunks that hold the rows: Arrow's own take copies all chunks of a column into one first."""
        import pyarrow as pa

        from pytest_loaderperf.data.formats.chunks import take_by_chunk

        if self._chunks is None:
            self._chunks = self.table.select(self.names).to_batches()
            self._ends = np.cumsum([len(chunk) for chunk in self._chunks], dtype=np.int64)
        chunks = self._chunks
        return take_by_chunk(self._ends, lambda place: pa.Table.from_batches([chunks[place]]), indices)

    def chunks(self, nbytes: int) -> Iterator[pa.Table]:
        """All rows in order, in tables of about ``nbytes``, one of which has no rows where there are none."""
        import pyarrow as pa

        most = max(1, nbytes // max(1, self.row_nbytes))
        held: list[pa.RecordBatch] = []
        rows = 0
        for batch in self._stream(most):
            if held and rows + batch.num_rows > most:
                yield pa.Table.from_batches(held)
                held, rows = [], 0
            held.append(batch)
            rows += batch.num_rows
        if held or not len(self):
            yield pa.Table.from_batches(held, self.schema)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_chunks": None}  # which would be pickled as copies

    def _first(self, rows: int) -> pa.Table:
        """At most so many of the first rows."""
        import pyarrow as pa

        if self.in_memory:
            return self.table.select(self.names).slice(0, rows)
        batch = next(self._stream(rows), None)
        return self.schema.empty_table() if batch is None else pa.Table.from_batches([batch])

    def _stream(self, rows: int) -> Iterator[pa.RecordBatch]:
        if self.in_memory:
            yield from self.table.select(self.names).to_batches(max_chunksize=rows)
        else:
            yield from self.table.stream(rows, self.names)

    def identity(self) -> str:
        """A hash of what the rows are: of their content in memory, of names, sizes and times of change on disk."""
        about = [self.names, str(self.schema), len(self)]
        digest = hashlib.blake2b(json.dumps(about).encode(), digest_size=16)
        if self.in_memory:
            _hash_rows(self.read(), digest)
        else:
            for path in _files(Path(self.table.path)):
                facts = path.stat()
                digest.update(json.dumps([str(path.absolute()), facts.st_size, facts.st_mtime_ns]).encode())
        return digest.hexdigest()


@contextmanager
def naming(table: Any) -> Iterator[None]:
    """Have errors name the file that ``table`` was opened from."""
    try:
        yield
    except DataError as error:
        path = getattr(table, "path", None)
        if path is None or str(path) in str(error):
            raise
        raise DataError(f"{path}: {error}") from error


def is_table(source: object) -> bool:
    """Whether it is a ``pa.Table``, or has the verbs of a Table of ``data/formats``."""
    return all(hasattr(source, verb) for verb in VERBS) or _is_arrow_table(source)


def _is_arrow_table(source: object) -> bool:
    arrow = sys.modules.get("pyarrow")  # where nobody has imported it, nobody has one
    return isinstance(source, getattr(arrow, "Table", ()))


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or all files of a folder in a fixed order."""
    if not path.is_dir():
        yield path
    for folder, folders, names in os.walk(path):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names))


def _hash_rows(table: pa.Table, digest: hashlib.blake2b) -> None:
    """By values and shapes: the same rows may lie in Arrow's buffers in many ways."""
    for name in table.column_names:
        flat = flat_of(table.column(name), name)
        digest.update(np.ascontiguousarray(flat.shapes).view(np.uint8).data)
        digest.update(np.ascontiguousarray(flat.values).view(np.uint8).data)
