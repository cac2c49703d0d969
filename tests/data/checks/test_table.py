from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from pytest_loaderperf.data import check, optimize, workload
from pytest_loaderperf.data.checks.findings import Problem
from pytest_loaderperf.data.checks.table import laid_out, rows_at_once, unusable
from pytest_loaderperf.errors import DataError
from tests.data import stand_in

UNUSABLE = "holds NaN, infinity or a null; expected finite numbers"


@pytest.fixture(autouse=True)
def formats(monkeypatch):
    stand_in.put_in_place(monkeypatch)


@pytest.fixture
def write(tmp_path):
    def write(**columns):
        path = tmp_path / "t.parquet"
        parquet.write_table(pa.table(columns), path)
        return path

    return write


@pytest.fixture
def write_arrow(tmp_path, monkeypatch):
    """Writes one column x as the Arrow IPC file that the real format reads."""
    monkeypatch.undo()
    stand_in.stay_in_process(monkeypatch)

    def write(array):
        path = tmp_path / "t.arrow"
        table = pa.table({"x": array})
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
        return path

    return write


def places(result):
    return [(problem.row, problem.field, problem.what) for problem in result.problems]


@pytest.mark.parametrize("name", ["images", "tables", "tokens", "volumes", "imbalanced"])
def test_a_workload_that_was_put_on_disk_has_no_problems(tmp_path, name):
    data = workload(name, samples=8)
    stand_in.write_table(data.batches(3), tmp_path / "t.parquet")
    result = check(tmp_path / "t.parquet", classes=data.spec.classes or None)
    assert result.problems == ()
    assert (result.kind, result.checked, result.total, result.stopped_early) == ("parquet", 8, 8, False)


def test_values_that_cannot_be_trained_on_are_named_by_row_and_field(write):
    path = write(
        x=pa.array([1.0, float("nan"), None, float("inf")]),
        tokens=pa.array([[1], [], [2, None], [3]]),
        text=pa.array(["a", "b", "c", None]),
        label=pa.array([0, 3, -1, 1]),
    )
    result = check(path, classes=3)
    assert places(result) == [
        (1, "x", UNUSABLE),
        (1, "label", "is 3; expected 0 to 2"),
        (2, "x", "is null"),
        (2, "tokens", UNUSABLE),
        (2, "label", "is -1; expected 0 to 2"),
        (3, "x", UNUSABLE),
        (3, "text", "is null"),
    ]
    assert result.found == 7
    assert not result.good


def test_labels_are_let_be_where_no_classes_are_stated(write):
    assert check(write(label=[5, -1])).good


def test_a_dtype_that_there_is_not_is_refused(tmp_path):
    with pytest.raises(DataError, match="dtype: expected a name that NumPy knows, such as uint16, got 'foo'"):
        check(tmp_path, dtype="foo")


def test_a_stated_shape_and_dtype_hold_for_every_column_of_arrays(tmp_path):
    stand_in.write_table(workload("images", samples=5).batches(), tmp_path / "t.parquet")
    assert check(tmp_path / "t.parquet", shape=(100, 100), dtype="uint16").good
    result = check(tmp_path / "t.parquet", shape=(100,), dtype="uint8")
    assert places(result) == [
        (None, "image", "has shape (100, 100); expected (100,)"),
        (None, "image", "has dtype uint16; expected uint8"),
    ]


def test_a_stated_length_holds_for_every_list(write):
    result = check(write(tokens=[[1, 2], [3], [4, 5]]), shape=(2,))
    assert places(result) == [(1, "tokens", "has 1 items; expected 2")]


def test_labels_that_are_no_whole_numbers_are_a_problem(write):
    assert places(check(write(label=["a"]), classes=2)) == [(None, "label", "has type string; expected integers")]


@pytest.mark.parametrize("workers", [1, 4])
def test_after_max_errors_no_more_is_read(write, monkeypatch, workers):
    monkeypatch.setattr("pytest_loaderperf.data.checks.table._MOST_ROWS", 10)
    path = write(label=[0] * 15 + [9] * 1000)
    result = check(path, classes=2, max_errors=3, workers=workers)
    assert (result.checked, result.total, result.stopped_early, result.found) == (20, 1015, True, 5)
    assert [problem.row for problem in result.problems] == [15, 16, 17]


@pytest.mark.parametrize("workers", [1, 4])
def test_a_table_that_fails_in_its_midst_is_a_problem_after_those_before(write, monkeypatch, workers):
    monkeypatch.setattr("pytest_loaderperf.data.checks.table._MOST_ROWS", 10)
    monkeypatch.setattr(stand_in.ParquetTable, "fails_at", 30)
    path = write(label=[0] * 25 + [9] * 1000)
    result = check(path, classes=2, workers=workers, max_errors=0)
    assert (result.checked, result.found, result.stopped_early) == (30, 6, False)
    assert check(path, classes=2, workers=workers, max_errors=100).problems[-1] == Problem(
        str(path), None, None, "cannot be read at row 30."
    )


