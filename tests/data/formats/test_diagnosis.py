"""An error says what is wrong with a file: damaged, another kind of file, locked, too new, or out of reach."""

from __future__ import annotations

import gzip
import io
import re
import subprocess
import sys
import zipfile
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_loaderperf.data import check
from pytest_loaderperf.data.formats import FORMATS, open_table, write_table
from pytest_loaderperf.data.formats.diagnosis import explained, plain_text
from pytest_loaderperf.errors import DataError

FILES = ("parquet", "arrow", "duckdb", "vortex", "safetensors")
DAMAGED = "Write it again, or give an undamaged file."


def zipped():
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a", "b")
        return file.getvalue()


OTHERS = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 12\n": "is a Git LFS pointer, .* Run: git lfs",
    b"<<<<<<< HEAD\nPAR1\n=======\n>>>>>>> other\n": "is a text with Git's conflict markers; .* Resolve the conflict",
    b"\n<!DOCTYPE html><html>404</html>": r"is a web page \(HTML\); .* Download the file itself",
    gzip.compress(b"PAR1"): "is a gzip file; .* Unpack it first",
    zipped(): "is a zip archive; .* Unpack it first",
}


@pytest.mark.parametrize("content", OTHERS, ids=range(len(OTHERS)))
@pytest.mark.parametrize("name", FILES)
def test_another_kind_of_file_is_named_and_not_called_damaged(name, content, tmp_path):
    path = tmp_path / f"a{FORMATS[name].suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))} {OTHERS[content]}") as caught:
        open_table(path)
    assert DAMAGED not in str(caught.value)
    assert re.match(OTHERS[content], check(path).problems[0].what)


@pytest.mark.parametrize("name", FILES)
def test_an_empty_file_is_called_so(name, tmp_path):
    path = tmp_path / f"a{FORMATS[name].suffix}"
    path.touch()
    with pytest.raises(DataError) as caught:
        open_table(path)
    assert str(caught.value) == f"{path} is empty (0 bytes). {DAMAGED}"


@pytest.mark.parametrize("name", ["arrow", "duckdb", "vortex", "safetensors"])
def test_a_file_of_another_format_is_named_with_the_way_to_open_it(name, tmp_path):
    path = tmp_path / f"a{FORMATS[name].suffix}"
    write_table(pa.table({"x": [1]}), path, "parquet")
    with pytest.raises(DataError) as caught:
        open_table(path)
    assert (
        str(caught.value) == f"{path} is a file of the format parquet; expected {name}. Open it with format='parquet'."
    )


@pytest.mark.parametrize("name", ["parquet", "arrow", "vortex"])
def test_a_file_without_its_end_is_truncated(name, tmp_path):
    path = tmp_path / f"a{FORMATS[name].suffix}"
    write_table(pa.table({"x": list(range(100))}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError) as caught:
        open_table(path)
    size = f"{path.stat().st_size:,}"
    assert str(caught.value) == f"{path} is truncated: its {size} bytes lack the end of a file of {name}. {DAMAGED}"


def test_a_database_that_another_process_writes_is_locked_by_it(tmp_path):
    path = tmp_path / "a.duckdb"
    write_table(pa.table({"x": [1]}), path)
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(1, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline()
        with pytest.raises(DataError) as caught:
            open_table(path)
        other.communicate("")
    assert re.fullmatch(
        rf"{re.escape(str(path))} is locked by another process, \S+ \(PID {other.pid}\)\. "
        r"Close it there, then open it again\.",
        str(caught.value),
    )


@pytest.mark.parametrize(
    "text, expected",
    [
        ("IO Error: Could not set lock on file", "is locked by another process. Close it there, then open it again."),
        ("Permission denied (os error 13)", "may not be read. Get permission to read it."),
        ("[Errno 24] Too many open files", r"too many open files. Raise the limit (ulimit -n), or close some."),
        ("written by a newer version of DuckDB", "Update the library that reads it."),
        (
            "Unsupported cast from a to b",
            "A column has a type that is not supported. Choose the other columns, or cast it.",
        ),
        ("malloc of size 12 failed", "There is too little memory. Read fewer columns or rows at a time."),
        ("bad range", DAMAGED),
    ],
)
def test_only_what_is_damaged_is_to_be_written_anew(text, expected, tmp_path):
    came = explained(tmp_path, text)
    assert came.startswith(str(tmp_path))
    assert came.endswith(expected)
    assert (DAMAGED in came) == (expected == DAMAGED)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("LanceError(Arrow): C Data interface error: bad, /a/b.rs:1:2\nmore", "C Data interface error: bad"),
        ("it broke. Detail: Python exception: Traceback (most recent call last):", "it broke"),
        ("bad range, /src/io.rs:1:2.\nBacktrace:", "bad range"),
    ],
)
def test_nothing_of_a_traceback_is_told(text, expected):
    assert plain_text(text) == expected


