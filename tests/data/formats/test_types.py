"""Every type of Arrow comes back from every format as it was written, or is refused before anything is written."""

from __future__ import annotations

from contextlib import closing
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_loaderperf.data import check
from pytest_loaderperf.data.formats import FORMATS, open_table, write_table
from pytest_loaderperf.data.formats.convert import converted, taken
from pytest_loaderperf.errors import DataError

FORMATS_OF_COLUMNS = ("parquet", "arrow", "lance", "duckdb", "vortex")
F = pa.float32()
DECIMALS = [Decimal(1), None, Decimal(2), Decimal(3)]
NUMBERS = [1, None, 2, 10**9 + 1]
TEXTS = ["a", "b", None, "a"]
DAY = pa.MonthDayNano([1, 2, 3])
CODES = pa.array([0, 1, 0, None], pa.int8())
PAIRS = pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(16, dtype=np.float32).reshape(8, 2))
SQUARES = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(pa.array(np.arange(28)), 2), 2)
TYPES = {
    "text dictionary": pa.array(TEXTS).dictionary_encode(),
    "int dictionary": pa.array([5, 6, 5, None]).dictionary_encode(),
    "bool dictionary": pa.array([True, False, None, True]).dictionary_encode(),
    "float dictionary": pa.array([1.5, 2, None, 1]).dictionary_encode(),
    "ordered dictionary": pa.DictionaryArray.from_arrays(CODES, ["lo", "hi"], ordered=True),
    "ordered int dictionary": pa.DictionaryArray.from_arrays(CODES, pa.array([7, 3]), ordered=True),
    "large text dictionary": pa.DictionaryArray.from_arrays(CODES, pa.array(["lo", "hi"], pa.large_string())),
    "dictionary of bytes": pa.array([b"a", b"b", None, b"a"]).dictionary_encode(),
    "dictionary of dates": pa.array([1, 2, None, 1], pa.date32()).dictionary_encode(),
    "list of dictionary": pa.ListArray.from_arrays([0, 2, 3, 3, 4], pa.array(list("abac")).dictionary_encode()),
    "struct of dictionary": pa.StructArray.from_arrays([pa.array(list("abac")).dictionary_encode()], ["d"]),
    "decimal32": pa.array(DECIMALS, pa.decimal32(5, 2)),
    "decimal64": pa.array(DECIMALS, pa.decimal64(12, 2)),
    "decimal128": pa.array(DECIMALS, pa.decimal128(10, 2)),
    "widest decimal128": pa.array(DECIMALS, pa.decimal128(38, 2)),
    "decimal256": pa.array(DECIMALS, pa.decimal256(50, 2)),
    "decimal of hundreds": pa.array([Decimal(100), None, Decimal(200), Decimal(300)], pa.decimal128(10, -2)),
    "list of decimal": pa.array([[Decimal(1)], None, [], [Decimal(2)]], pa.list_(pa.decimal128(10, 2))),
    **{f"duration {unit}": pa.array(NUMBERS, pa.duration(unit)) for unit in ("s", "ms", "us", "ns")},
    **{f"timestamp {unit}": pa.array(NUMBERS, pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")},
    "timestamp of a zone": pa.array(NUMBERS, pa.timestamp("us", "Europe/Berlin")),
    "date32": pa.array([1, None, 2, 3], pa.date32()),
    "date64": pa.array([86_400_000, None, 0, 86_400_000], pa.date64()),
    **{f"time32 {unit}": pa.array([1, None, 2, 3], pa.time32(unit)) for unit in ("s", "ms")},
    **{f"time64 {unit}": pa.array([1, None, 2, 3], pa.time64(unit)) for unit in ("us", "ns")},
    "interval": pa.array([DAY, None, DAY, DAY]),
    "string_view": pa.array(["a", None, "a text of more than twelve bytes", "c"], pa.string_view()),
    "binary_view": pa.array([b"a", None, b"bytes, more than twelve of them", b"c"], pa.binary_view()),
    "list of string_view": pa.array([["a"], None, [], ["b"]], pa.list_(pa.string_view())),
    "list_view": pa.array([[1, 2], None, [], [3]], pa.list_view(pa.int32())),
    "large_list_view": pa.array([[1, 2], None, [], [3]], pa.large_list_view(pa.int32())),
    "list_view of list_view": pa.array([[[1], []], None, [], [[2]]], pa.list_view(pa.list_view(pa.int32()))),
    "large_string": pa.array(["a", None, "b", ""], pa.large_string()),
    "large_binary": pa.array([b"a", None, b"b", b""], pa.large_binary()),
    "binary": pa.array([b"a", None, b"b", b""]),
    "fixed binary": pa.array([b"abc", None, b"bcd", b"xyz"], pa.binary(3)),
    "null": pa.nulls(4),
    "list of null": pa.array([[None], None, [], [None, None]], pa.list_(pa.null())),
    "map": pa.array([[("a", 1)], None, [], [("b", 2), ("c", None)]], pa.map_(pa.string(), pa.int32())),
    "map of string_view": pa.array([[("a", "x")], None, [], [("b", None)]], pa.map_(pa.string(), pa.string_view())),
    "list of struct": pa.array([[{"a": 1, "b": "x"}], None, [], [{"a": None, "b": None}]]),
    "struct with nulls": pa.array([{"a": 1}, None, {"a": None}, {"a": 3}]),
    "struct with nulls of others": pa.array(
        [{"a": 1}, None, {"a": 2}, {"a": 3}], pa.struct([pa.field("a", pa.int32(), nullable=False)])
    ),
    "struct of nothing": pa.array([{}, None, {}, {}], pa.struct([])),
    "struct of one name twice": pa.StructArray.from_arrays([pa.array([1, 2, 3, 4])] * 2, ["a", "a"]),
    "struct of twins": pa.array([{"a": 1, "A": 2}] * 4),
    "fixed list with nulls": pa.array([[1.0, 2.0], None, [3.0, None], [4.0, 5.0]], pa.list_(F, 2)),
    "fixed list of dictionary": pa.FixedSizeListArray.from_arrays(pa.array(list("abacabad")).dictionary_encode(), 2),
    "fixed list of codes": pa.FixedSizeListArray.from_arrays(pa.array([5, 6] * 4).dictionary_encode(), 2),
    "fixed list of texts": pa.FixedSizeListArray.from_arrays(pa.array(list("abacabad")), 2),
    "fixed list of structs": pa.FixedSizeListArray.from_arrays(pa.array([{"a": place} for place in range(8)]), 2),
    "fixed list of lists": pa.array([[[1], []], None, [[2], None], [[3], [4]]], pa.list_(pa.list_(pa.int32()), 2)),
    "fixed list of tensors": pa.FixedSizeListArray.from_arrays(PAIRS, 2),
    "list of tensors": pa.ListArray.from_arrays([0, 2, 2, 5, 8], PAIRS),
    "struct of tensors": pa.StructArray.from_arrays([PAIRS.slice(2, 4)], ["t"]),
    "fixed list of fixed lists": SQUARES.slice(3),
    "fixed list of a slice": pa.FixedSizeListArray.from_arrays(SQUARES.values.slice(2, 8), 2),
    "list of squares": pa.ListArray.from_arrays([0, 1, 1, 3, 4], SQUARES.slice(3)),
    "map of squares": pa.MapArray.from_arrays([0, 1, 1, 3, 4], pa.array(list("abcd")), SQUARES.slice(3)),
    "struct of squares": pa.StructArray.from_arrays([SQUARES], ["a"]).slice(3),
    "fixed list of nothing": pa.array([[], None, [], []], pa.list_(F, 0)),
    "list of fixed list": pa.array([[[1.0, 2.0]], None, [], [[3.0, 4.0], [5.0, 6.0]]], pa.list_(pa.list_(F, 2))),
    "list of halves": pa.array([[np.float16(1)], None, [], [np.float16(2)]], pa.list_(pa.float16())),
    "dictionary of views": pa.DictionaryArray.from_arrays([0, None, 1, 0], pa.array(["a", "b"], pa.string_view())),
    "codes of squares": pa.DictionaryArray.from_arrays([0, 1, None, 3], SQUARES.slice(3)),
    "dictionary with null": pa.DictionaryArray.from_arrays([0, 1, None, 0], pa.array(["a", None])),
    "runs": pa.RunEndEncodedArray.from_arrays(pa.array([2, 4], pa.int32()), pa.array([1.5, 2.5], F)),
    "bool8": pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, 1, None], pa.int8())),
    "uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16, None, b"1" * 16, b"2" * 16], pa.binary(16))),
    "json": pa.ExtensionArray.from_storage(pa.json_(), pa.array(["1", "2", None, "3"])),
    "union": pa.UnionArray.from_sparse(
        pa.array([0, 0, 1, 1], pa.int8()), [pa.array([1, 2, 3, 4]), pa.array(list("abcd"))]
    ),
    "dense union": pa.UnionArray.from_dense(
        pa.array([0, 0, 1, 1], pa.int8()), pa.array([0, 1, 0, 1], pa.int32()), [pa.array([1, 2]), pa.array(["a", "b"])]
    ),
    "greatest": pa.array([2**64 - 1, None, 0, 1], pa.uint64()),
    "not finite": pa.array([float("nan"), None, float("inf"), -0.0]),
}
_NOWHERE = {
    *("interval", "list of null", "union", "dense union", "ordered dictionary", "ordered int dictionary"),
    *("codes of squares", "struct of nothing", "struct of one name twice"),
}
REFUSES = {
    "parquet": _NOWHERE - {"ordered dictionary"}
    | {"runs", "decimal of hundreds", "fixed list of nothing", "dictionary of views"},
    "arrow": set(),
    "lance": _NOWHERE
    | {"fixed list of nothing", "fixed list of dictionary", "fixed list of texts"}
    | {"fixed list of structs", "fixed list of lists"},
    "duckdb": _NOWHERE | {"decimal256", "decimal of hundreds", "struct of twins"},
    "vortex": _NOWHERE,
}
REFUSED = [(name, kind) for name in FORMATS_OF_COLUMNS for kind in TYPES if kind in REFUSES[name]]


