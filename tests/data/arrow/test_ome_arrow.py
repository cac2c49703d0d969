from __future__ import annotations

import gc
import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_loaderperf.data.arrow import ome_arrow
from pytest_loaderperf.data.arrow.columns import arrays_of
from pytest_loaderperf.data.arrow.ome_arrow import images_of, is_ome_arrow, ome_arrow_array, ome_arrow_type
from pytest_loaderperf.errors import DataError

SHAPES = [(4, 5, 6), (1, 1, 1), (3, 2, 3, 4, 5, 6), (3, 1, 2, 1, 5, 6), (2, 1, 1, 1, 5, 6), (2, 2, 1, 3, 1, 4)]


def allocated():
    """Bytes that Arrow holds, without those of other tests' garbage."""
    gc.collect()
    return pa.total_allocated_bytes()


def images(shape):
    return np.random.default_rng(0).integers(0, 1 << 16, shape, np.uint16)


def without_ones(array):
    """(n, t, c, z, y, x) without the t, c and z of length one."""
    return array.reshape(len(array), *(n for n in array.shape[1:-2] if n > 1), *array.shape[-2:])


def edited(array, edit):
    """``array`` with its structs, as Python objects, edited in place."""
    rows = array.to_pylist()
    edit(rows)
    return pa.array(rows, array.type)


@pytest.fixture
def volumes():
    return images((3, 2, 3, 4, 5, 6))


class TestWriting:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_each_struct_is_what_the_format_says(self, shape):
        source = images(shape)
        array = ome_arrow_array(source)
        array.validate(full=True)
        assert array.type == ome_arrow_type()
        whole = source.reshape(shape[0], *(1, 1, 1, *shape[1:])[-5:])
        t, c, z, y, x = whole.shape[1:]
        for i, row in enumerate(array.to_pylist()):
            meta = row["pixels_meta"]
            assert (row["type"], row["id"], row["masks"]) == ("ome.arrow", str(i), None)
            assert [meta[f"size_{axis}"] for axis in "tczyx"] == [t, c, z, y, x]
            assert [channel["id"] for channel in meta["channels"]] == [f"ch-{k}" for k in range(c)]
            assert meta["type"] == "uint16"
            places = list(itertools.product(range(t), range(c), range(z)))
            assert [(plane["t"], plane["c"], plane["z"]) for plane in row["planes"]] == places
            assert [plane["pixels"] for plane in row["planes"]] == [whole[i][at].ravel().tolist() for at in places]

    def test_the_fields_and_their_types(self):
        kind = ome_arrow_type()
        assert [field.name for field in kind] == [
            *("type", "version", "id", "name", "image_type", "acquisition_datetime"),
            *("pixels_meta", "chunk_grid", "chunks", "planes", "masks"),
        ]
        assert str(kind.field("planes").type) == (
            "list<item: struct<z: int32, t: int32, c: int16, pixels: list<item: uint16>>>"
        )
        assert kind.field("pixels_meta").type.field("size_c").type == pa.int16()

    def test_the_pixels_are_not_copied(self):
        source = images((50, 20, 30))
        before = allocated()
        array = ome_arrow_array(source)
        assert allocated() - before < source.nbytes // 2
        assert array.field("planes").values.field("pixels").values.buffers()[1].address == source.ctypes.data

    def test_strided_images_are_written_in_order(self, volumes):
        strided = volumes.transpose(0, 1, 2, 3, 5, 4)[::2]
        assert np.array_equal(images_of(ome_arrow_array(strided)), strided)

    @pytest.mark.parametrize("source", [images((2, 3, 4)).astype("u1"), images((2, 3)), images((2, 3, 4, 5))])
    def test_other_shapes_and_dtypes_are_refused(self, source):
        with pytest.raises(DataError) as caught:
            ome_arrow_array(source)
        assert str(caught.value) == (
            f"images: expected uint16 of shape (n, y, x) or (n, t, c, z, y, x), got {source.dtype} of shape "
            f"{source.shape}. Cast them, or add the missing axes: channels are images[:, None, :, None]."
        )

    def test_more_pixels_than_the_offsets_count_are_refused(self):
        with pytest.raises(DataError) as caught:
            ome_arrow_array(np.broadcast_to(np.uint16(0), (1 << 11, 1 << 10, 1 << 10)))
        assert str(caught.value) == (
            "expected at most 2,147,483,647 pixels in one OME-Arrow array, got 2,147,483,648. "
            "Write the images in several arrays, as the chunks of one column."
        )


