"""Whatever a store does, a read gives the right bytes or says clearly why not."""

from __future__ import annotations

import os
import sys
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_loaderperf.data.formats import open_table, write_table
from pytest_loaderperf.data.objects import ranges
from pytest_loaderperf.data.objects.failures import failed
from pytest_loaderperf.data.objects.place import ObjectPath
from pytest_loaderperf.data.objects.ranges import Range, StoredObject, coalesced
from pytest_loaderperf.data.objects.store import CONNECTIONS, RETRIES, ObjectStore
from pytest_loaderperf.errors import DataError
from tests.data.objects.faulty import Fault, times
from tests.data.objects.local import SECRET

CONTENT = np.random.default_rng(0).bytes(300_000)
SOME = [Range(10, 20), Range(1_000, 100_000), Range(299_000, 300_000)]


@pytest.fixture
def stored(bucket):
    """An object of the bucket."""
    path = ObjectPath.of(bucket.put("x.bin", CONTENT))
    store = ObjectStore(path)
    yield StoredObject(store, path, store.version(path))
    store.close()


def _is_right(stored):
    blocks = stored.fetch(SOME)
    return all(blocks.get(*one).to_pybytes() == CONTENT[one.start : one.end] for one in SOME)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503),
        Fault(status=429),
        Fault(cut=0),
        Fault(cut=500),
        Fault(pause_s=1.5),
        Fault(latency_s=1.5),
    ],
    ids=["503", "429", "cut at once", "cut", "slow body", "no answer"],
)
def test_a_passing_fault_is_retried(stored, faults, fault):
    faults.plan = times(2, fault)
    assert _is_right(stored)


def test_a_slow_store_is_no_fault(stored, faults):
    faults.latency_s = 0.1
    assert _is_right(stored)


@pytest.mark.parametrize(
    "fault, says",
    [
        (Fault(status=503), f"after {RETRIES + 1} attempts, the server answered 503 Service Unavailable"),
        (Fault(cut=1), f"after {RETRIES + 1} attempts, the connection ended before the end of the answer"),
        (Fault(status=403), r"may not be read: the store refused access \(403\). Set AWS_ACCESS_KEY_ID"),
    ],
)
def test_a_lasting_fault_is_a_clear_error_without_secrets(stored, faults, fault, says):
    faults.plan = times(1000, fault)
    with faults.counted() as requests, pytest.raises(DataError, match=rf"s3://bucket/x\.bin .*{says}") as error:
        stored.fetch([Range(0, 1000)])
    assert len(requests) <= RETRIES + 1
    assert SECRET not in str(error.value)
    assert "127.0.0.1" not in str(error.value)


@pytest.mark.parametrize("cut", [False, True], ids=["between requests", "in an answer that is resumed"])
def test_a_change_in_mid_read_is_an_error(stored, bucket, faults, cut):
    def plan(request):
        if len(requests) == 0 and cut:
            requests.append(request)
            return Fault(cut=500)
        bucket.put("x.bin", CONTENT[::-1])
        return None

    requests, faults.plan = [], plan
    with pytest.raises(DataError, match=r"s3://bucket/x\.bin changed after it was opened: its ETag"):
        stored.fetch([Range(0, 100_000)])


def test_a_change_of_a_vortex_file_is_an_error(bucket, tmp_path):
    path = tmp_path / "x.vortex"
    write_table(pa.table({"x": np.arange(10)}), path)
    table = open_table(bucket.upload(path))
    assert table.schema.names == ["x"]
    write_table(pa.table({"x": np.arange(20)}), path)
    bucket.upload(path)
    with pytest.raises(DataError, match=r"x\.vortex changed after it was opened"):
        table.read()
    table.close()


def test_a_change_of_a_lance_dataset_is_an_error(bucket, tmp_path):
    path = tmp_path / "x.lance"
    write_table(pa.table({"x": np.arange(10)}), path)
    table = open_table(bucket.upload(path, "y.lance"))
    write_table(pa.table({"x": np.arange(20)}), path)
    bucket.upload(path, "y.lance")
    with pytest.raises(DataError, match=r"y\.lance changed after it was opened"):
        len(table)
    table.close()


@pytest.mark.parametrize(
    "url, says",
    [
        ("s3://bucket/no.parquet", r"s3://bucket/no\.parquet is missing"),
        ("s3://no-such-bucket/x.parquet", "there is no bucket 'no-such-bucket'"),
        ("s3://no-such-bucket/x.lance", "there is no bucket 'no-such-bucket'"),
        ("s3://bucket/no/", "s3://bucket/no is missing"),
        ("ftp://host/x.parquet", "expected a URL that begins with one of s3://, gs://, https://, http://, got ftp://"),
        (f"https://me:{SECRET}@host/x.parquet", "without a user or a password"),
        ("s3:///x.parquet", "Name the bucket"),
        ("s3://bucket/a//b.parquet", r"there are names with empty parts \(a//b\), .* Rename such objects"),
        ("s3://bucket/folder-of-nothing", "is missing"),
    ],
)
def test_what_is_not_there_is_an_error_when_it_is_opened(faults, bucket, url, says):
    with pytest.raises(DataError, match=says) as error:
        open_table(url)
    assert SECRET not in str(error.value)


