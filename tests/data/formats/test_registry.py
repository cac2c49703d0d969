from __future__ import annotations

import sys
from importlib import metadata

import numpy as np
import pyarrow as pa
import pytest

from pytest_loaderperf.data.formats import FORMATS, format_of, missing, open_table, write_table
from pytest_loaderperf.data.formats.table import reading
from pytest_loaderperf.errors import DataError
from tests.data.formats.kinds import KINDS

NAMES = "parquet, arrow, lance, duckdb, vortex, tiff, ome_zarr, safetensors, npy"
READ = "saved_dataset, npz, csv, webdataset, pictures"
OPTIONAL = {
    "lance": ("lance", "pylance"),
    "duckdb": ("duckdb", "duckdb"),
    "vortex": ("vortex", "vortex-data"),
    "tiff": ("tifffile", "tifffile"),
    "ome_zarr": ("zarr", "zarr"),
    "safetensors": ("safetensors", "safetensors"),
}


def test_formats_are_known_by_their_names():
    assert ", ".join(FORMATS) == NAMES
    assert all(one.name == name for name, one in FORMATS.items())


@pytest.mark.parametrize("name", FORMATS)
def test_a_path_that_is_yet_to_be_written_has_the_format_of_its_suffix(name, tmp_path):
    assert format_of(tmp_path / f"rows{FORMATS[name].suffix}").name == name
    assert format_of(f"ROWS{FORMATS[name].suffix.upper()}").name == name


@pytest.mark.parametrize("suffix, name", [(".feather", "arrow"), (".ipc", "arrow"), (".pq", "parquet")])
def test_other_suffixes_in_use_are_known(suffix, name):
    assert format_of(f"rows{suffix}").name == name


@pytest.mark.parametrize("name", ["lance", "tiff", "ome_zarr", "npy"])
def test_a_folder_has_the_format_of_what_is_in_it(name, tmp_path):
    write_table(KINDS["tensors"], tmp_path / "rows", name)
    assert format_of(tmp_path / "rows").name == name
    renamed = (tmp_path / "rows").rename(tmp_path / "rows-of-npy")
    assert format_of(renamed).name == name


@pytest.mark.parametrize("is_folder", [False, True])
def test_an_unknown_suffix_is_an_error_that_lists_the_known_ones(is_folder, tmp_path):
    path = tmp_path / "rows.xls"
    if is_folder:
        path.mkdir()
    with pytest.raises(DataError) as caught:
        open_table(path)
    assert str(caught.value) == (
        f"{path} is of no known format. Expected a path that ends in one of .parquet, .arrow, .lance, .duckdb, "
        ".vortex, -tiff, -ome-zarr, .safetensors, -npy, .feather, .ipc, .arrows, .pq, .npy, .npz, .tif, .tiff, .csv, "
        ".csv.gz, .csv.bz2, .csv.zst, .tsv, .tsv.gz, .tsv.bz2, .tsv.zst, .tar, "
        f"or the name of a format: {NAMES}, {READ}."
    )


@pytest.mark.parametrize("use", [open_table, lambda path, name: write_table(KINDS["ints"], path, name)])
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(use, tmp_path):
    with pytest.raises(DataError) as caught:
        use(tmp_path / "rows.parquet", "parket")
    assert str(caught.value) == f"unknown format 'parket'. Known: {NAMES}; read only: {READ}."


@pytest.mark.parametrize("name", OPTIONAL)
def test_a_missing_library_is_named_with_the_command_that_installs_it(name, tmp_path, monkeypatch):
    path = tmp_path / f"rows{FORMATS[name].suffix}"
    write_table(KINDS["tensors"], path)
    module, package = OPTIONAL[name]
    for loaded in [part for part in sys.modules if part.startswith(f"{module}.")]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)
    for use in (lambda: open_table(path).read(), lambda: write_table(KINDS["tensors"], path)):
        with pytest.raises(DataError, match=rf"^{module}\S* cannot be imported .* Install it: pip install {package}$"):
            use()


def test_a_format_without_its_library_is_told_with_the_command_that_installs_it(monkeypatch):
    assert missing() == {}
    version = metadata.version

    def without_lance(package):
        if package == "pylance":
            raise metadata.PackageNotFoundError(package)
        return version(package)

    monkeypatch.setattr(metadata, "version", without_lance)
    assert missing() == {"lance": "pip install pylance"}


def test_columns_of_one_name_are_refused(tmp_path):
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"])
    with pytest.raises(DataError) as caught:
        write_table(twice, tmp_path / "rows.parquet")
    assert str(caught.value) == "expected columns of different names, got x more than once. Rename it."


def test_a_source_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        write_table({"x": np.arange(3)}, tmp_path / "rows.parquet")
    assert str(caught.value) == (
        "expected a pyarrow Table or RecordBatchReader to write, got dict. Make one with pyarrow.table."
    )


@pytest.mark.parametrize(
    "error, text",
    [
        (
            PermissionError(13, "Permission denied", "/a/b"),
            "/a/b may not be read. Get permission to read it.",
        ),
        (FileNotFoundError(2, "No such file", "/a/b"), "/a/b is missing. Give a path that exists, or write it first."),
        (KeyError("0"), "rows cannot be read: KeyError '0'. Write it again, or give an undamaged file."),
        (
            ValueError("bad range, /src/io.rs:1:2.\nBacktrace:"),
            "rows cannot be read: bad range. Write it again, or give an undamaged file.",
        ),
    ],
)
def test_what_a_library_raises_becomes_an_error_that_names_the_file(error, text, tmp_path):
    with pytest.raises(DataError) as caught, reading("rows"):
        raise error
    assert str(caught.value) == text
    assert caught.value.__cause__ is error


def test_an_interrupt_stays_an_interrupt():
    with pytest.raises(KeyboardInterrupt), reading("rows"):
        raise KeyboardInterrupt
