"""A column may have any name, in every format that keeps columns."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pyarrow as pa
import pytest

from pytest_loaderperf.data import check, optimize
from pytest_loaderperf.data.formats import FORMATS, open_table, write_table

OF_LIBRARIES = [
    *("rowid", "ROWID", "_rowid", "_rowaddr", "_rowoffset", "_row_created_at_version", "_row_last_updated_at_version"),
    *("_distance", "_score", "__filename", "file_row_number", "filename"),
]
NAMES = [
    *OF_LIBRARIES,
    *("data", "file", "batches", "label", "c0", "c1"),
    *("select", "ORDER", "*", "null", "true", "1", "?", "$1", "%s", "{}", "(a)", "[0]", "x,y", "a:b", "a;b", "#", "~"),
    *("a.b", ".", "..", "a`b", "`", 'a"b', "a'b", "a b", " ", "x ", "", "a/b", "a\\b", "a\nb", "\0", "a\0b", "n" * 300),
    *("nö ne", "日本", "😀", "e\u0301", "é", "X", "ARROW:schema", "ARROW:schema:", "column_0", "column_1", "item"),
]
HOLDERS = ("parquet", "arrow", "lance", "duckdb", "vortex", "safetensors")
OTHER = "x"
# Libraries that parse names, or have columns of their own, are told of each alone; the others of but one of each sort.
PARSING = ("lance", "duckdb", "vortex")
ONE_OF_EACH_SORT = (
    "rowid",
    "filename",
    "label",
    "select",
    "*",
    "?",
    "a.b",
    'a"b',
    " ",
    "",
    "a\nb",
    "\0",
    "日本",
    "item",
)


@pytest.mark.parametrize("name", HOLDERS)
def test_columns_of_any_name_are_written_and_read(name, tmp_path):
    path = tmp_path / f"rows{FORMATS[name].suffix}"
    columns = {column: [place, place + 1, place] for place, column in enumerate([*NAMES, OTHER])}
    source = pa.table(columns)
    write_table(source, path)
    with closing(open_table(path)) as table:
        assert table.schema.equals(source.schema, check_metadata=True)
        assert table.read().equals(source)
        order = np.array([2, 1, 1, 0])
        assert table.take(order).equals(source.take(order))
        assert pa.Table.from_batches(table.stream(2)).equals(source)
        for column in NAMES:
            chosen = source.select([OTHER, column])
            assert table.take(order, [OTHER, column]).equals(chosen.take(order))
            assert table.read([OTHER, column]).equals(chosen)
    assert check(path).good


@pytest.mark.parametrize(
    "name, column",
    [
        (name, column)
        for name in HOLDERS
        for column in dict.fromkeys(OF_LIBRARIES * (name in PARSING) + [*ONE_OF_EACH_SORT])
    ],
)
def test_a_column_of_any_name_changes_no_row(name, column, tmp_path):
    """The values are places, so that they would be taken for the library's own numbers of rows."""
    path = tmp_path / f"rows{FORMATS[name].suffix}"
    source = pa.table({column: [2, 1, 0, 1], OTHER: [10, 20, 30, 40]})
    write_table(source, path)
    with closing(open_table(path)) as table:
        order = np.array([3, 1, 1, 0])
        assert table.take(order).equals(source.take(order))
        assert table.take(order, [OTHER]).equals(source.select([OTHER]).take(order))
        lazy = optimize(table, cache="lru")
        assert [(lazy[row][column].item(), lazy[row][OTHER].item()) for row in range(4)] == [
            (2, 10),
            (1, 20),
            (0, 30),
            (1, 40),
        ]


@pytest.mark.parametrize("name", ["rowid", "ROWID"])
def test_rows_of_others_are_found_though_a_column_is_called_rowid(name, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect(tmp_path / "a.duckdb") as connection:
        connection.execute(f'CREATE TABLE mine AS SELECT 9 - range AS "{name}", range AS x FROM range(10)')  # noqa: S608
        connection.execute("DELETE FROM mine WHERE x % 3 = 0")
    with closing(open_table(tmp_path / "a.duckdb")) as table:
        assert table.take(np.array([5, 0, 0]))["x"].to_pylist() == [8, 1, 1]


@pytest.mark.parametrize("name", ["*", "x y"])
def test_names_in_a_lance_dataset_of_others_are_no_expressions(name, tmp_path):
    source = pa.table({name: [1, 2], "x": [3, 4]})
    pytest.importorskip("lance").write_dataset(source, str(tmp_path / "a.lance"))
    with closing(open_table(tmp_path / "a.lance")) as table:
        assert table.take(np.array([1]), [name]).to_pylist() == [{name: 2}]
        assert table.read([name]).to_pylist() == [{name: 1}, {name: 2}]
        assert [batch.to_pylist() for batch in table.stream(5, [name])] == [[{name: 1}, {name: 2}]]
