"""What every format does alike."""

from __future__ import annotations

import pickle
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import numpy as np
import pyarrow as pa
import pytest

from pytest_loaderperf.data.formats import FORMATS, open_table, parquet, write_table
from pytest_loaderperf.data.formats.storage import SCHEMA_FILE
from pytest_loaderperf.errors import DataError
from tests.data.formats.kinds import CASES, HOLDS, KINDS, REFUSED, ROWS

SMALL = KINDS["tensors"]
EMPTY = ("bools", "tensors", "permuted", "fields", "nested")  # kinds that an empty table may lose in its own way
every_format = pytest.mark.parametrize("name", HOLDS)
every_case = pytest.mark.parametrize("name, kind", CASES)


def batches_of(table, rows):
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(rows))


def files_under(path):
    return sorted(part for part in path.rglob("*") if part.is_file()) if path.is_dir() else [path]


@pytest.fixture
def written(tmp_path):
    """Writes a table in the format and opens it; closes it in the end."""
    tables = []

    def write(name, table):
        path = tmp_path / f"rows{FORMATS[name].suffix}"
        write_table(batches_of(table, 5), path, name)
        tables.append(open_table(path, name))
        return tables[-1]

    yield write
    for table in tables:
        table.close()


@pytest.fixture(scope="module")
def path_of(tmp_path_factory):
    """Where a table of the kind lies in the format: written once, so only to be read."""
    paths = {}

    def path(name, kind):
        if (name, kind) not in paths:
            paths[name, kind] = tmp_path_factory.mktemp(kind) / f"rows{FORMATS[name].suffix}"
            write_table(batches_of(KINDS[kind], 5), paths[name, kind], name)
        return paths[name, kind]

    return path


@pytest.fixture
def opened(path_of):
    """Opens a table that is only read; closes it in the end."""
    tables = []

    def open_one(name, kind="tensors"):
        tables.append(open_table(path_of(name, kind), name))
        return tables[-1]

    yield open_one
    for table in tables:
        table.close()


def same(came, expected):
    """Equal in schema, down to the metadata, and in values."""
    assert came.schema.equals(expected.schema, check_metadata=True), came.schema
    came.validate(full=True)
    assert came.equals(expected)
    return True


def test_the_contract_covers_every_format_and_every_kind():
    assert list(HOLDS) == list(FORMATS)
    assert {kind for _, kind in CASES} == set(KINDS)


@every_case
def test_what_was_written_is_read(name, kind, opened):
    table = opened(name, kind)
    assert table.schema.equals(KINDS[kind].schema, check_metadata=True)
    assert len(table) == ROWS
    assert same(table.read(), KINDS[kind])


@every_case
def test_take_gives_the_rows_in_the_order_asked_for(name, kind, opened):
    table = opened(name, kind)
    for indices in ([3], [12, 0, 5, 5, 1, 12], list(range(ROWS)), []):
        assert same(table.take(np.array(indices, np.int64)), KINDS[kind].take(pa.array(indices, pa.int64())))


@every_case
def test_a_range_of_rows_is_a_slice(name, kind, opened):
    table = opened(name, kind)
    for start, stop in ((0, ROWS), (3, 4), (4, 11), (5, 10), (12, ROWS), (7, 7)):
        rows = table.rows(start, stop)
        assert same(rows, KINDS[kind].slice(start, stop - start))
        assert all(batch.cast(batch.schema).equals(batch) for batch in rows.to_batches())  # Arrow fails for some slices


@every_format
def test_a_range_that_is_not_in_the_table_is_an_error(name, opened):
    for start, stop in ((-1, 2), (5, 4), (0, ROWS + 1)):
        with pytest.raises(IndexError, match=rf"rows {start} to {stop} are out of range for .*, which has 13 rows"):
            opened(name).rows(start, stop)


@every_case
def test_a_stream_has_all_rows_in_small_batches(name, kind, opened):
    table = opened(name, kind)
    for rows in (1, 4, 100):
        batches = list(table.stream(rows))
        assert all(1 <= len(batch) <= rows for batch in batches)
        assert all(batch.cast(batch.schema).equals(batch) for batch in batches)  # Arrow fails for some slices
        assert same(pa.Table.from_batches(batches), KINDS[kind])


@pytest.mark.parametrize("name", ["parquet", "arrow"])
def test_a_stream_that_has_begun_outlives_its_mapped_table(name, path_of):
    table = open_table(path_of(name, "tensors"), name)
    batches = table.stream(4)
    first = next(batches)
    table.close()
    assert same(pa.Table.from_batches([first, *batches]), KINDS["tensors"])