@pytest.mark.parametrize("suffix", [".arrow", ".arrows", ".feather"])
@pytest.mark.parametrize("rows", [0, 5])
def test_an_arrow_stream_is_opened(suffix, rows, tmp_path):
    path = tmp_path / f"a{suffix}"
    source = pa.table({"x": list(range(rows)), "s": pa.array(["a"] * rows).dictionary_encode()})
    with pa.ipc.new_stream(path, source.schema) as writer:
        writer.write_table(source, max_chunksize=2)
    with closing(open_table(path, "arrow")) as table:
        assert table.schema == source.schema
        assert table.read().to_pylist() == source.to_pylist()
        assert sum(map(len, table.stream(3))) == rows
        if rows:
            assert table.take(np.array([4, 0]))["x"].to_pylist() == [4, 0]


def test_narrow_floats_of_safetensors_are_read_exactly(tmp_path):
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save_file
    values = torch.tensor([[1.5, -2.25], [3.0, 65280.0]])
    tensors = {"b": values.to(torch.bfloat16), "f": values.to(torch.float8_e5m2), "y": torch.arange(2)}
    save(tensors, tmp_path / "a.safetensors")
    with closing(open_table(tmp_path / "a.safetensors")) as table:
        read = table.read()
        for name in ("b", "f"):
            came = read[name].chunk(0).to_numpy_ndarray()
            assert came.dtype == np.float32
            assert np.array_equal(came, tensors[name].float().numpy())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("name", [*FILES, "lance", "npy"])
def test_an_interrupt_while_rows_come_stays_one_and_leaves_what_was_there(name, error, tmp_path):
    path = tmp_path / f"a{FORMATS[name].suffix}"
    write_table(pa.table({"x": [1]}), path)

    def batches():
        yield pa.record_batch({"x": [2, 3]})
        raise error

    with pytest.raises(error):
        write_table(pa.RecordBatchReader.from_batches(pa.schema({"x": pa.int64()}), batches()), path)
    assert list(tmp_path.iterdir()) == [path]
    with closing(open_table(path)) as table:
        assert table.read().to_pydict() == {"x": [1]}


@pytest.mark.parametrize("name", [*FILES, "lance", "npy"])
def test_a_source_that_breaks_is_what_is_to_be_fixed(name, tmp_path):
    def batches():
        yield pa.record_batch({"x": [2, 3]})
        raise RuntimeError("the disk is fine")

    path = tmp_path / f"a{FORMATS[name].suffix}"
    with pytest.raises(DataError) as caught:
        write_table(pa.RecordBatchReader.from_batches(pa.schema({"x": pa.int64()}), batches()), path)
    assert str(caught.value) == (
        f"{path} cannot be written: the source of its rows raised RuntimeError: the disk is fine. "
        "What was there before is unchanged; fix the source."
    )


def test_a_file_that_looks_whole_but_is_damaged_says_so(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": list(range(1000))}), path)
    data = bytearray(path.read_bytes())
    data[-60:-12] = b"\xff" * 48
    path.write_bytes(bytes(data))
    with pytest.raises(DataError) as caught:
        open_table(path)
    assert str(caught.value).startswith(f"{path} cannot be read: ")
    assert str(caught.value).endswith(DAMAGED)
