"""Rows of an object store are kept on this machine, and read again only if the object has changed."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.encoded.pictures import open_pictures
from pytest_loaderperf.data.formats import open_table, write_table
from pytest_loaderperf.errors import DataError
from tests.data.encoded.encode import encoded
from tests.data.objects.faulty import Fault


def _put(bucket, tmp_path, rows, name="kept.parquet"):
    path = tmp_path / name
    write_table(rows, path)
    return bucket.upload(path)


@pytest.fixture
def rows():
    return pa.table({"x": np.arange(100), "y": np.arange(100, dtype=np.float32)})


def _opened(url, cache_dir, **options):
    table = open_table(url)
    store = optimize(table, cache_dir=cache_dir, **options)
    table.close()
    return store


@pytest.mark.parametrize("name", ["kept.parquet", "kept.lance"])
def test_the_second_time_only_the_version_is_asked_for(bucket, faults, tmp_path, rows, name):
    url = _put(bucket, tmp_path, rows, name)
    assert [s["x"].item() for s in (_opened(url, tmp_path / "cache")[i] for i in (0, 99))] == [0, 99]
    with faults.counted() as requests:
        again = _opened(url, tmp_path / "cache")
        assert again[5]["y"].item() == 5
    assert len(requests) == 1
    assert requests[0].method == "HEAD" or "list-type" in requests[0].path
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_new_version_gets_a_new_cache(bucket, faults, tmp_path, rows):
    url = _put(bucket, tmp_path, rows)
    old = _opened(url, tmp_path / "cache")
    _put(bucket, tmp_path, pa.table({"x": np.arange(100) + 1, "y": rows["y"]}))
    new = _opened(url, tmp_path / "cache")
    assert (old[0]["x"].item(), new[0]["x"].item()) == (0, 1)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_other_columns_are_another_cache(bucket, faults, tmp_path, rows):
    url = _put(bucket, tmp_path, rows)
    assert set(_opened(url, tmp_path / "cache", columns=["x"])[0]) == {"x"}
    assert set(_opened(url, tmp_path / "cache")[0]) == {"x", "y"}


def test_a_folder_is_kept_by_all_of_its_versions(bucket, faults, tmp_path, rows):
    for i in range(3):
        _put(bucket, tmp_path, rows, f"part-{i}.parquet")
        bucket.upload(tmp_path / f"part-{i}.parquet", f"kept-folder/part-{i}.parquet")
    url = f"{bucket.url}/kept-folder/"
    assert len(_opened(url, tmp_path / "cache")) == 300
    with faults.counted() as requests:
        assert len(_opened(url, tmp_path / "cache")) == 300
    assert [one.method for one in requests] == ["GET"], "the list"
    bucket.put("kept-folder/part-1.parquet", (tmp_path / "part-0.parquet").read_bytes() + b"")
    write_table(rows.slice(0, 50), tmp_path / "part-1.parquet")
    bucket.upload(tmp_path / "part-1.parquet", "kept-folder/part-1.parquet")
    assert len(_opened(url, tmp_path / "cache")) == 250


def test_pictures_are_decoded_into_the_cache_once(bucket, faults, tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (5, 8, 9, 3), dtype=np.uint8)
    url = _put(
        bucket, tmp_path, pa.table({"image": [encoded(Image.fromarray(image)) for image in images]}), "pictures.parquet"
    )
    assert np.array_equal(_opened(url, tmp_path / "cache")[3]["image"].numpy(), images[3])
    with faults.counted() as requests:
        assert np.array_equal(_opened(url, tmp_path / "cache")[4]["image"].numpy(), images[4])
    assert len(requests) == 1
    pictures = open_pictures(url, size=4)
    assert optimize(pictures, cache_dir=tmp_path / "cache")[0]["image"].shape == (4, 4, 3)
    assert pictures[0]["image"].shape == (4, 4, 3)
    pictures.close()


def test_rows_in_memory_are_not_written_to_a_disk(bucket, faults, tmp_path, rows, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    table = open_table(_put(bucket, tmp_path, rows))
    assert optimize(table, cache="whole")[7]["x"].item() == 7
    assert not (tmp_path / "cache").exists()
    table.close()


def test_a_change_while_the_cache_is_written_leaves_none(bucket, faults, tmp_path, rows):
    path = tmp_path / "changing.parquet"
    pq.write_table(rows, path, row_group_size=10)
    table = open_table(bucket.upload(path))
    assert len(table) == 100
    bucket.put("changing.parquet", path.read_bytes()[::-1])
    with pytest.raises(DataError, match=r"changing\.parquet changed after it was opened"):
        optimize(table, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    table.close()


def test_faults_while_the_cache_is_written_do_not_reach_it(bucket, faults, tmp_path, rows, caplog):
    path = tmp_path / "faulty.parquet"
    pq.write_table(rows, path, row_group_size=10)
    url, seen = bucket.upload(path), set()

    def plan(request):
        """Each range is cut once, and then resumed."""
        end = (request.range or "").partition("-")[2]
        if end in seen or not end:
            return None
        seen.add(end)
        return Fault(cut=5)

    faults.plan = plan
    with caplog.at_level(logging.INFO, "pytest_loaderperf"):
        store = _opened(url, tmp_path / "cache")
    assert [store[i]["x"].item() for i in range(100)] == list(range(100))
    assert "is in an object store" in caplog.text
