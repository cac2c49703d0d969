"""CSV files and tars in object stores, which are read from their beginning once."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, BinaryIO, cast

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.csv import CsvTable
from pytest_loaderperf.data.formats.remote.table import ObjectTable
from pytest_loaderperf.data.formats.webdataset import Contents, Place, TarTable
from pytest_loaderperf.data.objects.ranges import AHEAD_NBYTES, Range, StreamFile

_BUFFER_NBYTES = 1 << 20  # of a stream: libraries read a few bytes at a time
_SCAN_NBYTES = 32 << 20  # of a tar whose headers are read: requested at the same time, and skipped by larger members
_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}


class CsvObject(ObjectTable, CsvTable):
    """A CSV file. One that does not fit the memory budget is read from its beginning each time."""

    @contextmanager
    def _input(self) -> Iterator[Any]:
        with closing(io.BufferedReader(StreamFile(self.content), _BUFFER_NBYTES)) as stream:
            source = pa.PythonFile(stream, "r")
            codec = next((codec for ending, codec in _CODECS.items() if self.path.name.lower().endswith(ending)), None)
            yield pa.CompressedInputStream(source, codec) if codec else source


class TarObject(ObjectTable, TarTable):
    """A tar, which is read once for the places of its members; then only the requested ones are read."""

    def _binary(self) -> BinaryIO:
        return cast("BinaryIO", io.BufferedReader(self.content.file(), _SCAN_NBYTES))

    def _prepare(self) -> None:
        """Nothing is held."""

    def _contents(self, places: Iterable[Place]) -> Contents:
        ranges = [Range(start, start + nbytes) for start, nbytes in places]
        blocks = self.content.fetch(ranges)

        def content(place: Place) -> memoryview:
            found = blocks.get(place.start, place.start + place.nbytes) if place.nbytes else b""
            assert found is not None
            return memoryview(found).cast("B")

        return content

    def _note_read(self, nbytes: int, places: int) -> None:
        """Nothing is mapped."""

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        """In larger parts than ``rows``, which the base divides: each is one round of requests."""
        sizes = sum((np.array([p.nbytes for p in self._places[name]]) for name in columns if name in self._places), 0)
        mean = max(1, int(np.mean(sizes)))
        return super()._stream(max(rows, AHEAD_NBYTES // mean), columns)

    def _close(self) -> None:
        """Nothing is held."""
