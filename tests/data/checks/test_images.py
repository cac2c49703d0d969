from __future__ import annotations

import logging
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from pytest_loaderperf.data import check
from pytest_loaderperf.data.checks import images as check_images
from pytest_loaderperf.data.checks.findings import Problem
from pytest_loaderperf.errors import DataError
from tests.data import stand_in

GOOD = np.arange(64, dtype=np.uint8).reshape(8, 8)


@pytest.fixture(autouse=True)
def formats(monkeypatch):
    stand_in.put_in_place(monkeypatch)


def tiff(path, image=GOOD):
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, image)
    return path


def png(path, image=GOOD):
    Image.fromarray(image).save(path)
    return path


def cut(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def whats(result):
    return [(problem.file.rpartition("/")[2], problem.what) for problem in result.problems]


def test_a_good_folder_has_no_problems(tmp_path):
    for name in ("a.tif", "below/b.tiff"):
        tiff(tmp_path / name)
    png(tmp_path / "c.png")
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "._c.png").write_bytes(b"what a Mac leaves")
    result = check(tmp_path)
    assert result.good
    assert (result.kind, result.checked, result.total, result.shape, result.dtype) == ("images", 3, 3, (8, 8), "uint8")


@pytest.mark.parametrize("suffix, write", [(".tif", tiff), (".png", png), (".jpg", png)])
def test_truncated_empty_and_foreign_files_are_each_named(tmp_path, suffix, write):
    for name in ("a", "d", "e"):
        write(tmp_path / f"{name}{suffix}")
    cut(write(tmp_path / f"b{suffix}"))
    (tmp_path / f"c{suffix}").write_bytes(b"")
    (tmp_path / f"f{suffix}").write_bytes(b"hello world")
    result = check(tmp_path)
    assert [name for name, _ in whats(result)] == [f"b{suffix}", f"c{suffix}", f"f{suffix}"]
    truncated, empty, foreign = (what for _, what in whats(result))
    assert truncated.startswith("cannot be read: " if write is tiff else "is damaged: ")
    assert empty == "is empty (0 bytes)"
    assert foreign.startswith("cannot be read: " if write is tiff else "expected a PNG, JPEG, WebP, BMP or GIF, got ")
    assert result.checked == 6


def test_a_damaged_image_is_told_once_and_not_logged_by_the_decoder_as_well(tmp_path, capfd):
    (tmp_path / "a.tif").write_bytes(b"hello world")
    handlers = logging.root.handlers[:]
    logging.root.handlers.clear()
    try:
        check(tmp_path)
    finally:
        logging.root.handlers[:] = handlers
    assert capfd.readouterr().err == ""


def test_a_file_that_may_not_be_read_is_a_problem(tmp_path, monkeypatch):
    tiff(tmp_path / "a.tif")
    (tmp_path / "b.tif").symlink_to(tmp_path / "gone.tif")

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    gone = ("b.tif", f"is a link to {tmp_path / 'gone.tif'}, which cannot be followed: No such file or directory")
    assert whats(check(tmp_path)) == [gone]
    monkeypatch.setattr(check_images, "tiff_pixels", lambda image: refuse(image.file))
    assert whats(check(tmp_path))[0] == (
        "a.tif",
        f"cannot be read: [Errno 13] Permission denied: '{tmp_path / 'a.tif'}'",
    )


def test_nan_and_infinity_are_problems(tmp_path):
    image = GOOD.astype(np.float32)
    tiff(tmp_path / "a.tif", image)
    for name, value in (("b", np.nan), ("c", np.inf)):
        image[3, 3] = value
        tiff(tmp_path / f"{name}.tif", image)
    wrong = "holds NaN or infinity; expected finite numbers"
    assert whats(check(tmp_path)) == [("b.tif", wrong), ("c.tif", wrong)]


def test_the_majority_says_which_shape_and_dtype_are_wrong_also_where_the_first_is(tmp_path):
    tiff(tmp_path / "a.tif", GOOD[:4])
    for name in "bcd":
        tiff(tmp_path / f"{name}.tif")
    tiff(tmp_path / "e.tif", GOOD.astype(np.uint16))
    assert whats(check(tmp_path)) == [
        ("a.tif", "has shape (4, 8); expected (8, 8)"),
        ("e.tif", "has dtype uint16; expected uint8"),
    ]


