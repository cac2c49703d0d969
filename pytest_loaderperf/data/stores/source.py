"""The table that a store is filled from: in memory or on disk, and which of its columns to load."""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_loaderperf.data.arrays.ragged import Flat
from pytest_loaderperf.data.arrow.columns import check_columns, flat_of
from pytest_loaderperf.data.arrow.lists import RowOf, shifted
from pytest_loaderperf.data.objects.place import ObjectPath
from pytest_loaderperf.data.stores.identity import Files, digest, files_at, made_from, versions
from pytest_loaderperf.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

FIRST_ROWS = 32  # read to learn the size and structure of rows
FIRST_NBYTES = 8 << 20  # that they may take; if they are larger, only the first row is read
VERBS = ("read", "take", "stream", "schema")  # methods that identify a table of data/formats


class Source:
    """``table``: a ``pa.Table``, or a Table of ``data/formats``; ``columns``: those to load, None: all.

    ``first``: the first rows of each column; ``row_nbytes``: memory of a row, if the others are similar.

    Raises DataError if there is no such column, or one that no tensor can hold.
    """

    def __init__(self, table: Any, columns: Sequence[str] | None) -> None:
        import pyarrow as pa

        self.table, self.in_memory = table, isinstance(table, pa.Table)
        known = table.schema.names
        if columns is not None and (isinstance(columns, str) or not columns or set(columns) - set(known)):
            raise DataError(f"columns: expected a list of some of {known}, got {columns!r}. Name those to load.")
        if len(set(known)) < len(known):
            raise DataError(f"expected a table with columns of different names, got {known}. Rename some.")
        self.names: list[str] = list(known if columns is None else columns)
        self.schema: pa.Schema = pa.schema([table.schema.field(name) for name in self.names])
        check_columns(self.schema)
        self._chunks: list[pa.RecordBatch] | None = None
        read = self._first(1)  # one may be as large as the budget
        if read.nbytes * FIRST_ROWS <= FIRST_NBYTES:
            read = self._first(FIRST_ROWS)
        rows = Rows(table, read, int)
        self.first: dict[str, Flat] = {name: rows.flat(name) for name in self.names}
        nbytes = {name: flat.values.nbytes / max(1, len(rows)) for name, flat in self.first.items()}
        if hasattr(table, "mean_nbytes"):  # from the headers of encoded pictures
            nbytes |= table.mean_nbytes(self.names)
        self.row_nbytes: int = math.ceil(sum(nbytes.values()))

    def __len__(self) -> int:
        return len(self.table)

    @property
    def nbytes(self) -> int:
        """Memory of all rows, if they are similar to the first ones."""
        return len(self) * self.row_nbytes

    def read(self) -> pa.Table:
        """All rows in one read."""
        return self.table.select(self.names) if self.in_memory else self.table.read(self.names)

    def take(self, indices: np.ndarray) -> Rows:
        """The rows at ``indices``, which count from 0, in that order."""
        with naming(self.table):
            rows = self._take_by_chunk(indices) if self.in_memory else self.table.take(indices, self.names)
        return Rows(self.table, rows, indices.__getitem__)

    def _take_by_chunk(self, indices: np.ndarray) -> pa.Table:
        """From the chunks that hold the rows: Arrow's own take copies all chunks of a column into one first."""
        import pyarrow as pa

        from pytest_loaderperf.data.formats.chunks import take_by_chunk

        if self._chunks is None:
            self._chunks = self.table.select(self.names).to_batches()
            self._ends = np.cumsum([len(chunk) for chunk in self._chunks], dtype=np.int64)
        chunks = self._chunks
        return take_by_chunk(self._ends, lambda place: pa.Table.from_batches([chunks[place]]), indices)

    def chunks(self, nbytes: int) -> Iterator[Rows]:
        """All rows in order, about ``nbytes`` at a time; an empty table gives one empty chunk."""
        import pyarrow as pa

        most = max(1, nbytes // max(1, self.row_nbytes))
        held: list[pa.RecordBatch] = []
        first = rows = 0
        for batch in self._stream(most):
            if held and rows + batch.num_rows > most:
                yield Rows(self.table, pa.Table.from_batches(held), shifted(int, first))
                first += rows
                held, rows = [], 0
            held.append(batch)
            rows += batch.num_rows
        if held or not len(self):
            yield Rows(self.table, pa.Table.from_batches(held, self.schema), shifted(int, first))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_chunks": None}  # they would be pickled as copies

    def _first(self, rows: int) -> pa.Table:
        """At most ``rows`` of the first rows."""
        import pyarrow as pa

        if self.in_memory:
            return self.table.select(self.names).slice(0, rows)
        batch = next(self._stream(rows), None)
        return pa.Table.from_batches([], self.schema) if batch is None else pa.Table.from_batches([batch])

    def _stream(self, rows: int) -> Iterator[pa.RecordBatch]:
        with naming(self.table):
            if self.in_memory:
                yield from self.table.select(self.names).to_batches(max_chunksize=rows)
            else:
                yield from self.table.stream(rows, self.names)

    @contextmanager
    def reopened(self) -> Iterator[Source]:
        """The same columns of the table as it is on disk now; the same source if only its owner can open it."""
        from pytest_loaderperf.data.formats.table import CheckedTable

        if not isinstance(self.table, CheckedTable):
            yield self
            return
        kind, given = self.table.__reduce__()[:2]
        with closing(kind(*given)) as table:
            yield Source(table, self.names)

    def files(self) -> Files | None:
        """The files of the table; None for one in memory. Raises DataError if there is no path."""
        if self.in_memory:
            return None
        path = getattr(self.table, "path", None)
        if isinstance(path, ObjectPath):
            return Files()  # its version is part of what the table is made from
        if not isinstance(path, str | os.PathLike):
            raise DataError(
                f"expected a table with a path, to name its cache file by, got {type(self.table).__name__}. "
                'Choose cache="lru" or "compressed", which keep nothing beyond this process.'
            )
        return files_at(Path(path), getattr(self.table, "elsewhere", ()))

    def identity(self, files: Files | None) -> str:
        """A hash of everything that can change what is read: the rows of a table in memory, else ``files`` and options.

        Schema, columns, and the versions of the libraries that read them are always included.
        """
        schema = self.schema.serialize().to_pybytes().hex()  # its text shortens long metadata
        facts = [schema, len(self), versions(self.table)]
        if files is not None:
            return digest(facts, made_from(self.table), files.facts).hexdigest()
        rows = digest(facts)
        _hash_rows(self.read(), rows)
        return rows.hexdigest()


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Some rows of ``table``, as ``read``; position i is the row ``row_of(i)`` of the table."""

    table: Any
    read: pa.Table
    row_of: RowOf

    def __len__(self) -> int:
        return int(self.read.num_rows)

    def flat(self, name: str) -> Flat:
        """A column of these rows. Raises DataError that names the file and the row of the table."""
        with naming(self.table):
            return flat_of(self.read, name, self.row_of)


@contextmanager
def naming(table: Any) -> Iterator[None]:
    """Make errors name the file that ``table`` was opened from."""
    try:
        yield
    except DataError as error:
        path = getattr(table, "path", None)
        if path is None or str(path) in str(error):
            raise
        raise DataError(f"{path}: {error}") from error


def is_table(source: object) -> bool:
    """Whether it is a ``pa.Table``, or has the methods of a Table of ``data/formats``."""
    return all(hasattr(source, verb) for verb in VERBS) or _is_arrow_table(source)


def _is_arrow_table(source: object) -> bool:
    arrow = sys.modules.get("pyarrow")  # without this import there can be no Arrow table
    return isinstance(source, getattr(arrow, "Table", ()))


def _hash_rows(table: pa.Table, digest: hashlib.blake2b) -> None:
    """By values and shapes, because the same rows can be stored in Arrow's buffers in many ways."""
    for name in table.column_names:
        flat = flat_of(table, name)
        digest.update(np.ascontiguousarray(flat.shapes).view(np.uint8).data)
        digest.update(np.ascontiguousarray(flat.values).view(np.uint8).data)
