# ruff: noqa: T201 a command prints
"""``python -m suites.objects``: throughput of tables in an object store, as a share of plain parallel range reads."""

from __future__ import annotations

import argparse
import http.client
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import local
from urllib.parse import urlsplit

import numpy as np
import obstore
import pyarrow as pa
import pyarrow.parquet as pq
from obstore.store import S3Store

from pytest_loaderperf.data.formats import open_table
from pytest_loaderperf.data.objects.place import ObjectPath
from pytest_loaderperf.data.objects.ranges import PIECE_NBYTES, StoredObject
from pytest_loaderperf.data.objects.store import CONNECTIONS, ObjectStore
from suites.objects.server import BUCKET, serving

ASKED = 0.8  # of plain range reads
ROWS_NBYTES = 4096  # of a sample

Run = Callable[[], int]
"""Reads an object; the bytes that were read."""


def pieces(size: int) -> list[tuple[int, int]]:
    return [(start, min(start + PIECE_NBYTES, size)) for start in range(0, size, PIECE_NBYTES)]


@contextmanager
def plain_obstore(endpoint: str, name: str, size: int) -> Iterator[Run]:
    """As many requests at a time as ours, by the same library, of nothing but ranges."""
    store = S3Store(BUCKET, config={"endpoint": endpoint}, client_options={"allow_http": True})
    with ThreadPoolExecutor(CONNECTIONS) as pool:

        def read(piece: tuple[int, int]) -> int:
            return len(obstore.get_range(store, name, start=piece[0], end=piece[1]))

        yield lambda: sum(pool.map(read, pieces(size)))


@contextmanager
def plain_http(endpoint: str, name: str, size: int) -> Iterator[Run]:
    """The same by the standard library, each thread with a connection and a buffer that it uses again."""
    mine, host = local(), urlsplit(endpoint).netloc

    def read(piece: tuple[int, int]) -> int:
        if not hasattr(mine, "connection"):
            mine.connection, mine.buffer = http.client.HTTPConnection(host), bytearray(PIECE_NBYTES)
        mine.connection.request("GET", f"/{BUCKET}/{name}", headers={"Range": f"bytes={piece[0]}-{piece[1] - 1}"})
        answer, count, view = mine.connection.getresponse(), 0, memoryview(mine.buffer)
        while part := answer.readinto(view[count:]):
            count += part
        return count

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        yield lambda: sum(pool.map(read, pieces(size)))


@contextmanager
def ranges_alone(name: str) -> Iterator[Run]:
    """Our range reads, with the check of the ETag, of an object without a format."""
    path = ObjectPath.of(f"s3://{BUCKET}/{name}")
    store = ObjectStore(path)
    version = store.version(path)
    assert version is not None
    stored = StoredObject(store, path, version)
    yield lambda: sum(buffer.size for buffer in stored.stream())
    store.close()


@contextmanager
def table(name: str, size: int) -> Iterator[Run]:
    """All rows of a table, in batches: read, decoded and checked. It stays open, as the others stay connected."""
    opened = open_table(f"s3://{BUCKET}/{name}")

    def run() -> int:
        assert sum(map(len, opened.stream(256))) == len(opened)
        return size

    yield run
    opened.close()


def write(folder: Path, size: int) -> None:
    """The same random floats in several formats."""
    rows = size // ROWS_NBYTES
    samples = np.random.default_rng(0).random((rows, ROWS_NBYTES // 4), dtype=np.float32)
    np.save(folder / "x.npy", samples)
    data = pa.table({"x": pa.FixedShapeTensorArray.from_numpy_ndarray(samples)})
    group = (16 << 20) // ROWS_NBYTES
    pq.write_table(data, folder / "x.parquet", row_group_size=group, compression="none", use_dictionary=False)
    with pa.ipc.new_file(folder / "x.arrow", data.schema) as file:
        file.write_table(data, max_chunksize=group)


def compared(name: str, endpoint: str, size: int, rounds: int) -> None:
    """One row for each way to read the object ``name``."""
    ours = [("ranges alone", ranges_alone(name)), ("table", table(name, size))]
    plain = [("plain, obstore", plain_obstore(endpoint, name, size)), ("plain, http", plain_http(endpoint, name, size))]
    seconds: dict[str, list[float]] = {}
    opened = {label: context.__enter__() for label, context in ours + plain}
    for turn in range(rounds + 1):
        for label in random.sample(list(opened), len(opened)):
            start = time.perf_counter()
            count = opened[label]()
            assert count == size, f"{label}: expected {size} bytes, got {count}"
            if turn:  # the first one connects
                seconds.setdefault(label, []).append(time.perf_counter() - start)
    for _, context in ours + plain:
        context.__exit__(None, None, None)
    fastest = min((label for label, _ in plain), key=lambda label: statistics.median(seconds[label]))
    for label, times in seconds.items():
        ratios = sorted(best / one for best, one in zip(seconds[fastest], times, strict=True))
        middle = f"{ratios[len(ratios) // 4]:.2f} to {ratios[-1 - len(ratios) // 4]:.2f}"
        speed = size / statistics.median(times) / 1e6
        print(f"{name:10} {label:15} {speed:7.0f} MB/s  {statistics.median(ratios):5.2f} of {fastest} ({middle})")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m suites.objects", description=__doc__)
    parser.add_argument("--latency-ms", type=float, default=20.0, help="before each answer (default 20)")
    parser.add_argument(
        "--connection-mb", type=float, default=10.0, help="MB/s of a connection; 0: no limit (default 10)"
    )
    parser.add_argument("--mib", type=int, default=256, help="of samples (default 256)")
    parser.add_argument("--rounds", type=int, default=9, help="of each way, in turns (default 9)")
    asked = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "key", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.pop("AWS_ENDPOINT_URL_S3", None)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder, asked.mib << 20)
        with serving(folder, asked.latency_ms / 1000, asked.connection_mb) as endpoint:
            os.environ["AWS_ENDPOINT_URL"] = endpoint
            limit = f"{asked.connection_mb:g} MB/s a connection" if asked.connection_mb else "no limit of a connection"
            print(
                f"{asked.mib} MiB, {asked.latency_ms:g} ms latency, {limit}; asked: {ASKED} of the faster plain reads"
            )
            for name in ("x.parquet", "x.arrow", "x.npy"):
                compared(name, endpoint, (folder / name).stat().st_size, asked.rounds)


if __name__ == "__main__":
    main()
