"""Files of arrays that are not what a folder of columns needs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pytest_loaderperf.data.formats import open_table
from pytest_loaderperf.data.formats.storage import write_schema
from pytest_loaderperf.errors import DataError


def two(file):
    with file.open("wb") as stream:
        np.save(stream, np.zeros(3))
        np.save(stream, np.ones(3))


def cut(file):
    np.save(file, np.zeros(30))
    file.write_bytes(file.read_bytes()[:-8])


def archive(file):
    with file.open("wb") as stream:
        np.savez(stream, x=np.zeros(3))


OBJECTS = (
    "expected an array of numbers, got Python objects or another kind of file. "
    "Save it again with numpy.save, as numbers."
)
WRONG = {
    "objects": (lambda file: np.save(file, {"masks": 1}, allow_pickle=True), OBJECTS),
    "text": (lambda file: file.write_bytes(b"hello world, this is text"), OBJECTS),
    "an archive": (archive, "expected one array, got NpzFile. Save it with numpy.save."),
    "two arrays": (two, "expected 24 bytes for float64 of shape (3,), got 152 more."),
    "cut": (cut, "cannot be read: mmap length is greater than file size."),
    "empty": (lambda file: file.write_bytes(b""), "cannot be read: No data left in file."),
}


@pytest.mark.parametrize("write, text", WRONG.values(), ids=WRONG)
def test_a_file_that_is_no_array_of_numbers_is_named(write, text, tmp_path):
    write(tmp_path / "a.npy")
    with pytest.raises(DataError) as caught:
        open_table(tmp_path)
    assert str(tmp_path / "a.npy") in str(caught.value)
    assert text in str(caught.value)


@pytest.mark.parametrize("array", [np.zeros((0, 4)), np.asfortranarray(np.arange(12.0).reshape(3, 4))])
def test_arrays_without_rows_and_in_fortran_order_are_read(array, tmp_path):
    np.save(tmp_path / "a.npy", array)
    column = open_table(tmp_path).read()["a"].combine_chunks()
    assert np.array_equal(column.storage.flatten().to_numpy(), array.reshape(-1))


def test_suffixes_in_capitals_are_suffixes_and_one_name_is_one_column(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(2))
    np.save(tmp_path / "B.npy", np.arange(2) * 2)
    (tmp_path / "B.npy").rename(tmp_path / "B.NPY")
    assert open_table(tmp_path).read().to_pydict() == {"B": [0, 2], "a": [0, 1]}
    (tmp_path / "B.NPY").rename(tmp_path / "a.NPY")
    with pytest.raises(DataError, match=r"expected columns of different names, .* got 'a'. Rename one."):
        open_table(tmp_path)


def test_rows_of_another_shape_than_the_schema_says_are_an_error(tmp_path):
    write_schema(pa.schema([("a", pa.list_(pa.float64(), 4))]), tmp_path)
    np.save(tmp_path / "a.npy", np.zeros((3, 2)))
    with pytest.raises(DataError) as caught:
        open_table(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}, column 'a': expected rows of fixed_size_list<item: double>[4], as its schema says, "
        "got float64 of shape (2,). Write it again."
    )


def test_a_column_of_a_schema_stays_in_the_folder(tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "secret.npy", np.zeros(3))
    write_schema(pa.schema([("../secret", pa.float64())]), tmp_path / "in")
    with pytest.raises(DataError, match="each of a file in this folder"):
        open_table(tmp_path / "in", "npy")
