"""Damaged files give the rows that were written, or an error of ours that names them."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_loaderperf.data import check, optimize
from pytest_loaderperf.data.formats import open_table, write_table
from pytest_loaderperf.data.formats.ome_zarr import OmeZarr
from pytest_loaderperf.errors import DataError


def replaced(path, old, new):
    """Put bytes in the place of others, which come once in the file at ``path``."""
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def arrow_file(path):
    text = pa.array(["some", "text", "that is long enough"] * 4)
    table = pa.table({"text": text, "x": np.arange(12)})
    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)
    return text.buffers()[1].to_pybytes()[:52]


WAYS = {
    "read": lambda table: table.read(),
    "take": lambda table: table.take(np.array([5, 2])),
    "stream": lambda table: list(table.stream(3)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("offset", [1 << 30, -(1 << 30)])
def test_offsets_of_an_arrow_file_that_leave_it_are_an_error_before_they_are_followed(tmp_path, way, offset):
    path = tmp_path / "a.arrow"
    offsets = arrow_file(path)
    wrong = np.frombuffer(offsets, "<i4").copy()
    wrong[4] = offset
    replaced(path, offsets, wrong.tobytes())
    table = open_table(path)
    with pytest.raises(DataError, match=r"a\.arrow cannot be read: "):
        WAYS[way](table)
    assert table.take(np.array([5, 2]), ["x"]).column("x").to_pylist() == [5, 2]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_a_text_that_is_no_text_is_an_error_of_the_file(tmp_path, way, suffix):
    path = tmp_path / f"a{suffix}"
    table = pa.table({"text": ["plain"] * 5 + ["needle"]})
    if suffix == ".arrow":
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table, path, compression="none", use_dictionary=False, write_statistics=False)
    replaced(path, b"needle", b"needl\xff")
    with pytest.raises(DataError, match=f"a{suffix} cannot be read: .*UTF"):
        WAYS[way](open_table(path))


@pytest.mark.parametrize("nested", [False, True])
def test_a_damaged_name_of_a_column_is_an_error_when_the_file_is_opened(tmp_path, nested):
    path = tmp_path / "a.arrow"
    batch = pa.record_batch({"x": pa.array([{"needle": 1}])} if nested else {"needle": pa.array([1])})
    with pa.ipc.new_stream(path, batch.schema) as writer:
        writer.write_batch(batch)
    replaced(path, b"needle", b"needl\xff")
    with pytest.raises(DataError, match=r"a\.arrow cannot be read: "):
        open_table(path)
    assert not check(path).good


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_checksums_of_parquet_pages_are_verified(tmp_path, version, way):
    path = tmp_path / "a.parquet"
    values = np.arange(40, dtype="<f8")
    options = {"write_page_checksum": True, "data_page_version": version, "write_statistics": False}
    pq.write_table(pa.table({"x": values}), path, compression="none", use_dictionary=False, **options)
    wrong = values.copy()
    wrong[7] = 1e9
    replaced(path, values.tobytes(), wrong.tobytes())
    with pytest.raises(DataError, match=r"a\.parquet cannot be read: .*CRC"):
        WAYS[way](open_table(path))


@pytest.mark.parametrize("one", [OmeZarr(), OmeZarr(2), OmeZarr(sharded=True)], ids=["3", "2", "sharded"])
def test_no_flipped_bit_of_a_written_zarr_chunk_goes_unnoticed(tmp_path, one):
    pixels = np.random.default_rng(3).integers(1, 9, (1, 6, 6), np.uint8)
    table = pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels)})
    path = tmp_path / "a-ome-zarr"
    one.write(table.to_reader(), path)
    chunk = next(file for file in path.rglob("0") if file.is_file())
    content = chunk.read_bytes()
    for at in range(len(content)):
        chunk.write_bytes(content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :])
        try:
            found = open_table(path).read()
        except DataError:
            continue
        assert found.equals(table), at  # some bits of a frame have no meaning
    chunk.write_bytes(content)
    assert open_table(path).read().equals(table)


def numbers():
    image = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((2, 4, 4), np.uint8))
    return pa.table({"image": image, "label": [0, 1]})


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(
    "name, inside",
    [
        ("a.parquet", ""),
        ("a.arrow", ""),
        ("a.vortex", ""),
        ("a.duckdb", ""),
        ("a.safetensors", ""),
        ("a.lance", "data/*.lance"),
        ("a.lance", "_versions/*"),
        ("a-npy", "image.npy"),
        ("a-npy", "_schema.arrow"),
        ("a-tiff", "0/00000000.tif"),
        ("a-tiff", "_schema.arrow"),
        ("a-ome-zarr", "0/00000000.ome.zarr/zarr.json"),
        ("a-ome-zarr", "0/00000000.ome.zarr/0/c/0/0"),
    ],
)
def test_a_pipe_in_the_place_of_a_file_is_an_error_and_nobody_waits_for_it(tmp_path, name, inside, linked):
    path = tmp_path / name
    write_table(numbers(), path)
    file = next(path.glob(inside)) if inside else path
    file.unlink()
    os.mkfifo(tmp_path / "pipe" if linked else file)
    if linked:
        file.symlink_to(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"is a pipe; expected a file\. Put the file there, or name another path\."):
        open_table(path).read()
    assert not check(path).good


def test_a_pipe_in_a_folder_is_told_in_sentences(tmp_path):
    os.mkfifo(tmp_path / "a.parquet")
    with pytest.raises(DataError) as caught:
        open_table(tmp_path, "parquet")
    assert str(caught.value) == (
        f"{tmp_path}/a.parquet is a pipe; expected a file. Put the file there, or name another path. Repair it, or "
        "take it out of the folder."
    )


def test_a_dataset_that_was_replaced_while_it_was_open_is_not_called_damaged(tmp_path):
    path = tmp_path / "a.lance"
    write_table(numbers(), path)
    table = open_table(path)
    write_table(numbers(), path)
    with pytest.raises(
        DataError, match=r"its file /\S+\.lance is missing\. Open it again if it was replaced meanwhile"
    ):
        table.read()
    table.close()


def test_a_pipe_that_is_called_like_a_picture_is_a_problem_of_a_check(tmp_path):
    for file in (tmp_path / "a.png", tmp_path / "b.tif"):
        os.mkfifo(file)
        assert [problem.what[:27] for problem in check(file).problems] == ["is a pipe; expected a file."]
    assert len(check(tmp_path).problems) == 2


@pytest.mark.parametrize("way", ["read", "stream"])
def test_fewer_rows_than_a_file_promises_are_an_error(tmp_path, monkeypatch, way):
    path = tmp_path / "a.parquet"
    pq.write_table(numbers(), path)
    table = open_table(path)
    monkeypatch.setattr(table, "_rows", 3)
    with pytest.raises(DataError, match=r"a\.parquet is damaged: expected 3 rows, got 2\. Write it again"):
        WAYS[way](table)


def test_a_table_without_rows_of_tensors_with_a_permutation_is_loaded(tmp_path):
    kind = pa.fixed_shape_tensor(pa.uint8(), (2, 3), permutation=[1, 0])
    write_table(pa.Table.from_batches([], pa.schema([("x", kind)])), tmp_path / "a.parquet")
    assert len(optimize(open_table(tmp_path / "a.parquet"), cache="whole")) == 0
