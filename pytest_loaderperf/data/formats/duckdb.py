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
from pytest_loaderperf.data.formats.table import CheckedTable, said
from pytest_loaderperf.data.formats.writing import complete_or_absent
from pytest_loaderperf.errors import DataError

TABLE, SCHEMA_TABLE = "data", "arrow_schema"  # the second has the Arrow schema, because DuckDB lacks most of its types
_MAIN = "main"  # the schema of tables without one
_RESULT = "memory.main.result"  # of a query; DuckDB calls a database in memory so


class DuckDb:
    """Format ``duckdb``. Half-precision floats are stored as floats, which hold them exactly; durations as int64.

    To open: ``table``, the name of a table or view, such as "images" or "schema.images", or ``query``, one SELECT,
    whose rows DuckDB keeps as long as the table is open. A query can only read this file.
    """

    name = "duckdb"
    suffix = ".duckdb"
    package = "duckdb"
    options = ("table", "query")

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
        """The table ``data``, the only one, or the requested one, in the file ``path``. Raises DataError."""
        return DuckDbTable(path, options)


def _connect(path: Path, options: str) -> Any:
    """A connection to ``path`` attached as ``file``.

    DuckDB shares one instance among all connections to a path, even after that file was replaced. So each connection
    has its own instance in memory. Nothing may be downloaded for files of other databases.
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
        table, ours = self._asked() if self.options else self._only()
        if ours:
            (text,) = self._connection.execute(f"SELECT ipc FROM file.{SCHEMA_TABLE}").fetchone()  # noqa: S608
            schema = pa.ipc.read_schema(pa.py_buffer(text))
        else:
            schema = self._connection.sql(f"FROM {table} LIMIT 0").to_arrow_table().schema
        # With internal names, columns can have any name, and `rowid` stays DuckDB's, even if a column has that name.
        self._names = {name: f"c{place}" for place, name in enumerate(schema.names)}
        self._from = f"FROM {table} AS data({', '.join(self._names.values())})"
        rows, last = self._connection.execute(f"SELECT count(*), max(rowid) {self._from}").fetchone()
        # Rows that were deleted leave gaps in the rowids.
        gaps = rows and last != rows - 1
        self._rowids = self._query(["rowid"], "ORDER BY rowid").fetchnumpy()["rowid"] if gaps else None
        return schema, rows

    def _only(self) -> tuple[str, bool]:
        """The quoted name of the table ``data`` or of the only one, and whether it was written here."""
        tables = self._tables()
        names = [name for _, name in tables]
        if (_MAIN, TABLE) not in tables and len(tables) != 1:
            shown = ", ".join(name if schema == _MAIN else f"{schema}.{name}" for schema, name in tables)
            raise DataError(
                f"{self.path} has the tables {shown or '(none)'}. Expected one, or one called {TABLE!r}. Say which: "
                "table=..., or query=...."
            )
        table = (_MAIN, TABLE) if (_MAIN, TABLE) in tables else tables[0]
        return _full(*table), SCHEMA_TABLE in names and table == (_MAIN, TABLE)

    def _tables(self, *, views: bool = False) -> list[tuple[str, str]]:
        """The schema and name of each table, sorted; of ``views`` instead."""
        kind = "view" if views else "table"
        found = self._connection.execute(
            f"SELECT schema_name, {kind}_name FROM duckdb_{kind}s() "  # noqa: S608 one of two words
            f"WHERE database_name = 'file' AND NOT internal"
        )
        return sorted(found.fetchall())

    def _asked(self) -> tuple[str, bool]:
        """The quoted name of the requested table, or of one with the rows of the view or query."""
        name, query = self.options.get("table"), self.options.get("query")
        if (name is None) == (query is None) or not isinstance(query if name is None else name, str):
            raise DataError(
                f"{self.path}: expected table or query, one text, got {self.options!r:.200}. Leave one out."
            )
        self._connection.execute("USE file")
        if name is not None:
            tables, views = self._tables(), self._tables(views=True)
            matching = [one for one in [*tables, *views] if name in (".".join(one), one[1])]
            exact = [one for one in matching if name == ".".join(one) or one == (_MAIN, name)] or matching
            if len(exact) != 1:
                shown = ", ".join(".".join(one) for one in matching or [*tables, *views])
                raise DataError(
                    f"{self.path}: expected the name of one of {shown or 'no tables'}, got {name!r}. Name it."
                )
            if exact[0] in tables:
                return _full(*exact[0]), name in (TABLE, f"{_MAIN}.{TABLE}") and (_MAIN, SCHEMA_TABLE) in tables
            query = f"FROM {_full(*exact[0])}"
        return self._result(str(query)), False

    def _result(self, query: str) -> str:
        """The quoted name of a table in memory of the rows of ``query``."""
        duckdb = library("duckdb", DuckDb.package)
        try:
            statements = duckdb.extract_statements(query)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise DataError(f"{self.path}: expected a query of one SELECT, got {query!r:.200}. Give a SELECT.")
            # A cache's name does not depend on other files, and several threads would give rows in any order.
            self._connection.execute("SET enable_external_access = false; SET threads = 1")
            select = statements[0].query.rstrip().rstrip(";")
            self._connection.execute(f"CREATE TABLE {_RESULT} AS {select}")
            self._connection.execute("RESET threads")
        except duckdb.Error as error:
            raise DataError(f"{self.path}: the query cannot be run: {said(error)}. Correct the query.") from error
        return _RESULT

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

    @property
    def ends(self) -> np.ndarray | None:
        """All rows of a query, which runs whenever the table is opened."""
        return np.array([len(self)]) if "query" in self.options else None

    def _close(self) -> None:
        self._connection.close()


def _full(schema: str, name: str) -> str:
    return f"file.{_quoted(schema)}.{_quoted(name)}"


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
