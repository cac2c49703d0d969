"""CSV files and tars in object stores, which are read from their beginning once."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.csv import CsvTable, codec_of
from pytest_loaderperf.data.formats.remote.table import ObjectTable, first_nbytes
from pytest_loaderperf.data.formats.webdataset import Contents, Place, TarTable
from pytest_loaderperf.data.objects.ranges import PIECE_NBYTES, Blocks, Range, StreamFile

_BUFFER_NBYTES = 1 << 20  # of a stream: libraries read a few bytes at a time
_SCAN_NBYTES = 16 << 20  # of a tar whose headers are read: requested at the same time, and skipped by larger members


class CsvObject(ObjectTable, CsvTable):
    """A CSV file. One that does not fit the memory budget is read from its beginning each time."""

    @contextmanager
    def _input(self) -> Iterator[Any]:
        with closing(io.BufferedReader(StreamFile(self.content), _BUFFER_NBYTES)) as stream:
            source = pa.PythonFile(stream, "r")
            codec = codec_of(self.path.name)
            yield pa.CompressedInputStream(source, codec) if codec else source


class TarObject(ObjectTable, TarTable):
    """A tar, which is read once for the places of its members; then only the requested ones are read."""

    def _binary(self) -> BinaryIO:
        return cast("BinaryIO", io.BufferedReader(self.content.file(), _SCAN_NBYTES))

    def _prepare(self) -> None:
        """Nothing is held."""

    def _contents(self, places: Iterable[Place]) -> Contents:
        return _among(self.content.fetch(map(_range_of, places)))

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        return self._rows_of(indices, columns, self._contents(self._places_of(indices, columns)))

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        """In other parts than ``rows``: each is a round of requests, and the base divides it."""
        nbytes = sum(
            (np.array([place.nbytes for place in self._places[name]]) for name in columns if name in self._places),
            np.zeros(len(self), np.int64),
        )
        ends = np.searchsorted(np.cumsum(nbytes) // PIECE_NBYTES, np.arange(nbytes.sum() // PIECE_NBYTES + 1), "right")
        parts = [part for part in np.split(np.arange(len(self)), ends) if len(part)]
        lists = ([_range_of(place) for place in self._places_of(part, columns)] for part in parts)
        for part, blocks in zip(parts, self.content.ahead(lists, first_nbytes(rows)), strict=True):
            yield from self._rows_of(part, columns, _among(blocks)).to_batches()

    def _close(self) -> None:
        """Nothing is held."""


def _range_of(place: Place) -> Range:
    return Range(place.start, place.start + place.nbytes)


def _among(blocks: Blocks) -> Contents:
    def content(place: Place) -> memoryview:
        found = blocks.get(*_range_of(place)) if place.nbytes else b""
        assert found is not None
        return memoryview(found).cast("B")

    return content