@pytest.mark.parametrize(
    "content, what", [(b"", "is empty (0 bytes)"), (b"PAR1hello", "cannot be read: "), (None, "cannot be read: ")]
)
def test_an_empty_foreign_or_truncated_file_is_a_problem(write, content, what):
    path = write(x=list(range(1000)))
    path.write_bytes(path.read_bytes()[:500] if content is None else content)
    result = check(path)
    assert (result.checked, result.found, result.problems[0].file) == (0, 1, str(path))
    assert result.problems[0].what.startswith(what)


def test_a_table_without_rows_is_a_problem(write):
    assert places(check(write(x=pa.array([], pa.int64())))) == [(None, None, "has no rows")]


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"classes": 3}, "{path} has no column 'label' with classes to check; columns: x."),
        ({"shape": (2,)}, "{path} has no column of arrays with a shape or dtype to check; columns: x."),
        ({"max_errors": -1}, "max_errors: expected an integer of at least 0, got -1."),
        ({"classes": 0}, "classes: expected an integer of at least 1, got 0."),
        ({"shape": (0,)}, "shape: expected a tuple of integers of at least 1, got (0,)."),
        ({"workers": 0}, "max_workers: expected an integer of at least 1 or None, got 0."),
    ],
)
def test_arguments_that_do_not_fit_are_refused(write, arguments, text):
    path = write(x=[1])
    with pytest.raises(Exception) as caught:
        check(path, **arguments)
    assert str(caught.value) == text.format(path=path)


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        check(tmp_path / "gone.parquet")
    assert str(caught.value) == (
        f"{tmp_path / 'gone.parquet'} does not exist. Give the path of a folder of images or of a table."
    )


def test_a_format_that_is_not_installed_is_refused_with_the_way_to_have_it(tmp_path):
    (tmp_path / "t.absent").write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        check(tmp_path / "t.absent")
    assert str(caught.value) == (
        f"{tmp_path / 't.absent'} is of the format absent, which is not installed. Run: pip install no-such-package"
    )


NAN = float("nan")
LISTS = (pa.list_, pa.large_list, pa.list_view, pa.large_list_view)
SQUARE = [[[1, 2], [3, 4]], [[1, 2, 3], [4, 5, 6]], [[1, 2], [3]], [[1], [2], [3]]]


@pytest.mark.parametrize("outer", LISTS)
@pytest.mark.parametrize("inner", LISTS)
def test_lists_of_lists_are_checked_along_each_axis(outer, inner, write_arrow):
    path = write_arrow(pa.array(SQUARE, outer(inner(pa.int64()))))
    assert places(check(path, shape=(2, 3))) == [
        (0, "x", "has shape (2, 2); expected (2, 3)"),
        (2, "x", "has lists of several lengths; expected one along each axis"),
        (3, "x", "has shape (3, 1); expected (2, 3)"),
    ]


def test_optimize_refuses_the_rows_that_the_check_names(write_arrow):
    path = write_arrow(pa.array(SQUARE))
    assert places(check(path)) == [(2, "x", "has lists of several lengths; expected one along each axis")]
    with pytest.raises(DataError, match="several lengths within row 2"):
        optimize(pa.table({"x": SQUARE}), cache="whole")


@pytest.mark.parametrize(
    "array",
    [
        *[pa.array([[1, 2], [3, 4]], one(pa.int32())) for one in LISTS],
        pa.ListArray.from_arrays([0, 2, 4], pa.array([1, 2, 3, 4], pa.int32()).dictionary_encode()),
        pa.FixedSizeListArray.from_arrays(pa.array([1, 2, 3, 4], pa.int32()).dictionary_encode(), 2),
        pa.array([[1, 2], [3, 4]], pa.list_view(pa.int32())).take(pa.array([1, 0])).take(pa.array([1, 0])),
    ],
)
@pytest.mark.parametrize("cache", ["whole", "lru", "compressed"])
def test_what_the_check_finds_good_is_loaded(array, cache, write_arrow):
    assert check(write_arrow(array)).good
    store = optimize(pa.table({"x": array}), cache=cache)
    assert [store[row]["x"].tolist() for row in range(2)] == [[1, 2], [3, 4]]


@pytest.mark.parametrize("array", [pa.array([7, 8, 7]).dictionary_encode(), pa.array([7.0, 8.0, 7.0])])
@pytest.mark.parametrize("cache", ["whole", "lru"])
def test_encoded_numbers_are_loaded_as_their_values(array, cache):
    store = optimize(pa.table({"x": array}), cache=cache)
    assert [store[row]["x"].item() for row in range(3)] == [7, 8, 7]


