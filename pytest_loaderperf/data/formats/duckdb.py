"""DuckDB: one table in a database file; rows are found by their rowid."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.convert import taken
from pytest_loaderperf.data.formats.library import library
from pytest_loaderperf.data.formats.storage import refuse_types, stored, stored_names, stored_schema
from pytest_loaderperf.data.formats.table import CheckedTable
from pytest_loaderperf.data.formats.writing import complete_or_absent
from pytest_loaderperf.errors import DataError

TABLE, SCHEMA_TABLE = "data", "arrow_schema"  # the second has the Arrow schema, most of which DuckDB has no types for
_MOST_ITEMS = 100_000  # of DuckDB's ARRAY; longer fixed-size lists are stored as LIST


class DuckDb:
    """Format ``duckdb``. Half-precision floats are stored as floats, which hold them exactly; durations as int64."""

    name = "duckdb"
    suffix = ".duckdb"
    package = "duckdb"
    options = ()

    def write(self, batches: pa.RecordBatchReader, path: Path) -> None:
        """Write all rows to the database file ``path``, complete or absent. Raises DataError."""
        refuse_types(batches.schema, self.name, _is_refused)
        schema = stored_schema(batches.schema, _stored)
        names = stored_names(schema.names, lambda name: not name or "\0" in name, case=False)
        schema = pa.schema([field.with_name(name) for field, name in zip(schema, names, strict=True)])
        rows = pa.RecordBatchReader.from_batches(schema, stored(batches, schema))
        with complete_or_absent(path) as new, closing(_connect(new, "")) as connection:
            connection.register("batches", rows)
            connection.execute(f"CREATE TABLE file.{TABLE} AS SELECT * FROM batches")  # noqa: S608 a constant
            text = batches.schema.serialize().to_pybytes()
            connection.execute(f"CREATE TABLE file.{SCHEMA_TABLE} AS SELECT ?::BLOB AS ipc", [text])
            connection.execute("DETACH file")

    def open(self, path: Path, **options: Any) -> DuckDbTable:
        """The table ``data``, or the only one, in the database file ``path``, read-only. Raises DataError."""
        return DuckDbTable(path, options)


def _connect(path: Path, options: str) -> Any:
    """A connection to ``path`` attached as ``file``.

    DuckDB shares one instance among all who connect to a path, also after that file was replaced: so each has its own
    instance in memory. Nothing is to be downloaded for files of other databases.
    """
    duckdb = library("duckdb", DuckDb.package)
    connection = duckdb.connect(":memory:", config={"autoinstall_known_extensions": False})
    quoted = str(path).replace("'", "''")
    connection.execute(f"ATTACH '{quoted}' AS file {options}")
    return connection


class DuckDbTable(CheckedTable):
    """A table in a DuckDB file. Its threads do not outlive a fork: give workers the pickled table."""

    format_name = "duckdb"

    def _open(self) -> tuple[pa.Schema, int]:
        self._connection = _connect(self.path, "(READ_ONLY, TYPE duckdb)")
        listed = self._connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'file'")
        tables = sorted(name for (name,) in listed.fetchall())
        ours = SCHEMA_TABLE in tables
        if TABLE not in tables and len(tables) != 1:
            raise DataError(
                f"{self.path} has the tables {', '.join(tables) or '(none)'}. Expected one, or one called {TABLE!r}."
            )
        table = f"file.{_quoted(TABLE if TABLE in tables else tables[0])}"
        if ours:
            (text,) = self._connection.execute(f"SELECT ipc FROM file.{SCHEMA_TABLE}").fetchone()  # noqa: S608
            schema = pa.ipc.read_schema(pa.py_buffer(text))
        else:
            schema = self._connection.sql(f"FROM {table} LIMIT 0").to_arrow_table().schema
        # Under names of our own columns can have any name, and `rowid` is DuckDB's, also where a column is called so.
        self._names = {name: f"c{place}" for place, name in enumerate(schema.names)}
        self._from = f"FROM {table} AS data({', '.join(self._names.values())})"
        rows, last = self._connection.execute(f"SELECT count(*), max(rowid) {self._from}").fetchone()
        # Rows that were deleted leave gaps in the rowids.
        gaps = rows and last != rows - 1
        self._rowids = self._query(["rowid"], "ORDER BY rowid").fetchnumpy()["rowid"] if gaps else None
        return schema, rows

    def _query(self, columns: list[str], rest: str = "", *values: object) -> Any:
        return self._connection.cursor().sql(f"SELECT {', '.join(columns)} {self._from} {rest}", params=list(values))

    def _columns(self, names: list[str]) -> list[str]:
        return [self._names[name] for name in names]

    def _read(self, columns: list[str]) -> pa.Table:
        return self._query(self._columns(columns)).to_arrow_table()

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        wanted = indices if self._rowids is None else self._rowids[indices]
        names = [*self._columns(columns), "rowid"]
        found = self._query(names, "WHERE rowid IN (SELECT unnest(?))", np.unique(wanted).tolist())
        rows = found.to_arrow_table()
        rowids = rows.column(rows.num_columns - 1).to_numpy()
        order = np.argsort(rowids)
        back = order[np.searchsorted(rowids, wanted, sorter=order)]
        return taken(rows.select(range(rows.num_columns - 1)), pa.array(back))

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        reader: Iterable[pa.RecordBatch] = self._query(self._columns(columns)).to_arrow_reader(rows)
        return reader

    def _close(self) -> None:
        self._connection.close()


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _stored(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_duration(kind):
        return pa.int64()
    return pa.float32() if pa.types.is_float16(kind) else kind


def _is_refused(kind: pa.DataType) -> bool:
    if pa.types.is_decimal(kind):
        return bool(pa.types.is_decimal256(kind) or kind.scale < 0)
    names = {field.name.lower() for field in kind} if pa.types.is_struct(kind) else set()
    return len(names) < (kind.num_fields if names else 0)
