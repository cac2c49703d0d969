"""A table on disk that keeps to the Protocol of data/formats, and tables to keep."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pytest_loaderperf.data.arrow.ome_arrow import ome_arrow_array

ROWS = 50


class OnDisk:
    """An Arrow file with record batches of ``group`` rows, which notes what was asked for."""

    def __init__(self, path, group=7):
        self.path, self.group = path, group
        self.reads, self.taken = 0, []
        with self._file() as file:
            self.schema = file.schema
            self.rows = sum(file.get_batch(i).num_rows for i in range(file.num_record_batches))

    def __reduce__(self):
        return OnDisk, (self.path, self.group)

    def _file(self):
        return pa.ipc.open_file(pa.OSFile(str(self.path)))

    @classmethod
    def written(cls, table, path, group=7):
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table, group)
        return cls(path, group)

    def __len__(self):
        return self.rows

    def read(self, columns=None):
        self.reads += 1
        with self._file() as file:
            table = file.read_all()
        return table if columns is None else table.select(columns)

    def take(self, indices, columns):
        self.taken.append(indices.tolist())
        assert indices.dtype == np.int64
        with self._file() as file:
            return file.read_all().select(columns).take(indices)

    def stream(self, rows, columns):
        with self._file() as file:
            for i in range(file.num_record_batches):
                batch = file.get_batch(i).select(columns)
                for start in range(0, batch.num_rows, rows):
                    yield batch.slice(start, rows)

    def close(self):
        pass


def pixels(rows=ROWS):
    return np.random.default_rng(0).integers(0, 1 << 16, (rows, 4, 5), np.uint16)


def uniform(rows=ROWS):
    """A table whose columns have samples of one shape each, and those samples as arrays."""
    numbers = np.arange(rows * 6, dtype=np.float32)
    wanted = {
        "image": pixels(rows),
        "label": np.arange(rows),
        "row": numbers.reshape(rows, 6),
        "flag": np.arange(rows) % 3 == 0,
    }
    columns = {
        "image": ome_arrow_array(wanted["image"]),
        "label": wanted["label"],
        "row": pa.ListArray.from_arrays(pa.array(np.arange(0, rows * 6 + 1, 6), pa.int32()), pa.array(numbers)),
        "flag": wanted["flag"],
    }
    return pa.table(columns), wanted


def ragged(rows=ROWS):
    """The same, with lists of several lengths and images of several sizes."""
    draw = np.random.default_rng(1)
    tokens = [np.arange(i % 5, dtype=np.int32) + i for i in range(rows)]
    images = [draw.integers(0, 1 << 16, (1 + i % 3, 4), np.uint16) for i in range(rows)]
    columns = {
        "label": np.arange(rows),
        "tokens": pa.array([part.tolist() for part in tokens], pa.list_(pa.int32())),
        "image": pa.chunked_array([ome_arrow_array(image[None]) for image in images]).combine_chunks(),
    }
    return pa.table(columns), {"label": np.arange(rows), "tokens": tokens, "image": images}


@pytest.fixture
def on_disk(tmp_path):
    """``on_disk(table)``: the table in a file."""

    def write(table, name="table.arrow", **arguments):
        return OnDisk.written(table, tmp_path / name, **arguments)

    return write