@pytest.mark.parametrize("name", [name for name, kind in CASES if kind == "tensors"])
def test_columns_are_a_list_of_different_names(name, opened):
    table = opened(name)
    for columns in ([], ["label", "label"], "label"):
        with pytest.raises(DataError, match="expected columns as a list of different names, got"):
            table.read(columns)


@pytest.mark.parametrize("name", [name for name, kind in CASES if kind == "tensors"])
@pytest.mark.parametrize("columns", [["label"], ["label", "image"]])
def test_columns_that_are_named_are_those_that_come(name, columns, opened):
    table, chosen = opened(name), KINDS["tensors"].select(columns)
    assert same(table.read(columns), chosen)
    assert same(table.take(np.array([12, 0, 5]), columns), chosen.take(pa.array([12, 0, 5])))
    assert same(table.take(np.array([], int), columns), chosen.slice(0, 0))
    assert same(pa.Table.from_batches(table.stream(4, columns)), chosen)
    for read in (table.read, lambda none: table.take(np.array([0]), none), lambda none: table.stream(4, none)):
        with pytest.raises(DataError, match=r"has no column 'none'. It has: image, label\.$"):
            read(["none"])


@pytest.mark.parametrize("name, kind", [case for case in CASES if case[1] in EMPTY])
def test_no_rows_keep_their_schema(name, kind, written):
    empty = KINDS[kind].slice(0, 0)
    table = written(name, empty)
    assert len(table) == 0
    assert same(table.read(), empty)
    assert list(table.stream(3)) == []
    with pytest.raises(IndexError):
        table.take(np.array([0]))


@pytest.mark.parametrize("name, kind", REFUSED)
def test_a_column_that_the_format_cannot_hold_is_refused_by_name(name, kind, tmp_path):
    path = tmp_path / "rows"
    with pytest.raises(DataError) as caught:
        write_table(KINDS[kind], path, name)
    assert any(column in str(caught.value) for column in KINDS[kind].column_names)
    assert list(tmp_path.iterdir()) == []


@every_format
def test_a_table_is_written_as_its_stream_is(name, tmp_path):
    path = tmp_path / f"rows{FORMATS[name].suffix}"
    write_table(SMALL, path)
    table = open_table(path)
    assert same(table.read(), SMALL)
    table.close()


@every_format
def test_a_column_that_is_not_there_is_named_with_those_that_are(name, opened):
    table = opened(name)
    with pytest.raises(DataError) as caught:
        table.read(["labels"])
    assert str(caught.value) == f"{table.path} has no column 'labels'. It has: image, label."


@every_format
def test_an_index_out_of_range_is_named(name, opened):
    table = opened(name)
    for index in (ROWS, -1):
        with pytest.raises(IndexError) as caught:
            table.take(np.array([0, index]))
        assert str(caught.value) == f"index {index} is out of range for {table.path}, which has {ROWS} rows."


@every_format
def test_indices_are_one_row_of_whole_numbers(name, opened):
    table = opened(name)
    for indices in (np.array([0.5]), np.array([[0]]), np.array([True])):
        with pytest.raises(DataError, match=r"expected indices as one row of integers, got .* Pass an int64 array."):
            table.take(indices)


@every_format
def test_a_stream_of_no_rows_is_refused_at_once(name, opened):
    table = opened(name)
    for rows in (0, -1, 2.0, True):
        with pytest.raises(DataError, match=f"expected rows as an integer of at least 1, got {rows!r}."):
            table.stream(rows)


@every_format
def test_close_may_be_called_twice_and_ends_all_use(name, opened):
    table = opened(name)
    table.close()
    table.close()
    for use in (table.read, lambda: table.take(np.array([0])), lambda: table.stream(1)):
        with pytest.raises(DataError) as caught:
            use()
        assert str(caught.value) == f"{table.path} was closed. Open it again, or close it later."


@every_format
def test_what_was_read_outlives_the_table(name, opened):
    table = opened(name)
    rows, some = table.read(), table.take(np.array([1]))
    table.close()
    del table
    assert same(rows, SMALL)
    assert same(some, SMALL.slice(1, 1))


@every_format
def test_threads_may_take_from_one_table(name, tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROW_GROUP_NBYTES", 1)  # which makes for many reads
    path = tmp_path / f"rows{FORMATS[name].suffix}"
    write_table(batches_of(SMALL, 1), path, name)
    orders = np.random.default_rng(0).integers(0, ROWS, (40, 8))
    with closing(open_table(path, name)) as table, ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(table.take, orders))
    assert all(same(rows, SMALL.take(pa.array(order))) for rows, order in zip(taken, orders, strict=True))


@every_format
def test_a_file_gives_way_to_what_is_written(name, tmp_path):
    path = tmp_path / "rows"
    path.write_text("older")
    write_table(SMALL, path, name)
    assert list(tmp_path.iterdir()) == [path]
    with closing(open_table(path, name)) as table:
        assert same(table.read(), SMALL)


