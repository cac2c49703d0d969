from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pytest_loaderperf.data import workload
from pytest_loaderperf.errors import DataError

MICROSCOPY = Path(__file__).parents[4] / "shared" / "data" / "microscopy"


def photos(**keys):
    return workload("photos", **{"samples": 12, "shape": [16, 24, 3], **keys})


def write(folder, name, image, **options):
    tifffile.imwrite(folder / name, image, **options)
    return image


def test_photo_tiles_are_cut_from_the_photographs_that_their_labels_name():
    datasets = pytest.importorskip("sklearn.datasets")
    originals = datasets.load_sample_images().images
    made = photos()
    places = made.fields[0].places(0, 12)
    assert set(made.labels.tolist()) == {0, 1}
    for tile, label, (image, y, x) in zip(made.features, made.labels, places, strict=True):
        assert label == image
        assert np.array_equal(tile, originals[label][y : y + 16, x : x + 24])


def test_tiles_are_cut_up_to_the_last_pixel():
    height, width, _ = photos().fields[0].images[0].shape
    made = photos(shape=[height, width, 3], samples=2)
    assert made.fields[0].places(0, 2)[:, 1:].tolist() == [[0, 0], [0, 0]]
    places = photos(shape=[height - 1, width - 1, 3], samples=64).fields[0].places(0, 64)
    assert {(y, x) for _, y, x in places.tolist()} == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_any_chunk_size_gives_the_same_tiles():
    assert photos().batches(5).read_all().equals(photos().batches(12).read_all())
    assert np.array_equal(photos(samples=5).features, photos().features[:5])
    assert not np.array_equal(photos(seed=1).features, photos().features)


def test_float_tiles_are_the_bytes_over_256():
    assert np.array_equal(photos(dtype="float32").features * 256, photos().features)


def test_a_tile_that_no_photograph_can_hold_is_refused():
    with pytest.raises(DataError) as caught:
        photos(shape=[4000, 10, 3])
    assert str(caught.value) == (
        "workload 'photos': expected a shape within the smallest image, (427, 640, 3), got [4000, 10, 3]."
    )


@pytest.mark.parametrize("missing", ["PIL", "sklearn.datasets"])
def test_without_its_libraries_photos_says_how_to_install_them(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DataError) as caught:
        photos()
    assert str(caught.value) == (
        "workload 'photos' needs scikit-learn and Pillow, of which one is not installed. "
        "Run: pip install scikit-learn pillow"
    )


def tiffs(folder, **keys):
    return workload(factory="tiffs", **{"folder": str(folder), "samples": 30, "shape": [4, 4], **keys})


def test_tiff_tiles_are_cut_from_every_plane_of_the_dtype_that_was_asked_for(tmp_path):
    planes = np.arange(3 * 8 * 8, dtype=np.uint8).reshape(3, 8, 8)
    write(tmp_path, "a.tif", planes, photometric="minisblack", metadata={"axes": "ZYX"})
    write(tmp_path, "b.TIFF", np.full((4, 4), 255, np.uint8))
    write(tmp_path, "c.tif", np.zeros((9, 9), ">u2"), byteorder=">")
    made = tiffs(tmp_path)
    assert set(made.labels.tolist()) == {0, 1, 2, 3}
    places = made.fields[0].places(0, 30)
    for tile, (image, y, x) in zip(made.features, places, strict=True):
        source = planes[image] if image < 3 else np.full((4, 4), 255, np.uint8)
        assert np.array_equal(tile, source[y : y + 4, x : x + 4])
    assert tiffs(tmp_path, dtype="uint16").features.dtype == np.dtype("uint16")


def test_tiffs_without_a_plane_of_the_dtype_are_refused_with_what_there_is(tmp_path):
    write(tmp_path, "a.tif", np.zeros((8, 8), np.uint16))
    write(tmp_path, "b.tif", np.zeros((8, 8, 3), np.uint8), photometric="rgb")
    with pytest.raises(DataError) as caught:
        tiffs(tmp_path)
    assert str(caught.value) == (
        f"workload 'tiffs': no TIFF in {tmp_path} has planes of uint8. There are uint16 (YX), uint8 (YXS): "
        "set dtype to one of these whose axes end with YX."
    )


def test_a_folder_without_tiffs_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        tiffs(tmp_path)
    assert str(caught.value) == f"workload 'tiffs': no TIFFs in {tmp_path}. Give a folder of .tif or .tiff files."


def test_a_file_that_is_no_tiff_is_named(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"hello")
    with pytest.raises(DataError) as caught:
        tiffs(tmp_path)
    assert str(caught.value).startswith(f"workload 'tiffs': cannot read {tmp_path / 'a.tif'} (")
    assert str(caught.value).endswith("). Take it out, or fix it.")


def test_without_tifffile_it_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(DataError) as caught:
        tiffs(tmp_path)
    assert str(caught.value) == (
        "workload 'tiffs' reads TIFFs with tifffile, which is not installed. Run: pip install tifffile"
    )


@pytest.mark.skipif(not MICROSCOPY.is_dir(), reason="the microscopy images are not here")
def test_real_microscopy_gives_tiles_of_its_three_fields():
    made = tiffs(MICROSCOPY, shape=[128, 128])
    assert (made.features.shape, made.features.dtype) == ((30, 128, 128), np.uint8)
    assert set(made.labels.tolist()) == {0, 1, 2}
    assert made.features.std() > 1
