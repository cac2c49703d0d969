"""What is particular to the formats that keep one image a sample."""

from __future__ import annotations

from contextlib import closing
from functools import partial

import numpy as np
import pyarrow as pa
import pytest

from pytest_loaderperf.data.formats import open_table, write_table
from pytest_loaderperf.data.formats.ome_zarr import OmeZarr
from pytest_loaderperf.errors import DataError
from tests.data.formats.kinds import IMAGES, KINDS, LABELS, ROWS, tensors

tifffile = pytest.importorskip("tifffile")
zarr = pytest.importorskip("zarr")

TABLE = KINDS["tensors"]
PLAIN = TABLE.select(["image"])
FORMATS = {
    "tiff": (".tif", partial(write_table, format="tiff")),
    "zarr 3": (".ome.zarr", lambda table, path: OmeZarr(3).write(table.to_reader(), path)),
    "zarr 3 in shards": (".ome.zarr", lambda table, path: OmeZarr(3, sharded=True).write(table.to_reader(), path)),
    "zarr 2": (".ome.zarr", lambda table, path: OmeZarr(2).write(table.to_reader(), path)),
}
every_format = pytest.mark.parametrize("ending, write", FORMATS.values(), ids=FORMATS)


def samples_under(path, ending):
    return sorted(part.relative_to(path).as_posix() for part in path.rglob(f"*{ending}"))


@every_format
def test_class_folders_are_named_by_label_and_samples_by_row(ending, write, tmp_path):
    write(TABLE, tmp_path / "a")
    expected = sorted(f"{label}/{row:08}{ending}" for row, label in enumerate(LABELS))
    assert samples_under(tmp_path / "a", ending) == expected
    with closing(open_table(tmp_path / "a")) as table:
        assert table.read().equals(TABLE)


@every_format
def test_a_folder_is_flat_where_there_are_no_labels(ending, write, tmp_path):
    write(PLAIN, tmp_path / "a")
    assert samples_under(tmp_path / "a", ending) == [f"{row:08}{ending}" for row in range(ROWS)]
    with closing(open_table(tmp_path / "a")) as table:
        assert table.read().equals(PLAIN)


@every_format
def test_without_the_schema_rows_and_labels_are_found_again(ending, write, tmp_path):
    """Labels become int64, which is all that a folder's name says."""
    write(TABLE, tmp_path / "a")
    (tmp_path / "a" / "_schema.arrow").unlink()
    with closing(open_table(tmp_path / "a")) as table:
        assert table.schema.field("label").type == pa.int64()
        assert np.array_equal(table.read()["image"].chunk(0).to_numpy_ndarray(), IMAGES)
        assert table.read()["label"].to_pylist() == LABELS.tolist()


@every_format
def test_take_and_columns_read_those_samples_alone(ending, write, tmp_path):
    write(TABLE, tmp_path / "a")
    with closing(open_table(tmp_path / "a")) as table:
        for sample in samples_under(tmp_path / "a", ending):
            if "/00000007" not in sample:
                (tmp_path / "a" / sample).rename(tmp_path / "gone")
                (tmp_path / "gone").rename(tmp_path / f"gone {sample.replace('/', ' ')}")
        assert table.take(np.array([7, 7])).equals(TABLE.take([7, 7]))
        assert table.read(["label"]).equals(TABLE.select(["label"]))
        with pytest.raises(DataError, match=f"00000003{ending} is missing"):
            table.take(np.array([7, 3]))


@every_format
def test_other_columns_are_refused(ending, write, tmp_path):
    with pytest.raises(DataError) as caught:
        write(TABLE.append_column("name", pa.array(["x"] * ROWS)), tmp_path / "a")
    expected = "expected one column of fixed-shape tensors and at most one of integer labels for "
    assert str(caught.value).startswith(expected)
    assert str(caught.value).endswith(
        f", got the columns 'image' {TABLE.schema.field('image').type}, 'label' int32, 'name' string. "
        "Use parquet, or drop the others."
    )