def test_without_permission_the_error_says_what_to_set(faults, bucket):
    faults.plan = times(1000, Fault(status=403), method="HEAD")
    with pytest.raises(DataError, match=r"\(403\)\. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        open_table("s3://bucket/x.parquet")


def test_without_credentials_in_the_environment_requests_are_not_signed(bucket, faults, monkeypatch):
    """The library would ask the machine for its own."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    path = ObjectPath.of(bucket.put("public.bin", CONTENT))
    store = ObjectStore(path)
    assert store.version(path).nbytes == len(CONTENT)
    store.close()


def test_gs_reads_by_the_same_requests(bucket, faults, monkeypatch, tmp_path):
    """Against S3's server, whose requests Google's XML interface shares; not signed."""
    monkeypatch.setenv("GOOGLE_BASE_URL", faults.url)
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"):
        monkeypatch.delenv(name, raising=False)
    pq.write_table(pa.table({"x": np.arange(10)}), tmp_path / "g.parquet")
    bucket.upload(tmp_path / "g.parquet")
    table = open_table("gs://bucket/g.parquet")
    assert table.read()["x"].to_pylist() == list(range(10))
    table.close()


def test_without_its_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(DataError, match=r"need obstore, .* Install it: pip install 'pytest-loaderperf\[objects\]'"):
        open_table("s3://bucket/x.parquet")


def test_near_ranges_are_one_request_and_far_ones_are_not():
    far = ranges.GAP_NBYTES + 1
    assert coalesced([Range(far + 20, far + 30), Range(0, 10), Range(5, 19)], 1 << 30) == [
        Range(0, 19),
        Range(far + 20, far + 30),
    ]
    assert coalesced([Range(0, 10), Range(20, 30)], 1 << 30) == [Range(0, 30)]
    assert coalesced([Range(-5, 10), Range(20, 99), Range(50, 50)], 25) == [Range(0, 25)]


def test_large_ranges_are_requested_in_parallel_pieces(stored, faults, monkeypatch):
    monkeypatch.setattr(ranges, "PIECE_NBYTES", 10_000)
    faults.latency_s = 0.1
    start = time.monotonic()
    with faults.counted() as requests:
        assert stored.fetch([Range(0, 160_000)]).whole(0).to_pybytes() == CONTENT[:160_000]
    assert len(requests) == CONNECTIONS
    assert time.monotonic() - start < CONNECTIONS * 0.1, "they wait at the same time"


def test_no_more_than_the_budget_is_requested_ahead(stored, faults, monkeypatch):
    monkeypatch.setattr(ranges, "PIECE_NBYTES", 10_000)
    monkeypatch.setattr(ranges, "AHEAD_NBYTES", 40_000)
    blocks = stored.ahead(([Range(at, at + 10_000)] for at in range(0, 300_000, 10_000)), 40_000)
    with faults.counted() as requests:
        for _ in range(5):
            next(blocks)
        time.sleep(0.3)
    assert 5 < len(requests) <= 5 + 5
    blocks.close()


def test_a_forked_process_is_told_what_to_do_instead_of_waiting_forever(stored):
    assert _is_right(stored)
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            stored.fetch([Range(0, 10)])
        except DataError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert b'Start workers with "spawn"' in os.read(reading, 10_000)
    os.close(reading)
    os.close(writing)


def test_closing_ends_the_threads(bucket, faults):
    before = set(threading.enumerate())
    path = ObjectPath.of(bucket.put("x.bin", CONTENT))
    store = ObjectStore(path)
    assert _is_right(StoredObject(store, path, store.version(path)))
    started = [one for one in threading.enumerate() if one not in before and one.name.startswith("loaderperf")]
    assert started
    store.close()
    for one in started:
        one.join(5)
    assert not any(one.is_alive() for one in started)


def test_an_answer_that_no_attempt_would_change_is_not_said_to_be_tried_again():
    error = OSError("Generic HTTP error: Invalid last modified 'Wed, 21 Oct 2025 07:28:00 GMT'")
    assert str(failed(ObjectPath("https", "host", "x.csv"), error, RETRIES + 1)) == (
        "https://host/x.csv cannot be read: its server sends an invalid last modified. Correct that, or copy it to a "
        "disk first."
    )
