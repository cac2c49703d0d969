"""Which table, view or query of a DuckDB file."""

from __future__ import annotations

import pickle
from contextlib import closing

import numpy as np
import pyarrow as pa
import pytest

from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.formats import open_table, write_table
from pytest_loaderperf.data.stores.source import Source
from pytest_loaderperf.errors import DataError

duckdb = pytest.importorskip("duckdb")


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE t AS SELECT i AS x, i * 2.0::DOUBLE AS y FROM range(5000) AS r(i)")
        connection.execute(
            'CREATE SCHEMA s; CREATE TABLE s.t AS SELECT 7::BIGINT AS z; CREATE TABLE s."o\'d" AS SELECT 1 AS a'
        )
        connection.execute("CREATE VIEW v AS SELECT x FROM t WHERE x % 2 = 0 ORDER BY x DESC")
    return path


def rows(path, **options):
    with closing(open_table(path, **options)) as table:
        again = pickle.loads(pickle.dumps(table))  # noqa: S301 our own
        with closing(again):
            assert again.read().equals(table.read())
        assert pa.Table.from_batches(table.stream(100)).to_pylist() == table.read().to_pylist()
        last = table.take(np.array([len(table) - 1, 0]))
        assert last.to_pylist() == [table.read().to_pylist()[place] for place in (-1, 0)]
        return table.read().to_pydict()


def test_a_table_is_opened_by_schema_and_name(path):
    assert rows(path, table="s.t") == {"z": [7]}
    assert rows(path, table="t")["x"] == list(range(5000))
    assert rows(path, table="main.t")["x"] == list(range(5000))
    assert rows(path, table="o'd") == {"a": [1]}


def test_a_view_and_a_query_are_read_in_their_order(path):
    assert rows(path, table="v")["x"] == list(range(4998, -1, -2))
    query = "SELECT x, y FROM t WHERE x < 3000 ORDER BY -x;"
    assert rows(path, query=query)["x"] == list(range(2999, -1, -1))
    assert optimize(open_table(path, query=query))[0]["y"] == 2999 * 2.0
    assert rows(path, query="SELECT count(*) AS n FROM t JOIN s.t AS u ON u.z = t.x") == {"n": [1]}
    assert rows(path, query="WITH q AS (SELECT 1 AS a) FROM q") == {"a": [1]}


def test_what_was_written_here_keeps_its_schema(tmp_path):
    table = pa.table({"x": pa.array([1.5, 2.5], pa.float16())})
    write_table(table, tmp_path / "a.duckdb")
    with closing(open_table(tmp_path / "a.duckdb", table="data")) as opened:
        assert opened.schema == table.schema


def test_the_query_is_part_of_what_a_cache_is_known_by(path):
    known = set()
    for options in (
        {"table": "t"},
        {"query": "SELECT x FROM t LIMIT 3"},
        {"query": "SELECT x + 1 AS x FROM t LIMIT 3"},
    ):
        with closing(open_table(path, **options)) as table:
            source = Source(table, None)
            known.add(source.identity(source.files()))
    assert len(known) == 3


@pytest.mark.parametrize(
    "options, text",
    [
        ({}, "has the tables t, s.o'd, s.t. Expected one, or one called 'data'. Say which: table=..., or query=...."),
        ({"table": "none"}, "expected the name of one of main.t, s.o'd, s.t, main.v, got 'none'"),
        ({"table": "t", "query": "SELECT 1"}, "expected table or query, one text"),
        ({"query": 3}, "expected table or query, one text"),
        ({"query": "DROP TABLE t"}, "expected a query of one SELECT, got 'DROP TABLE t'"),
        ({"query": "SELECT 1; DROP TABLE t"}, "expected a query of one SELECT"),
        ({"query": "COPY t TO 'x.csv'"}, "expected a query of one SELECT"),
        ({"query": "SELECT q FROM t"}, 'column "q"'),
        ({"query": "FROM 'other.csv'"}, "disabled"),
        ({"query": "SELEC"}, "syntax error"),
    ],
)
def test_what_is_no_query_of_this_file_is_an_error(options, text, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.csv").write_text("a\n1\n")
    with pytest.raises(DataError) as caught:
        open_table(path, **options)
    assert text in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