@every_format
def test_a_row_without_a_label_is_refused(ending, write, tmp_path):
    labels = pa.array([None, *LABELS[1:].tolist()])
    with pytest.raises(DataError, match="column 'label' has 1 nulls"):
        write(PLAIN.append_column("label", labels), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


class TestTiff:
    @pytest.fixture
    def save(self, tmp_path):
        def save_one(name, image, **options):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(tmp_path / name, image, photometric="minisblack", **options)

        return save_one

    def test_named_classes_become_places_that_the_metadata_name(self, save, tmp_path):
        for i, name in enumerate(["dog/1.tif", "cat/1.tif", "emu/a.TIFF", "cat/._1.tif", ".hidden/1.tif"]):
            save(name, IMAGES[i])
        with closing(open_table(tmp_path)) as table:
            assert table.read()["label"].to_pylist() == [0, 1, 2]
            assert table.schema.field("label").metadata == {b"classes": b'["cat", "dog", "emu"]'}
            assert np.array_equal(table.read()["image"].chunk(0).to_numpy_ndarray(), IMAGES[[1, 0, 2]])

    @pytest.mark.parametrize(
        "names, order", [(["10.tif", "9.tif"], [1, 0]), (["b10.tif", "b9.tif"], [0, 1]), (["a/1.tif", "1.tif"], [1, 0])]
    )
    def test_samples_are_sorted_by_number_where_all_have_one_else_by_path(self, names, order, save, tmp_path):
        for name, image in zip(names, IMAGES, strict=False):
            save(name, image)
        with closing(open_table(tmp_path)) as table:
            assert table.schema.names == ["image"]
            assert np.array_equal(table.read()["image"].chunk(0).to_numpy_ndarray(), IMAGES[order])

    def test_ome_tiff_stacks_of_either_byte_order_and_compressed(self, save, tmp_path):
        stack = np.arange(2 * 3 * 4 * 5, dtype="u2").reshape(2, 3, 4, 5)
        save("a.ome.tif", stack, metadata={"axes": "CZYX"}, byteorder=">")
        save("b.ome.tif", stack + 1, metadata={"axes": "CZYX"}, compression="lzw")
        with closing(open_table(tmp_path)) as table:
            assert table.schema.field("image").type.shape == [2, 3, 4, 5]
            assert np.array_equal(table.read()["image"].chunk(0).to_numpy_ndarray(), [stack, stack + 1])

    @pytest.mark.parametrize("other", [np.zeros((5, 4), "u2"), np.zeros((4, 5), "u1")], ids=["shape", "dtype"])
    def test_images_that_differ_are_named_with_both_shapes(self, other, save, tmp_path):
        save("1.tif", IMAGES[0])
        save("2.tif", other)
        with closing(open_table(tmp_path)) as table, pytest.raises(DataError) as caught:
            table.read()
        assert str(caught.value) == (
            f"{tmp_path / '2.tif'} is {other.dtype} of shape {other.shape}, but expected uint16 of shape (4, 5), "
            "as 1.tif is. Convert it, or move it to another folder."
        )

    def test_pixels_that_no_column_holds_are_named(self, save, tmp_path):
        save(tmp_path / "0.tif", np.zeros((2, 3), np.complex64))
        with pytest.raises(DataError) as caught:
            open_table(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path / '0.tif'} holds complex64. Expected bools, integers or floats of at most 64 bits: convert it."
        )

    def test_others_read_colours_as_colours(self, tmp_path):
        write_table(pa.table({"image": tensors("uint8", 4, 5, 3)}), tmp_path / "a", "tiff")
        with tifffile.TiffFile(tmp_path / "a" / "00000000.tif") as file:
            assert file.pages[0].photometric.name == "RGB"

    def test_images_without_pixels_are_not_written(self, tmp_path):
        kind = pa.fixed_shape_tensor(pa.uint8(), [2, 0])
        empty = pa.ExtensionArray.from_storage(kind, pa.array([[]], pa.list_(pa.uint8(), 0)))
        with pytest.raises(DataError) as caught:
            write_table(pa.table({"image": empty}), tmp_path / "x-tiff")
        assert str(caught.value) == "column 'image': expected images with pixels for tiff, got shape (2, 0). Use npy."

    def test_a_row_of_numbers_is_no_image(self, tmp_path):
        with pytest.raises(DataError) as caught:
            write_table(pa.table({"image": tensors("uint8", 4)}), tmp_path / "a", "tiff")
        assert str(caught.value) == "expected images of two dimensions or more for TIFF, got shape (4,). Use npy."