class TestReading:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_what_was_written_comes_back_without_its_axes_of_length_one(self, shape):
        source = images(shape)
        before = allocated()
        array = ome_arrow_array(source)
        written = allocated() - before
        read = images_of(array)
        assert allocated() - before == written
        assert read.ctypes.data == source.ctypes.data  # 0 bytes copied
        assert np.array_equal(read, without_ones(source))

    def test_a_slice_is_a_view_as_well(self, volumes):
        read = images_of(ome_arrow_array(volumes)[1:3])
        assert read.ctypes.data == volumes[1:].ctypes.data
        assert np.array_equal(read, volumes[1:3])

    def test_chunks_are_joined_in_their_order(self, volumes):
        array = ome_arrow_array(volumes)
        column = pa.chunked_array([array[2:], array[:0], array[:2]])
        assert np.array_equal(images_of(column), volumes[[2, 0, 1]])

    def test_one_chunk_is_not_copied(self, volumes):
        assert images_of(pa.chunked_array([ome_arrow_array(volumes)])).ctypes.data == volumes.ctypes.data

    @pytest.mark.parametrize("rows", [pa.chunked_array([], ome_arrow_type()), ome_arrow_array(images((0, 5, 6)))])
    def test_no_images(self, rows):
        assert (images_of(rows).shape, images_of(rows).dtype) == ((0, 0, 0), np.uint16)

    @pytest.mark.parametrize("rows", [slice(None), slice(1, None)])
    def test_planes_in_any_order_are_put_in_theirs(self, volumes, rows):
        draw = np.random.default_rng(1)

        def shuffle(found):
            for row in found:
                draw.shuffle(row["planes"])

        array = edited(ome_arrow_array(volumes), shuffle)
        assert np.array_equal(images_of(array[rows]), volumes[rows])

    def test_other_kinds_of_lists_and_integers_are_read(self, volumes):
        plane = [(axis, pa.int64()) for axis in "ctz"]
        kind = pa.struct(
            [
                ("planes", pa.large_list(pa.struct([*plane, ("pixels", pa.large_list(pa.uint16()))]))),
                ("image_type", pa.string()),
                ("pixels_meta", pa.struct([(f"size_{axis}", pa.uint8()) for axis in "xyzct"])),
            ]
        )
        fixed = pa.list_(pa.struct([*plane, ("pixels", pa.list_(pa.uint16(), 30))]), 24)
        for lists in (kind.field("planes").type, fixed):
            of_kind = pa.struct([field if field.name != "planes" else ("planes", lists) for field in kind])
            assert is_ome_arrow(of_kind)
            array = pa.array(ome_arrow_array(volumes).to_pylist(), of_kind)
            assert np.array_equal(images_of(array[1:]), volumes[1:])

    @pytest.mark.parametrize(
        "kind",
        [
            pa.int8(),
            pa.list_(pa.int8()),
            pa.struct([("planes", pa.list_(pa.int8()))]),
            pa.struct([("planes", pa.list_(pa.int8())), ("pixels_meta", pa.struct([("size_x", pa.int8())]))]),
        ],
        ids=str,
    )
    def test_other_columns_are_refused(self, kind):
        assert not is_ome_arrow(kind)
        with pytest.raises(DataError) as caught:
            images_of(pa.nulls(1, kind), name="rows")
        assert str(caught.value) == (
            f"'rows' holds {str(kind)[:80]}; expected OME-Arrow structs. Read it with arrays_of."
        )


def null(path):
    def edit(rows):
        *parents, last = path
        place = rows
        for step in parents:
            place = place[step]
        place[last] = None

    return edit


NULLS = {
    "": [1],
    ", field 'pixels_meta',": [1, "pixels_meta"],
    ", field 'planes',": [1, "planes"],
    ", field 'size_z',": [1, "pixels_meta", "size_z"],
    ", a plane,": [1, "planes", 7],
    ", field 'c' of a plane,": [1, "planes", 7, "c"],
    ", field 'pixels',": [1, "planes", 7, "pixels"],
}


