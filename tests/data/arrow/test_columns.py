from __future__ import annotations

import gc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_loaderperf.data.arrays.ragged import Flat, Ragged, alike, joined, settled
from pytest_loaderperf.data.arrow.columns import arrays_of, flat_of
from pytest_loaderperf.data.arrow.ome_arrow import ome_arrow_array
from pytest_loaderperf.errors import DataError

ROWS = 6
NUMBERS = pa.array(np.arange(ROWS * 6, dtype=np.int16))


def allocated():
    """Bytes that Arrow holds, without those of other tests' garbage."""
    gc.collect()
    return pa.total_allocated_bytes()


def table(**columns):
    return pa.table(columns)


def tensors(array, shape):
    kind = pa.fixed_shape_tensor(array.type, shape)
    size = int(np.prod(shape))
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(array, size))


def lists(array, size, kind=pa.ListArray):
    return kind.from_arrays(
        pa.array(np.arange(0, len(array) + 1, size), kind.from_arrays([0], array).offsets.type), array
    )


UNIFORM = {
    "numbers": (NUMBERS[:ROWS], (ROWS,)),
    "float16": (pa.array(np.arange(ROWS).astype("f2")), (ROWS,)),
    "uint64": (pa.array(np.arange(ROWS, dtype="u8")), (ROWS,)),
    "lists": (lists(NUMBERS, 6), (ROWS, 6)),
    "large lists": (lists(NUMBERS, 6, pa.LargeListArray), (ROWS, 6)),
    "fixed-size lists": (pa.FixedSizeListArray.from_arrays(NUMBERS, 6), (ROWS, 6)),
    "lists of lists": (lists(lists(NUMBERS, 3), 2), (ROWS, 2, 3)),
    "lists of fixed-size lists": (lists(pa.FixedSizeListArray.from_arrays(NUMBERS, 3), 2), (ROWS, 2, 3)),
    "fixed-size lists of lists": (pa.FixedSizeListArray.from_arrays(lists(NUMBERS, 3), 2), (ROWS, 2, 3)),
    "tensors": (tensors(NUMBERS, (2, 3)), (ROWS, 2, 3)),
    "images": (ome_arrow_array(np.arange(ROWS * 6, dtype=np.uint16).reshape(ROWS, 2, 3)), (ROWS, 2, 3)),
}


def extent(array):
    start = array.ctypes.data
    return start, start + array.nbytes


def buffers(array):
    storage = array.storage if isinstance(array, pa.ExtensionArray) else array
    return [(b.address, b.address + b.size) for b in storage.buffers() if b is not None]


@pytest.fixture(params=UNIFORM)
def column(request):
    return UNIFORM[request.param]


class TestUniform:
    def test_a_column_is_a_view_of_arrows_own_buffer(self, column):
        array, shape = column
        before = allocated()
        rows = arrays_of(table(x=array))["x"]
        assert allocated() == before
        assert rows.shape == shape
        assert rows.ravel().tolist() == list(range(rows.size))
        start, stop = extent(rows)
        assert any(low <= start and stop <= high for low, high in buffers(array))

    def test_so_is_a_slice(self, column):
        array, _ = column
        whole, part = (arrays_of(table(x=found))["x"] for found in (array, array[2:5]))
        assert part.ctypes.data == whole[2:].ctypes.data
        assert np.array_equal(part, whole[2:5])

    def test_chunks_are_joined_in_their_order(self, column):
        array, _ = column
        whole = arrays_of(table(x=array))["x"]
        rows = arrays_of(table(x=pa.chunked_array([array[4:], array[:0], array[:4]])))["x"]
        assert np.array_equal(rows, whole[[4, 5, 0, 1, 2, 3]])

    def test_empty_chunks_beside_one_take_no_copy(self, column):
        array, _ = column
        rows = arrays_of(table(x=pa.chunked_array([array[:0], array, array[:0]])))["x"]
        assert rows.ctypes.data == arrays_of(table(x=array))["x"].ctypes.data

    def test_without_rows_the_dtype_stays(self, column):
        array, _ = column
        dtype = arrays_of(table(x=array))["x"].dtype
        for none in (array[:0], pa.chunked_array([], array.type)):
            rows = arrays_of(table(x=none))["x"]
            assert (len(rows), rows.dtype) == (0, dtype)

    def test_flat_of_has_the_same_samples(self, column):
        array, _ = column
        for found in (pa.chunked_array([array]), pa.chunked_array([array[4:], array[:4]])):
            assert np.array_equal(settled(flat_of(table(x=found), "x")), arrays_of(table(x=found))["x"])

    def test_bools_are_unpacked(self):
        flags = pa.array([True, False, True])
        assert arrays_of(table(x=flags))["x"].tolist() == [True, False, True]
        assert arrays_of(table(y=lists(flags, 3)))["y"].tolist() == [[True, False, True]]


def ragged(array):
    return arrays_of(table(x=array))["x"]


