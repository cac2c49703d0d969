"""A small on-disk format layer, for what only needs one that works: Parquet by pyarrow."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Generic, TypeVar

import pyarrow as pa
from pyarrow import parquet

from pytest_loaderperf.data import formats
from pytest_loaderperf.errors import DataError

T = TypeVar("T")
PARQUET = SimpleNamespace(name="parquet", suffix=".parquet", package="pyarrow", options=())
ABSENT = SimpleNamespace(name="absent", suffix=".absent", package="no-such-package", options=())


class ParquetTable:
    """One file. Reading row ``fails_at`` raises."""

    fails_at = None

    def __init__(self, path):
        self.path, self._file = path, parquet.ParquetFile(path)
        self.schema = self._file.schema_arrow

    def __len__(self):
        return self._file.metadata.num_rows

    def stream(self, rows):
        for done, batch in enumerate(self._file.iter_batches(rows)):
            if self.fails_at is not None and done * rows >= self.fails_at:
                raise DataError(f"{self.path} cannot be read at row {done * rows}.")
            yield batch

    def close(self):
        self._file.close()


def format_of(path):
    for one in (PARQUET, ABSENT):
        if Path(path).suffix == one.suffix:
            return one
    raise DataError(f"{path} is of no known format.")


def open_table(path, format=None):  # noqa: A002 as in formats
    try:
        return ParquetTable(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def write_table(source, path, format=None):  # noqa: A002 as in formats
    with parquet.ParquetWriter(path, source.schema) as writer:
        for batch in source:
            writer.write_batch(batch)


class InProcess(Generic[T]):
    """What `Isolated` does, in this process, where tests replace parts of the package."""

    def __init__(self, function, told=None):
        self._function, self._told = function, {} if told is None else {"told": told}

    def __call__(self, *args):
        return self._function(*args, **self._told)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def put_in_place(monkeypatch):
    """Let the package see these instead of its formats."""
    stand_ins = {
        "FORMATS": {"parquet": PARQUET, "absent": ABSENT},
        "missing": lambda: {"absent": "pip install no-such-package"},
        "format_of": format_of,
        "open_table": open_table,
        "write_table": write_table,
    }
    for name, value in stand_ins.items():
        monkeypatch.setattr(formats, name, value, raising=False)
    stay_in_process(monkeypatch)


def stay_in_process(monkeypatch):
    """Let checks start no process: they take seconds, and each has one."""
    for module in ("checks.check", "checks.images"):
        monkeypatch.setattr(importlib.import_module(f"pytest_loaderperf.data.{module}"), "Isolated", InProcess)
