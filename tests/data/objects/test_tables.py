"""Tables in an object store have the rows of the same files on a disk."""

from __future__ import annotations

import io
import pickle
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from pytest_loaderperf.data.formats import open_table, write_table
from pytest_loaderperf.errors import DataError

ROWS = 1000


@pytest.fixture(scope="module")
def rows():
    draw = np.random.default_rng(0)
    images = pa.FixedShapeTensorArray.from_numpy_ndarray(draw.integers(0, 255, (ROWS, 4, 5), dtype=np.uint8))
    return pa.table({"x": np.arange(ROWS), "y": draw.random(ROWS, dtype=np.float32), "image": images})


def _tar(rows, path):
    with tarfile.open(path, "w") as tar:
        for i in range(len(rows)):
            array = io.BytesIO()
            np.save(array, rows["image"].chunk(0).to_numpy_ndarray()[i])
            for kind, content in (("cls", b"%d" % i), ("npy", array.getvalue()), ("bin", b"x" * i)):
                member = tarfile.TarInfo(f"{i:05d}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def _written(rows, folder, kind):
    """``rows``, or some of their columns, as a file or a folder of the format ``kind``."""
    path = folder / {"npy": "x.npy", "webdataset": "x.tar", "csv": "x.csv.gz"}.get(kind, f"x.{kind}")
    if kind == "npy":
        np.save(path, rows["image"].chunk(0).to_numpy_ndarray())
    elif kind == "npz":
        np.savez(path, x=rows["x"].to_numpy(), y=rows["y"].to_numpy())
    elif kind == "csv":
        with pa.CompressedOutputStream(str(path), "gzip") as file:
            pyarrow.csv.write_csv(rows.select(["x", "y"]), file)
    elif kind == "webdataset":
        _tar(rows, path)
    elif kind == "parquet":
        pq.write_table(rows, path, row_group_size=300)
    elif kind == "arrow":
        with pa.ipc.new_file(path, rows.schema) as file:
            file.write_table(rows, max_chunksize=300)
    else:
        write_table(rows, path)
    return path


@pytest.fixture(scope="module", params="parquet arrow lance vortex npy npz safetensors csv webdataset".split())
def on_disk(request, rows, tmp_path_factory):
    return _written(rows, tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture
def both(on_disk, bucket):
    """The table on a disk and the one in the bucket."""
    here, there = open_table(on_disk), open_table(bucket.upload(on_disk))
    yield here, there
    here.close()
    there.close()


def test_the_rows_are_those_on_the_disk(both):
    here, there = both
    assert there.schema.equals(here.schema, check_metadata=True)
    assert len(there) == len(here)
    assert there.read().combine_chunks().equals(here.read().combine_chunks())
    indices, columns = np.array([999, 3, 3, 301, 0]), here.schema.names[:2]
    assert there.take(indices, columns).combine_chunks().equals(here.take(indices, columns).combine_chunks())
    batches = list(there.stream(130, columns))
    assert max(map(len, batches)) <= 130
    assert pa.Table.from_batches(batches).combine_chunks().equals(here.read(columns).combine_chunks())


def test_a_pickled_table_reads_the_same_version(both):
    with_it = pickle.loads(pickle.dumps(both[1]))  # noqa: S301 our own
    assert with_it.read().equals(both[1].read())
    with_it.close()


def test_opening_asks_only_for_the_version(both, faults, bucket, on_disk):
    with faults.counted() as requests:
        open_table(f"{bucket.url}/{on_disk.name}").close()
    assert len(requests) == 1
    assert all(one.range is None for one in requests)


def test_a_folder_of_objects_is_one_table(rows, bucket, tmp_path):
    for year in (2024, 2025):
        (tmp_path / f"year={year}").mkdir()
        pq.write_table(rows.slice(year - 2024, 10), tmp_path / f"year={year}" / "part.parquet")
    (tmp_path / "_SUCCESS").touch()
    here, there = open_table(tmp_path), open_table(bucket.upload(tmp_path, "folder") + "/")
    assert there.read().combine_chunks().equals(here.read().combine_chunks())
    assert there.take(np.array([15, 2]))["year"].to_pylist() == [2025, 2024]
    again = pickle.loads(pickle.dumps(there))  # noqa: S301 our own
    assert again.schema.equals(there.schema)
    for table in (here, there, again):
        table.close()


def test_only_the_columns_that_are_asked_for_are_read(bucket, faults, tmp_path):
    wide = pa.table({name: np.random.default_rng(0).random(200_000) for name in "abcd"})
    path = tmp_path / "wide.parquet"
    pq.write_table(wide, path)
    table = open_table(bucket.upload(path))
    assert table.schema.names == list("abcd")
    with faults.counted() as requests:
        assert table.read(["b"]).equals(wide.select(["b"]))
    read = [int(end) - int(start) + 1 for start, end in (one.range[6:].split("-") for one in requests)]
    assert 1.5e6 < sum(read) < 2e6, "a fourth of the 6.4 MB"
    table.close()


def test_what_is_no_range_format_is_named_with_what_to_do(bucket):
    with pytest.raises(
        DataError, match=r"s3://bucket/x\.duckdb: the format duckdb cannot be read from an object store"
    ):
        open_table(f"{bucket.url}/x.duckdb")


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("cut.parquet", b"PAR1" + bytes(100), "is truncated"),
        ("page.parquet", b"<!doctype html><html>" + b" " * 100, "is a web page"),
        ("empty.parquet", b"", "is empty"),
        ("other.arrow", b"PAR1" + bytes(100) + b"PAR1", "is a file of the format parquet; expected arrow"),
        ("head.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (9,), }\n", "expected"),
        ("bad.safetensors", b"\xff" * 40, "is damaged"),
    ],
)
def test_a_damaged_object_is_an_error_when_it_is_read(bucket, name, content, says):
    table = open_table(bucket.put(name, content))
    with pytest.raises(DataError, match=rf"s3://bucket/{name}.*{says}"):
        table.schema  # noqa: B018 opens it
    table.close()


def test_an_empty_object_of_a_folder_is_not_left_out(bucket, faults, rows, tmp_path):
    pq.write_table(rows.slice(0, 10), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").touch()
    table = open_table(bucket.upload(tmp_path, "with-an-empty-one") + "/")
    with pytest.raises(DataError, match=r"with-an-empty-one/b\.parquet is empty"):
        table.read()
    table.close()


def test_a_folder_of_several_formats_is_an_error(bucket, faults):
    for name in ("a.parquet", "b.csv"):
        bucket.put(f"several/{name}", b"x")
    with pytest.raises(DataError, match=r"expected objects of one format below it, got csv and parquet"):
        open_table(f"{bucket.url}/several/")
    bucket.put("with-a-log/_delta_log/0.json", b"{}")
    with pytest.raises(DataError, match=r"is a Delta table"):
        open_table(f"{bucket.url}/with-a-log/")