class TestRagged:
    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_samples_are_those_of_the_lists(self, data):
        depth = data.draw(st.integers(1, 3))
        kind, dtype = pa.float32(), np.float32
        for _ in range(depth):
            kind = data.draw(st.sampled_from([pa.list_, pa.large_list]))(kind)
        shapes = data.draw(st.lists(st.tuples(*[st.integers(0, 3)] * depth), max_size=8))
        samples = [np.arange(np.prod(shape), dtype=dtype).reshape(shape) + i for i, shape in enumerate(shapes)]
        array = pa.array([sample.tolist() for sample in samples], kind)
        start = data.draw(st.integers(0, len(samples)))
        cut = data.draw(st.integers(start, len(samples)))
        for column in (array[start:], pa.chunked_array([array[start:cut], array[cut:]])):
            rows = ragged(column)
            assert (len(rows), rows.dtype) == (len(samples) - start, dtype)
            found = [rows[i] for i in range(len(rows))] if isinstance(rows, Ragged) else rows
            assert [sample.tolist() for sample in found] == [sample.tolist() for sample in samples[start:]]
            if isinstance(rows, Ragged):
                order = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=9)))
                taken = rows.take(order)
                assert [sample.tolist() for sample in taken] == [samples[start + i].tolist() for i in order]
                assert [sample.shape for sample in taken] == [rows[i].shape for i in order]

    def test_a_sample_is_a_view_of_arrows_own_buffer(self):
        array = pa.array([[0], [1, 2], [3, 4, 5]], pa.list_(pa.int32()))
        before = allocated()
        rows = ragged(array)
        assert allocated() == before
        assert rows.values.ctypes.data == array.values.buffers()[1].address
        assert rows[1].ctypes.data == rows.values.ctypes.data + 4
        assert ragged(array[1:]).values.ctypes.data == rows.values.ctypes.data + 4

    def test_a_batch_lies_in_one_buffer_of_its_own(self):
        rows = ragged(pa.array([[0], [1, 2], [3, 4, 5]], pa.list_(pa.int32())))
        batch = rows.take(np.array([2, 0, 2]))
        assert [sample.tolist() for sample in batch] == [[3, 4, 5], [0], [3, 4, 5]]
        addresses = [sample.ctypes.data for sample in batch]
        assert np.diff(addresses).tolist() == [12, 4]
        assert not np.shares_memory(batch[0], rows.values)

    def test_its_bytes_are_counted(self):
        rows = ragged(pa.array([[0], [1, 2]], pa.list_(pa.int32())))
        assert rows.nbytes == 3 * 4

    def test_chunks_of_one_length_each_are_ragged_together(self):
        rows = ragged(pa.chunked_array([[[1, 2]], [[3], [4]]]))
        assert [rows[i].tolist() for i in range(3)] == [[1, 2], [3], [4]]

    def test_lists_of_several_lengths_within_a_sample_are_refused(self):
        jagged = pa.array([[[1], [2]], [[1], [2, 3]]])
        for column, row in ((jagged, 1), (jagged[1:], 0), (pa.chunked_array([jagged[:1], jagged[1:]]), 1)):
            with pytest.raises(DataError) as caught:
                ragged(column)
            assert str(caught.value) == (
                f"column 'x' has lists of several lengths within row {row}; a tensor needs one length along each axis. "
                "Pad them, or leave the column out of columns=."
            )


class TestFlat:
    def test_uniform_shapes_take_no_memory_however_many_are_joined(self):
        parts = [Flat(np.arange(6), alike(3, [2])) for _ in range(4)]
        assert joined(parts).shapes.strides[0] == 0
        assert settled(joined(parts)).shape == (12, 2)

    def test_an_axis_is_dropped_only_where_all_samples_have_length_one(self):
        some = Flat(np.arange(3), np.array([[1, 1, 1], [2, 1, 1]]), droppable=2)
        assert settled(some).shapes.tolist() == [[1, 1], [2, 1]]
        assert settled(Flat(np.arange(2), alike(2, [1, 1, 1]), droppable=2)).shape == (2, 1)


class TestRefused:
    @pytest.mark.parametrize(
        "array",
        [
            pa.array(["a"]),
            pa.array([["a"]]),
            pa.array([b"a"]),
            pa.array([0], pa.timestamp("us")),
            pa.array([{"a": 1}]),
            pa.array([None]),
            pa.array(["a"]).dictionary_encode(),
        ],
        ids=lambda array: str(array.type).split(",")[0],
    )
    def test_a_column_that_no_tensor_can_hold_is_named_and_the_others_as_well(self, array):
        with pytest.raises(DataError) as caught:
            arrays_of(table(a=pa.array([1]), s=array, b=pa.array([[1]])))
        assert str(caught.value) == (
            f"column 's' holds {array.type}, which no tensor can hold. "
            "Encode it as numbers, or leave it out: columns=['a', 'b']."
        )

    @pytest.mark.parametrize(
        "array, row",
        [
            (pa.array([1, None, 2]), 1),
            (pa.array([1, 2, None])[1:], 1),
            (pa.chunked_array([[1, 2], [3, None]]), 3),
            (pa.array([[1], None, [2]]), 1),
            (pa.array([[1, 2], [], [3, None]]), 2),
            (pa.chunked_array([[[1, 2]], [[], [3, None]]]), 2),
            (pa.array([[[1]], [[2], None]]), 1),
            (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), 1),
        ],
    )
    def test_a_null_is_named_with_its_row(self, array, row):
        with pytest.raises(DataError) as caught:
            arrays_of(table(x=array))
        assert str(caught.value) == (
            f"column 'x' is null in row {row}, and no tensor can hold that. "
            "Fill it in, or drop such rows, before loading."
        )

    @pytest.mark.parametrize("names", [[], ["a", "a"]])
    def test_a_table_needs_columns_of_different_names(self, names):
        with pytest.raises(DataError) as caught:
            arrays_of(pa.table([pa.array([1])] * len(names), names=names))
        assert str(caught.value) == (
            f"expected a table with columns of different names, got {names}. Rename or add some."
        )
