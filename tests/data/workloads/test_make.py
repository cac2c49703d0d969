from __future__ import annotations

import sys

import pytest
from pyarrow import parquet

from pytest_loaderperf.data import formats, load_spec, make, workload, workload_names
from pytest_loaderperf.data.workloads.make import Known, Listed, bundled, disk_nbytes, known_formats, listed
from pytest_loaderperf.errors import DataError
from tests.data import stand_in


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch):
    stand_in.put_in_place(monkeypatch)


def test_a_workload_is_written_as_it_is(tmp_path):
    data, path, told = workload("images", samples=500), tmp_path / "new" / "t.parquet", []
    made = make(data, path, progress=told.append)
    assert (made.path, made.format, made.samples, made.nbytes) == (path, "parquet", 500, path.stat().st_size)
    assert parquet.read_table(path).equals(data.batches().read_all())
    assert told == ["419 of 500 samples written", "500 of 500 samples written"]


def test_what_lies_there_is_replaced_by_force_alone(tmp_path):
    path, data = tmp_path / "t.parquet", workload("images", samples=5)
    path.write_bytes(b"precious")
    with pytest.raises(DataError) as caught:
        make(data, path)
    assert str(caught.value) == f"{path} exists. Give another path, or --force (force=True) to replace it."
    assert path.read_bytes() == b"precious"
    make(data, path, force=True)
    assert parquet.read_table(path).num_rows == 5


def test_a_folder_that_holds_no_table_is_not_replaced_even_by_force(tmp_path):
    with pytest.raises(DataError, match="is of no known format"):
        make(workload("images", samples=5), tmp_path, "parquet", force=True)


@pytest.mark.parametrize(
    "name, format_name, text",
    [
        (
            "t.parquet",
            "zip",
            ("unknown format 'zip'. Known: parquet, absent; read only: saved_dataset, npz, csv, webdataset, pictures."),
        ),
        ("t.absent", None, "the format absent is not installed. Run: pip install no-such-package"),
        ("file/t.parquet", None, "cannot make the folder of {path}: "),
    ],
)
def test_a_target_that_cannot_be_is_refused(tmp_path, name, format_name, text):
    (tmp_path / "file").write_text("")
    path = tmp_path / name
    with pytest.raises(DataError) as caught:
        make(workload("images", samples=5), path, format_name)
    assert str(caught.value).startswith(text.format(path=path))
    assert not path.exists()


def test_the_size_on_disk_counts_the_files_of_a_folder(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "below" / "b").write_bytes(b"4567")
    assert (disk_nbytes(tmp_path), disk_nbytes(tmp_path / "a")) == (7, 3)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("images", ("images", 1000, "(100, 100)", "uint16", 20_008_000)),
        ("volumes", ("volumes", 64, "2 + 2 of (16, 64, 64)", "uint16", 33_554_432)),
        ("tables", ("tables", 10_000, "5 columns", "float32, float64, uint8, int32, bool", 260_000)),
        ("photos", ("real images", 500, "(96, 96, 3)", "uint8", 13_828_000)),
    ],
)
def test_a_workload_is_listed_by_its_spec(name, expected):
    assert listed(load_spec(name)) == Listed(name, *expected)


def test_all_workloads_are_listed_without_the_libraries_that_real_images_need(monkeypatch):
    for library in ("sklearn.datasets", "PIL", "tifffile"):
        monkeypatch.setitem(sys.modules, library, None)
    assert [one.name for one in bundled()] == workload_names()


def test_formats_are_listed_with_the_command_that_installs_them():
    assert known_formats() == [
        Known("parquet", ".parquet", None),
        Known("absent", ".absent", "pip install no-such-package"),
    ]


def test_a_format_that_fails_leaves_its_error(tmp_path, monkeypatch):
    def refuse(source, path, format_name):
        raise DataError("disk full")

    monkeypatch.setattr(formats, "write_table", refuse)
    with pytest.raises(DataError, match="disk full"):
        make(workload("images", samples=5), tmp_path / "t.parquet")
