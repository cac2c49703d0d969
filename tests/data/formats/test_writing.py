"""What writers leave that are killed, and that live."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest

from pytest_loaderperf.data.formats import write_table
from pytest_loaderperf.data.formats.writing import complete_or_absent
from pytest_loaderperf.errors import DataError

WRITER = """
import sys
from pathlib import Path
from pytest_loaderperf.data.formats.writing import complete_or_absent
with complete_or_absent(Path(sys.argv[1])) as new:
    new.write_text("half")
    print("begun", flush=True)
    sys.stdin.read()
    new.write_text("whole")
"""


@pytest.fixture
def writer(tmp_path):
    """Another process in the middle of writing rows[1].npy."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "rows[1].npy")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()


def names(folder):
    return [path.name for path in folder.iterdir()]


def write(folder):
    with complete_or_absent(folder / "rows[1].npy") as new:
        new.write_text("mine")


@pytest.mark.usefixtures("quick_start")
def test_what_a_killed_writer_left_goes_when_the_path_is_written_again(writer, tmp_path):
    (tmp_path / "rows[1].npy").write_text("old")
    writer.kill()
    writer.wait()
    assert len(names(tmp_path)) == 2
    assert (tmp_path / "rows[1].npy").read_text() == "old"
    write(tmp_path)
    assert names(tmp_path) == ["rows[1].npy"]
    assert (tmp_path / "rows[1].npy").read_text() == "mine"


@pytest.mark.usefixtures("quick_start")
@pytest.mark.parametrize("name", ["x.duckdb", "x.safetensors", "x-npy"])
def test_a_table_without_columns_is_not_written_where_it_could_not_be_read(name, tmp_path):
    with pytest.raises(DataError, match=r"expected at least one column to write as .*, got none. Add one."):
        write_table(pa.table({}), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_writer_that_lives_is_left_alone(writer, tmp_path):
    write(tmp_path)
    assert (tmp_path / "rows[1].npy").read_text() == "mine"
    writer.communicate("")
    assert writer.returncode == 0
    assert (tmp_path / "rows[1].npy").read_text() == "whole"
    assert names(tmp_path) == ["rows[1].npy"]
