"""What the schema of an npy folder names is a file in that folder."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pytest_loaderperf.data.formats import open_table, write_table
from pytest_loaderperf.data.formats.storage import write_schema
from pytest_loaderperf.errors import DataError


def refusal(folder, *names):
    write_schema(pa.schema([(name, pa.int64()) for name in names]), folder)
    with pytest.raises(DataError) as caught:
        open_table(folder, "npy")
    return str(caught.value)


@pytest.fixture
def folder(tmp_path):
    """A folder with an array in it and in its neighbours."""
    path = tmp_path / "x-npy"
    write_table(pa.table({"good": np.arange(3)}), path)
    (path / "sub").mkdir()
    for file in (tmp_path / "secret", path / "sub" / "secret"):
        np.save(file, np.arange(3))
    return path


@pytest.mark.parametrize(
    "name",
    ["../secret", "../../x/secret", "sub/secret", "./good", "sub/../good", "good/", "/", "", ".", "..", "a\0b", "\0"],
)
def test_a_name_that_leads_elsewhere_is_refused(folder, name):
    for names in ([name], ["good", name]):
        assert refusal(folder, *names) == (
            f"{folder / '_schema.arrow'}: expected columns of different names, each of a file in this folder, "
            f"got {name!r:.80}. Write the folder again."
        )


def test_an_absolute_name_is_refused(folder):
    assert "each of a file in this folder, got '/" in refusal(folder, str(folder.parent / "secret"))


def test_a_name_that_comes_twice_is_refused(folder):
    assert "expected columns of different names" in refusal(folder, "good", "good")


@pytest.mark.parametrize("name", ["a b", "..a", "a.npy", "ä", "-", "a\\b", "%2e%2e", "~"])
def test_other_names_are_names(tmp_path, name):
    write_table(pa.table({name: np.arange(3)}), tmp_path / "y-npy")
    assert open_table(tmp_path / "y-npy").read([name]).column(name).to_pylist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["a/b", "..", "a\0b"])
def test_such_columns_are_not_written(tmp_path, name):
    with pytest.raises(DataError) as caught:
        write_table(pa.table({name: np.arange(3)}), tmp_path / "z", "npy")
    assert str(caught.value) == f"column {name!r} cannot be the name of a file, as npy needs. Rename it."
    assert not (tmp_path / "z").exists()