def test_a_stated_shape_and_dtype_beat_the_majority(tmp_path):
    for name in "ab":
        tiff(tmp_path / f"{name}.tif")
    tiff(tmp_path / "c.tif", GOOD[:4])
    assert whats(check(tmp_path, shape=(4, 8))) == [
        (f"{name}.tif", "has shape (8, 8); expected (4, 8)") for name in "ab"
    ]
    assert whats(check(tmp_path, dtype="int8"))[0][1] == "has dtype uint8; expected int8"


@pytest.mark.parametrize("shape", [None, (8, 8)])
@pytest.mark.parametrize("workers", [1, 4])
def test_after_max_errors_no_more_is_begun(tmp_path, monkeypatch, workers, shape):
    content = tiff(tmp_path / "000.tif").read_bytes()
    for index in range(100):
        (tmp_path / f"{index:03}.tif").write_bytes(b"" if index in (2, 4, 6, 8) else content)
    begun, inspect = [], check_images.inspect_image
    monkeypatch.setattr(check_images, "inspect_image", lambda sample: begun.append(sample) or inspect(sample))
    result = check(tmp_path, max_errors=3, workers=workers, shape=shape)
    assert (result.found, result.checked, result.total, result.stopped_early) == (3, 7, 100, True)
    assert [name for name, _ in whats(result)] == ["002.tif", "004.tif", "006.tif"]
    assert len(begun) <= 25 + 2 * workers


def test_without_a_limit_all_are_checked_and_only_the_first_kept(tmp_path):
    for index in range(30):
        (tmp_path / f"{index:02}.tif").write_bytes(b"")
    result = check(tmp_path, max_errors=0)
    assert (result.found, result.checked, len(result.problems), result.stopped_early) == (30, 30, 10, False)


def test_progress_is_told(tmp_path):
    tiff(tmp_path / "a.tif")
    told = []
    check(tmp_path, progress=told.append)
    assert told == ["1 of 1 images checked"]


def test_one_image_can_be_checked_alone(tmp_path):
    assert check(tiff(tmp_path / "a.tif")).good
    assert whats(check(cut(png(tmp_path / "b.png"))))[0][0] == "b.png"


@pytest.mark.parametrize("names, wrong", [(["0", "1", "7"], ["7"]), (["cat", "dog", "eel"], ["eel"])])
def test_folders_of_classes_that_are_too_many_are_problems(tmp_path, names, wrong):
    for name in names:
        tiff(tmp_path / name / "a.tif")
    label = 7 if wrong == ["7"] else 2
    expected = [Problem(str(tmp_path / name), None, "label", f"is {label}; expected 0 to 1") for name in wrong]
    assert list(check(tmp_path, classes=2).problems) == expected


@pytest.mark.parametrize(
    "write, missing, package", [(tiff, "tifffile", "tifffile"), (png, "PIL", "pillow")], ids=["tiff", "png"]
)
def test_a_missing_library_is_named(tmp_path, monkeypatch, write, missing, package):
    suffix = ".tif" if write is tiff else ".png"
    write(tmp_path / f"a{suffix}")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(DataError) as caught:
        check(tmp_path)
    library = "tifffile" if write is tiff else "Pillow"
    assert str(caught.value) == f"{suffix} images are read with {library}. Run: pip install {package}"


def test_what_cannot_be_checked_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        check(tmp_path)
    assert str(caught.value) == (
        f"no images in {tmp_path}. Expected files that end in one of "
        ".tif, .tiff, .png, .jpg, .jpeg, .bmp, .gif, .webp, .zarr."
    )
    tiff(tmp_path / "a.tif")
    with pytest.raises(DataError) as caught:
        check(tmp_path, classes=3)
    assert str(caught.value) == (
        f"{tmp_path} has no folder for each class. Put its images into such folders, or leave out classes."
    )