def values(rows, column="x"):
    """Of a column, as Python has them; those that it has no type for as whole numbers."""

    def value(scalar):
        try:
            return str(scalar.as_py())
        except ValueError:
            return str(getattr(scalar, "value", scalar))

    return [value(scalar) for scalar in rows[column]]


@pytest.mark.parametrize("name", FORMATS_OF_COLUMNS)
def test_types_come_back_as_they_were_written(name, tmp_path):
    held = {kind: column for kind, column in TYPES.items() if kind not in REFUSES[name]}
    source = pa.table({**held, "label": list(range(4))})
    batches = [*source.slice(0, 2).to_batches(), *source.slice(2).to_batches()]  # in memory that others share
    path = tmp_path / f"rows{FORMATS[name].suffix}"
    write_table(pa.RecordBatchReader.from_batches(source.schema, batches), path)
    with closing(open_table(path)) as table:
        assert table.schema.equals(source.schema, check_metadata=True)
        some = table.take(np.array([3, 1, 1, 0]))
        for came, places in (
            (table.read(), range(4)),
            (some, [3, 1, 1, 0]),
            (pa.Table.from_batches(table.stream(3), table.schema), range(4)),
        ):
            came.validate(full=True)
            assert came.schema == source.schema
            assert came["label"].to_pylist() == list(places)
            for kind in held:
                assert values(came, kind) == [values(source, kind)[place] for place in places], kind