class TestOmeZarr:
    @pytest.mark.parametrize("zarr_format, version", [(2, "0.4"), (3, "0.5")])
    @pytest.mark.parametrize("axes", ["yx", "zyx", "czyx", "tczyx"])
    def test_an_image_tells_its_version_its_axes_and_its_scale(self, zarr_format, version, axes, tmp_path):
        table = pa.table({"image": tensors("uint8", *range(2, 2 + len(axes)))})
        OmeZarr(zarr_format).write(table.to_reader(), tmp_path / "a")
        group = zarr.open_group(tmp_path / "a" / "00000000.ome.zarr", mode="r")
        assert group.metadata.zarr_format == zarr_format
        told = group.attrs.asdict()
        if version == "0.5":
            told = told["ome"]
            assert told["version"] == version
            assert group["0"].metadata.dimension_names == tuple(axes)
        else:
            assert told["multiscales"][0]["version"] == version
        kinds = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
        assert told["multiscales"][0]["axes"] == [{"name": axis, "type": kinds[axis]} for axis in axes]
        scale = [{"type": "scale", "scale": [1.0] * len(axes)}]
        assert told["multiscales"][0]["datasets"] == [{"path": "0", "coordinateTransformations": scale}]

    def test_shards_hold_all_planes_of_an_image_in_one_file(self, tmp_path):
        table = pa.table({"image": tensors("uint8", 3, 4, 5)})
        for sharded, files in ((False, 3), (True, 1)):
            OmeZarr(3, sharded=sharded).write(table.to_reader(), tmp_path / "a")
            chunks = [part for part in (tmp_path / "a" / "00000001.ome.zarr" / "0" / "c").rglob("*") if part.is_file()]
            assert len(chunks) == files

    @pytest.mark.parametrize("write", list(FORMATS.values())[1:], ids=list(FORMATS)[1:])
    @pytest.mark.parametrize("left", [None, 0, 0.5])
    def test_a_chunk_that_is_missing_or_cut_is_an_error_and_never_zeros(self, write, left, tmp_path):
        write[1](TABLE, tmp_path / "a")
        sample = tmp_path / "a" / "3" / "00000003.ome.zarr"
        (chunk,) = [
            part
            for part in sample.rglob("*")
            if part.is_file() and part.name != "zarr.json" and not part.name.startswith(".")
        ]
        if left is None:
            chunk.unlink()
        else:
            chunk.write_bytes(chunk.read_bytes()[: int(left * chunk.stat().st_size)])
        with closing(open_table(tmp_path / "a")) as table:
            with pytest.raises(DataError, match=f"{sample} (cannot be read|has 0 of 1 chunks)"):
                table.take(np.array([3]))
            assert table.take(np.array([4])).equals(TABLE.take([4]))

    def test_images_of_zeros_are_read(self, tmp_path):
        zeros = pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(np.zeros((2, 3, 4, 5), "u2"))})
        for options in ({"zarr_format": 2}, {}, {"sharded": True}):
            OmeZarr(**options).write(zeros.to_reader(), tmp_path / "a")
            with closing(open_table(tmp_path / "a")) as table:
                assert table.read().equals(zeros)

    def test_a_zarr_that_is_no_image_is_named(self, tmp_path):
        zarr.create_group(tmp_path / "a.zarr")
        with pytest.raises(DataError) as caught:
            open_table(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path / 'a.zarr'} has no multiscales. Expected an OME-Zarr image of version 0.4 or 0.5."
        )
        zarr.save_array(tmp_path / "b.zarr", np.zeros((2, 3)))
        with pytest.raises(DataError) as caught:
            open_table(tmp_path / "b.zarr")
        assert str(caught.value) == (
            f"{tmp_path / 'b.zarr'} is a Zarr array of shape (2, 3); expected the group of an OME-Zarr image. Give its "
            "numbers to optimize as an array, or write them with write_table."
        )

    @pytest.mark.parametrize(
        "multiscales, text",
        [
            ([{"datasets": []}], "expected multiscales with a path"),
            ([{}], "expected multiscales with a path"),
            (["x"], "expected multiscales with a path"),
            ({"datasets": []}, "expected multiscales with a path"),
            ([], "has no multiscales"),
            ([{"datasets": [{"path": "gone"}]}], "cannot be read: KeyError 'gone'"),
            ([{"datasets": [{"path": "below"}]}], "expected an array of 5 dimensions at 'below', got a group"),
            (
                [{"datasets": [{"path": "0"}], "axes": ["z", "y", "x"]}],
                "expected an array of 3 dimensions at '0', got shape (4, 5)",
            ),
        ],
    )
    def test_metadata_that_fit_no_array_are_an_error_that_names_the_image(self, multiscales, text, tmp_path):
        group = zarr.create_group(tmp_path / "a.zarr", attributes={"ome": {"multiscales": multiscales}})
        group.create_array("0", data=np.ones((4, 5), "u1"))
        group.create_group("below")
        with pytest.raises(DataError) as caught:
            open_table(tmp_path)
        assert str(tmp_path / "a.zarr") in str(caught.value)
        assert text in str(caught.value)

    def test_more_axes_than_ome_has_are_refused(self, tmp_path):
        with pytest.raises(DataError) as caught:
            write_table(pa.table({"image": tensors("uint8", 1, 1, 1, 1, 2, 2)}), tmp_path / "a", "ome_zarr")
        assert str(caught.value) == (
            "expected images of two to five dimensions for OME-Zarr, got shape (1, 1, 1, 1, 2, 2). Use npy."
        )

    @pytest.mark.parametrize("options", [{"zarr_format": 1}, {"zarr_format": 2, "sharded": True}])
    def test_versions_that_zarr_lacks_are_refused(self, options):
        with pytest.raises(DataError, match=r"expected 2, or 3 with or without shards."):
            OmeZarr(**options)