class TestDamage:
    @pytest.mark.parametrize("where, path", [*NULLS.items(), (", field 'pixels',", [1, "planes", 7, "pixels", 2])])
    def test_a_null_is_named_with_its_row(self, volumes, where, path):
        array = edited(ome_arrow_array(volumes), null(path))
        for column, row in ((array, 1), (array[1:], 0), (pa.chunked_array([array[:1], array[1:]]), 1)):
            with pytest.raises(DataError) as caught:
                images_of(column, name="image")
            assert str(caught.value) == (
                f"column 'image'{where} is null in row {row}, and no tensor can hold that. "
                "Fill it in, or drop such rows, before loading."
            )

    @pytest.mark.parametrize(
        "edit, what, sizes",
        [
            (lambda row: row["planes"].pop(), "field 'planes' holds 23 planes", "t=2 c=3 z=4 y=5 x=6"),
            (lambda row: row["pixels_meta"].update(size_c=2), "field 'planes' holds 24 planes", "t=2 c=2 z=4 y=5 x=6"),
            (
                lambda row: row["pixels_meta"].update(size_c=-3, size_t=-2),
                "field 'planes' holds 24 planes",
                "t=-2 c=-3 z=4 y=5 x=6",
            ),
            (
                lambda row: row["planes"][9]["pixels"].pop(),
                "field 'pixels' of a plane holds 29 pixels",
                "t=2 c=3 z=4 y=5 x=6",
            ),
            (
                lambda row: row["pixels_meta"].update(size_x=7),
                "field 'pixels' of a plane holds 30 pixels",
                "t=2 c=3 z=4 y=5 x=7",
            ),
            (lambda row: row["planes"][9].update(z=4), "a plane is at t=0 c=2 z=4", "t=2 c=3 z=4 y=5 x=6"),
            (lambda row: row["planes"][0].update(t=-1), "a plane is at t=-1 c=0 z=0", "t=2 c=3 z=4 y=5 x=6"),
            (
                lambda row: row["planes"][9].update(z=0),
                "one plane is there twice, another is missing",
                "t=2 c=3 z=4 y=5 x=6",
            ),
        ],
    )
    def test_planes_that_disagree_with_the_sizes_are_named_with_their_row(self, volumes, edit, what, sizes):
        array = edited(ome_arrow_array(volumes), lambda rows: edit(rows[1]))
        for column, row in ((array, 1), (array[1:], 0), (pa.chunked_array([array[:1], array[1:]]), 1)):
            with pytest.raises(DataError) as caught:
                images_of(column, name="image")
            assert str(caught.value) == (
                f"column 'image', row {row}: {what}, but pixels_meta says {sizes}. Write that image again, or drop it."
            )


class TestSeveralSizes:
    @given(st.data())
    @settings(max_examples=30, deadline=None)
    def test_images_come_as_they_were_written(self, data):
        sizes = st.tuples(*[st.integers(1, 3)] * 3, *[st.integers(0, 4)] * 2)
        shapes = data.draw(st.lists(sizes, min_size=1, max_size=6))
        sources = [images((1, *shape)) for shape in shapes]
        chunks = [ome_arrow_array(source) for source in sources]
        array = pa.concat_arrays(chunks)
        if data.draw(st.booleans()):
            array = edited(array, lambda rows: [row["planes"].reverse() for row in rows])
        column = data.draw(st.sampled_from([pa.chunked_array([array]), pa.chunked_array(chunks)]))
        read = arrays_of(pa.table({"image": column}))["image"]
        kept = [axis for axis in range(5) if axis > 2 or any(shape[axis] != 1 for shape in shapes)]
        assert len(read) == len(sources)
        for i, source in enumerate(sources):
            sample = read[i]
            assert np.array_equal(sample, source.reshape([shapes[i][axis] for axis in kept]))

    def test_their_pixels_are_not_copied(self):
        array = pa.concat_arrays([ome_arrow_array(images((1, 2, n))) for n in (1, 5, 3)])
        read = arrays_of(pa.table({"image": array}))["image"]
        assert read.values.ctypes.data == array.field("planes").values.field("pixels").values.buffers()[1].address

    def test_one_array_of_them_is_refused(self):
        array = pa.concat_arrays([ome_arrow_array(images((1, 2, n))) for n in (1, 5, 3)])
        with pytest.raises(DataError) as caught:
            images_of(array, name="image")
        assert str(caught.value) == (
            "'image' has images of several sizes, from (2, 1) to (2, 5); one array needs one size. "
            "Read it with arrays_of."
        )


def test_writing_and_reading_make_no_object_for_each_sample(monkeypatch):
    """Numbers of calls do not grow with the number of images."""
    calls = []
    for n in (3, 300):
        array = ome_arrow_array(images((n, 2, 3)))
        count = itertools.count()
        real = ome_arrow.numbers_of
        monkeypatch.setattr(
            ome_arrow, "numbers_of", lambda *given, real=real, count=count: (next(count), real(*given))[1]
        )
        images_of(array)
        calls.append(next(count))
        monkeypatch.undo()
    assert calls[0] == calls[1]