@pytest.mark.parametrize("name, kind", REFUSED)
def test_a_type_that_would_not_come_back_is_refused_before_it_is_written(name, kind, tmp_path):
    def batches():
        raise AssertionError("read")
        yield

    schema = pa.schema({"label": pa.int64(), "x": TYPES[kind].type})
    with pytest.raises(DataError) as caught:
        write_table(pa.RecordBatchReader.from_batches(schema, batches()), tmp_path / "rows", name)
    assert str(caught.value).startswith("column 'x': expected ")
    assert f"got {TYPES[kind].type}. " in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_text_of_a_refusal_says_what_to_do(tmp_path):
    with pytest.raises(DataError) as caught:
        write_table(pa.table({"x": TYPES["interval"]}), tmp_path / "rows.lance")
    assert str(caught.value) == (
        "column 'x': expected a type that lance can store and give back unchanged, got month_day_nano_interval. "
        "Write it as arrow, which stores every type, or cast or drop that column."
    )


@pytest.mark.parametrize("kind", TYPES)
def test_rows_are_taken_of_every_type_and_of_slices(kind):
    whole = TYPES[kind]
    for part in (whole, whole.slice(1), whole.slice(1, 2)):
        table = pa.table({"x": part})
        came = taken(table, pa.array([1, 0, 1]))
        came.validate(full=True)
        assert came.schema == table.schema
        assert values(came) == [values(table)[place] for place in (1, 0, 1)]