@every_format
def test_a_table_is_pickled_as_its_path(name, opened):
    table = opened(name)
    again = pickle.loads(pickle.dumps(table))  # noqa: S301 our own bytes
    assert same(again.take(np.array([2])), SMALL.slice(2, 1))
    again.close()


@every_format
def test_a_missing_path_is_named(name, tmp_path):
    path = tmp_path / f"none{FORMATS[name].suffix}"
    with pytest.raises(DataError) as caught:
        open_table(path, name)
    assert str(caught.value) == f"{path} is missing. Give a path that exists, or write it first."


@every_format
def test_a_truncated_file_is_an_error_that_names_it(name, written):
    table = written(name, SMALL)
    table.close()
    largest = max(
        (part for part in files_under(table.path) if part.name != SCHEMA_FILE), key=lambda part: part.stat().st_size
    )
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    for read in (lambda again: again.read(), lambda again: list(again.stream(3))):
        with (
            pytest.raises(DataError, match=r"cannot be read|is truncated"),
            closing(open_table(table.path, name)) as again,
        ):
            read(again)


@every_format
def test_other_contents_are_an_error_that_names_the_path(name, tmp_path):
    file, folder = tmp_path / "text", tmp_path / "folder"
    file.write_text("not a table, but long enough for the header of one\n" * 100)
    folder.mkdir()
    (folder / "text").write_text("nor this")
    for path in (file, folder):
        with pytest.raises(DataError, match=str(path)):
            open_table(path, name)


def _failing(table):
    def batches():
        yield from table.to_batches(4)[:2]
        raise RuntimeError("the source broke")

    return pa.RecordBatchReader.from_batches(table.schema, batches())


@every_format
@pytest.mark.parametrize("before", ["nothing", "an older one"])
def test_a_source_that_breaks_leaves_what_was_there(name, before, tmp_path):
    path, older = tmp_path / f"rows{FORMATS[name].suffix}", SMALL.slice(0, 3)
    if before != "nothing":
        write_table(older, path, name)
    with pytest.raises(DataError, match=r"cannot be written: .*the source broke"):
        write_table(_failing(SMALL), path, name)
    assert sorted(tmp_path.iterdir()) == ([] if before == "nothing" else [path])
    if before != "nothing":
        with closing(open_table(path, name)) as table:
            assert same(table.read(), older)


@every_format
def test_a_full_disk_leaves_what_was_there(name, tmp_path):
    """A limit on the size of files stands for the disk."""
    path, older = tmp_path / f"rows{FORMATS[name].suffix}", SMALL.slice(0, 3)
    write_table(older, path, name)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(DataError, match="cannot be written") as caught:
            write_table(SMALL, path, name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(path) in str(caught.value)
    assert sorted(tmp_path.iterdir()) == [path]
    with closing(open_table(path, name)) as table:
        assert same(table.read(), older)


@every_format
def test_a_folder_that_may_not_be_written_to_is_an_error(name, tmp_path):
    (tmp_path / "file").write_text("a file has no children")
    with pytest.raises(DataError, match=r"cannot be written: .* Give a folder that you may write to."):
        write_table(SMALL, tmp_path / "file" / f"rows{FORMATS[name].suffix}", name)


@every_format
def test_all_of_it_is_on_the_disk_before_it_takes_its_place(name, written, synced, tmp_path):
    table = written(name, SMALL)
    folder = synced[0].parent
    assert synced[0].name == table.path.name
    assert folder.parent == tmp_path
    assert not folder.exists()
    inside = sorted(table.path.rglob("*"))
    assert sorted(synced[1:-1]) == [synced[0] / part.relative_to(table.path) for part in inside]
    assert synced[-1] == tmp_path


@every_format
def test_an_older_one_is_replaced_whole(name, written):
    written(name, SMALL)
    table = written(name, SMALL.slice(0, 3))
    assert same(table.read(), SMALL.slice(0, 3))


@every_format
def test_a_folder_of_other_things_is_never_replaced(name, tmp_path):
    path = tmp_path / f"rows{FORMATS[name].suffix}"
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError) as caught:
        write_table(SMALL, path, name)
    assert (
        str(caught.value)
        == f"{path} is a folder that loaderperf did not write, so it is not replaced. Give another path."
    )
    assert (path / "thesis.tex").read_text() == "years of work"


@every_format
def test_a_path_may_hold_quotes_and_blanks(name, tmp_path):
    path = tmp_path / "it's a folder; ü" / f"ro ws{FORMATS[name].suffix}"
    path.parent.mkdir()
    write_table(SMALL, path)
    with closing(open_table(path)) as table:
        assert same(table.read(), SMALL)
    shutil.rmtree(path.parent)
