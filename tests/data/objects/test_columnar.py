"""Parquet and Arrow files of every layout are read by ranges as from a disk."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pytest_loaderperf.data.formats import open_table
from pytest_loaderperf.data.formats.remote import table as remote_table
from pytest_loaderperf.data.formats.remote.columnar import blocks_of, rows_of
from pytest_loaderperf.errors import DataError


def _nested(rows=100):
    return pa.table(
        {
            "word": pa.array([f"w{i % 7}" for i in range(rows)]).dictionary_encode(),
            "list": pa.array([[i] * (i % 4) for i in range(rows)]),
            "struct": pa.array([{"a": i, "b": {"c": str(i)}} for i in range(rows)]),
            "struct.a": pa.array(range(rows)),
            "null": pa.array([None if i % 3 else float(i) for i in range(rows)]),
        }
    )


def _arrow(table, path, **options):
    with pa.ipc.new_file(path, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as file:
        file.write_table(table, max_chunksize=30)


TABLES = {
    "nested.parquet": lambda path: pq.write_table(_nested(), path, row_group_size=30),
    "nested.arrow": lambda path: _arrow(_nested(), path),
    "compressed.arrow": lambda path: _arrow(_nested(), path, compression="lz4"),
    "wide.parquet": lambda path: pq.write_table(pa.table({f"a long name {i}": [i, i + 1] for i in range(600)}), path),
    "wide.arrow": lambda path: _arrow(pa.table({f"a long name {i}": [i, i + 1] for i in range(600)}), path),
    "empty.parquet": lambda path: pq.write_table(_nested(0), path),
    "empty.arrow": lambda path: _arrow(_nested(0), path),
}


@pytest.mark.parametrize("name", TABLES)
def test_it_reads_as_from_a_disk(bucket, faults, tmp_path, name):
    TABLES[name](tmp_path / name)
    here, there = open_table(tmp_path / name), open_table(bucket.upload(tmp_path / name))
    assert there.schema.equals(here.schema, check_metadata=True)
    assert len(there) == len(here)
    assert there.read().to_pylist() == here.read().to_pylist()
    columns = here.schema.names[-3:-1]
    assert there.read(columns).to_pylist() == here.read(columns).to_pylist()
    indices = np.array([1, 0, 1, len(here) - 1]) if len(here) else np.array([], np.int64)
    assert there.take(indices, columns).to_pylist() == here.take(indices, columns).to_pylist()
    assert [row for batch in there.stream(7) for row in batch.to_pylist()] == here.read().to_pylist()
    here.close()
    there.close()


def test_an_arrow_stream_is_refused_with_what_to_do(bucket, faults, tmp_path):
    with pa.ipc.new_stream(tmp_path / "x.arrows", _nested().schema) as file:
        file.write_table(_nested())
    table = open_table(bucket.upload(tmp_path / "x.arrows"))
    with pytest.raises(DataError, match=r"is an Arrow stream, which has no index of its batches\. Copy it to a disk"):
        len(table)
    table.close()


def test_a_damaged_footer_is_an_error(bucket, faults, tmp_path):
    _arrow(_nested(), tmp_path / "x.arrow")
    content = bytearray((tmp_path / "x.arrow").read_bytes())
    for place in range(len(content) - 200, len(content) - 10, 3):
        content[place] ^= 0x5A
    table = open_table(bucket.put("x.arrow", bytes(content)))
    with pytest.raises(DataError, match=r"s3://bucket/x\.arrow"):
        table.read()
    table.close()


def test_the_places_and_lengths_of_batches_are_those_that_arrow_reads(tmp_path):
    _arrow(_nested(), tmp_path / "x.arrow")
    content = (tmp_path / "x.arrow").read_bytes()
    length = int.from_bytes(content[-10:-6], "little")
    dictionaries, batches = blocks_of(content[-10 - length : -10])
    reader = pa.ipc.open_file(pa.BufferReader(content))
    assert len(batches) == reader.num_record_batches
    assert len(dictionaries) == 1
    lengths = [rows_of(content[one.head.start : one.head.end]) for one in batches]
    assert lengths == [reader.get_batch(i).num_rows for i in range(len(batches))]


def test_for_the_first_rows_alone_little_is_requested(bucket, faults, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_table, "PIECE_NBYTES", 1)
    draws = pa.table({"x": np.random.default_rng(0).random(400_000)})
    pq.write_table(draws, tmp_path / "groups.parquet", row_group_size=20_000)
    table = open_table(bucket.upload(tmp_path / "groups.parquet"))
    assert len(table) == len(draws)
    for rows, most in ((1, 2), (100, 20)):
        with faults.counted() as requests:
            batches = table.stream(rows)
            assert next(batches)["x"][0] == draws["x"][0]
            batches.close()
        assert 1 <= len(requests) <= most
    table.close()