@pytest.mark.parametrize("kind", [kind for kind in TYPES if "dictionary" in kind or "view" in kind or kind == "runs"])
def test_conversions_hold_for_slices_and_back(kind):
    from pytest_loaderperf.data.formats.storage import stored_type

    plain = stored_type(TYPES[kind].type, lambda one: one)
    for part in (TYPES[kind], TYPES[kind].slice(1), TYPES[kind].slice(2, 1), TYPES[kind].slice(4)):
        there = converted(part, plain)
        there.validate(full=True)
        back = converted(there, part.type)
        back.validate(full=True)
        assert values({"x": there}) == values({"x": back}) == values({"x": part})


@pytest.mark.parametrize("values", [[101, 102, 101], [True, False, True], [1.5, 0.5, 1.5]])
def test_categories_that_others_wrote_are_read(values, tmp_path):
    pq.write_table(pa.table({"plate": pa.array(values).dictionary_encode()}), tmp_path / "a.parquet")
    with closing(open_table(tmp_path / "a.parquet")) as table:
        assert table.read()["plate"].to_pylist() == values
    assert check(tmp_path / "a.parquet").good


def test_texts_of_a_vortex_file_of_others_are_taken(tmp_path):
    pytest.importorskip("vortex.io").write(pa.table({"s": ["a", "b"]}), str(tmp_path / "a.vortex"))
    with closing(open_table(tmp_path / "a.vortex")) as table:
        assert table.take(np.array([1, 0]))["s"].to_pylist() == ["b", "a"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("by_lance", [True, False])
def test_blobs_of_lance_come_as_bytes(kind, by_lance, tmp_path):
    lance = pytest.importorskip("lance")
    schema = pa.schema([pa.field("b", kind, metadata={"lance-encoding:blob": "true"}), ("x", pa.int32())])
    blobs = [b"abc", None, b"", b"de"]
    source = pa.table([pa.array(blobs, kind), pa.array([1, 2, 3, 4], pa.int32())], schema=schema)
    (lance.write_dataset if by_lance else write_table)(source, str(tmp_path / "a.lance"))
    with closing(open_table(tmp_path / "a.lance")) as table:
        assert table.read()["b"].to_pylist() == blobs
        assert table.take(np.array([3, 1, 3, 0]), ["b"])["b"].to_pylist() == [b"de", None, b"de", b"abc"]
        assert table.take(np.array([3, 1])).to_pylist() == [{"b": b"de", "x": 4}, {"b": None, "x": 2}]
        assert [b for batch in table.stream(3, ["x", "b"]) for b in batch["b"].to_pylist()] == blobs
        assert by_lance or table.schema.equals(schema, check_metadata=True)