def test_labels_that_are_a_dictionary_are_checked_by_their_values(tmp_path):
    pq_path = tmp_path / "t.parquet"
    parquet.write_table(pa.table({"label": pa.array([0, 5, 0]).dictionary_encode()}), pq_path, store_schema=True)
    assert places(check(pq_path, classes=3)) == [(1, "label", "is 5; expected 0 to 2")]


@pytest.mark.parametrize(
    "array, bad",
    [
        (pa.array([1, None, 3]), [0, 0, 0]),
        (pa.array([1.0, NAN, None]), [0, 1, 0]),
        (pa.array([1.0, NAN, 2.0]).slice(1), [1, 0]),
        (pa.array(np.array([1, np.nan], np.float16)), [0, 1]),
        (pa.array([[1.0], [], [2.0, NAN], [None], None]), [0, 0, 1, 1, 0]),
        (pa.array([[1.0], [NAN], [2.0]]).slice(2), [0]),
        (pa.array([[1.0, 2.0], [NAN, 1.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)).slice(1), [1, 0]),
        (pa.array([[[1.0, NAN]], [[2.0]]]), [1, 0]),
        (pa.array([{"planes": [{"z": None, "pixels": [1.0]}]}, {"planes": [{"z": 1, "pixels": [NAN]}]}]), [1, 1]),
        (pa.array([[[1.0]], [None], None]), [0, 1, 0]),
        (pa.array([{"a": 1.0}, {"a": None}, {"a": NAN}, None]), [0, 1, 1, 0]),
        (pa.array([{"a": "x"}, {"a": None}]), [0, 1]),
        (pa.array([["x"], [None]]), [0, 1]),
        *[(pa.array([[1.0], [NAN], None, [None], []], one(pa.float32())), [0, 1, 0, 1, 0]) for one in LISTS],
        *[(pa.array([[2.0], [NAN], [1.0]], one(pa.float32())).slice(1, 1), [1]) for one in LISTS],
        (pa.array([1.0, NAN, None]).dictionary_encode(), [0, 1, 0]),
        (pa.ListArray.from_arrays([0, 1, 2], pa.array([1.0, NAN]).dictionary_encode()), [0, 1]),
        (pa.array([[("a", 1.0)], [("a", NAN)], [("a", None)], None], pa.map_(pa.string(), pa.float32())), [0, 1, 1, 0]),
        (pa.RunEndEncodedArray.from_arrays(pa.array([1, 3], pa.int32()), pa.array([1.0, NAN])), [0, 1, 1]),
        (pa.array([[1.0, 2.0], [1.0, None], [NAN, 1.0]], pa.list_(pa.float32(), 2)), [0, 1, 1]),
        (pa.array([[[1.0], [NAN]], [[1.0], None]], pa.list_view(pa.list_(pa.float32()))), [1, 1]),
        (pa.ExtensionArray.from_storage(pa.opaque(pa.float32(), "t", "v"), pa.array([1.0, NAN], pa.float32())), [0, 1]),
        (
            pa.UnionArray.from_sparse(
                pa.array([0, 1, 0], pa.int8()), [pa.array([1.0, NAN, NAN]), pa.array([None, "a", None])]
            ),
            [0, 0, 1],
        ),
        (
            pa.UnionArray.from_dense(
                pa.array([0, 1, 0], pa.int8()),
                pa.array([0, 0, 1], pa.int32()),
                [pa.array([1.0, NAN]), pa.array(["a"])],
            ),
            [0, 0, 1],
        ),
        (pa.FixedShapeTensorArray.from_numpy_ndarray(np.array([[[1.0]], [[np.inf]]])), [0, 1]),
        (pa.array(["a", None]), [0, 0]),
    ],
)
def test_values_that_are_not_finite_are_found_at_any_depth(array, bad):
    assert unusable(array).tolist() == [bool(value) for value in bad]


@pytest.mark.parametrize(
    "kind, shape, item",
    [
        (pa.int8(), (), pa.int8()),
        (pa.list_(pa.int8()), (None,), pa.int8()),
        (pa.list_(pa.list_(pa.int8(), 3), 2), (2, 3), pa.int8()),
        (pa.fixed_shape_tensor(pa.int8(), (2, 3)), (2, 3), pa.int8()),
        (pa.fixed_shape_tensor(pa.int8(), (2, 3), permutation=[1, 0]), (3, 2), pa.int8()),
    ],
)
def test_the_shape_of_a_column_is_told_by_its_type(kind, shape, item):
    assert laid_out(kind) == (shape, item)


@pytest.mark.parametrize(
    "kind, rows",
    [
        (pa.bool_(), 1 << 14),
        (pa.fixed_shape_tensor(pa.float32(), (1024, 1024)), 1),
        (pa.fixed_shape_tensor(pa.uint16(), (100, 100)), 419),
        (pa.struct({"planes": pa.list_(pa.uint16())}), 127),
    ],
)
def test_rows_are_read_some_megabytes_at_once(kind, rows):
    assert rows_at_once(pa.schema({"x": kind})) == rows
