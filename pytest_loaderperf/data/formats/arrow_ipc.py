"""Arrow IPC files, also called Feather: the columns as in memory, mapped and never copied."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.arrays.mapping import FileMapping
from pytest_loaderperf.data.formats.chunks import merged, range_by_chunk, take_by_chunk
from pytest_loaderperf.data.formats.parts import FolderTable, open_folder
from pytest_loaderperf.data.formats.table import CheckedTable
from pytest_loaderperf.data.formats.writing import complete_or_absent
from pytest_loaderperf.errors import DataError

BATCH_NBYTES = 64 << 20  # in memory while writing or streaming; each is one chunk for a reader
STREAM = b"\xff\xff\xff\xff"  # what a stream begins with


class ArrowIpc:
    """Format ``arrow``. It stores every Arrow type, and a file of one record batch reads as single chunks."""

    name = "arrow"
    suffix = ".arrow"
    package = "pyarrow"
    options = ()

    def write(self, batches: pa.RecordBatchReader, path: Path) -> None:
        """Write all rows to the file ``path``, complete or absent. Raises DataError."""
        with complete_or_absent(path) as new, pa.ipc.new_file(new, batches.schema) as writer:
            for batch in merged(batches, BATCH_NBYTES):
                writer.write_batch(batch)

    def open(self, path: Path, **options: Any) -> CheckedTable:
        """The table in the file ``path``, or in all files of the folder. Raises DataError."""
        return open_folder(ArrowFolderTable, path, options)


class ArrowIpcTable(CheckedTable):
    """A mapped Arrow IPC file or stream: ``read`` and ``stream`` give views of it, unless it is compressed."""

    format_name = "arrow"

    def _open(self) -> tuple[pa.Schema, int]:
        self._map = FileMapping(self.path, BATCH_NBYTES)
        data = pa.BufferReader(self._map.buffer)
        self._is_stream = self._map.buffer[:4].to_pybytes() == STREAM
        if self._is_stream:
            reader = pa.ipc.open_stream(data)
            self._schema, self._batches = reader.schema, list(reader)
            self._check_end(data.tell())
        else:
            file = pa.ipc.open_file(data)
            self._schema = file.schema
            self._batches = [file.get_batch(i) for i in range(file.num_record_batches)]
        self._checked: set[tuple[int, str]] = set()  # batches and columns
        self._ends = np.cumsum([len(batch) for batch in self._batches], dtype=np.int64)
        return self._schema, sum(map(len, self._batches))

    def _check_end(self, end: int) -> None:
        """A reader of streams stops at the mark of the end, whatever follows."""
        rest = self._map.buffer[end:]
        if np.frombuffer(rest, np.uint8).any():
            raise DataError(
                f"{self.path}: expected the end of the Arrow stream at byte {end:,}, got {rest.size:,} more bytes. "
                "Were several streams joined? Give them as files of a folder, or write one stream."
            )

    def _read(self, columns: list[str]) -> pa.Table:
        batches = [self._batch(i, columns) for i in range(len(self._batches))]
        return pa.Table.from_batches(batches, pa.schema([self._schema.field(name) for name in columns]))

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        return take_by_chunk(self._ends, lambda i: pa.Table.from_batches([self._batch(i, columns)]), indices)

    def _range(self, start: int, stop: int, columns: list[str]) -> pa.Table:
        return range_by_chunk(self._ends, lambda i: pa.Table.from_batches([self._batch(i, columns)]), start, stop)

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        mapping = self._map  # kept alive as long as the stream
        for i in range(len(self._batches)):
            chosen = self._batch(i, columns)
            for start in range(0, len(chosen), rows):
                part = chosen.slice(start, rows)
                yield part
                mapping.note_read(part.nbytes, 1)

    def _batch(self, place: int, columns: list[str]) -> pa.RecordBatch:
        """Columns of a batch, which are checked once: reading damaged ones might leave the file's memory."""
        chosen = self._batches[place].select(columns)
        for name, column in zip(columns, chosen.columns, strict=True):
            if (place, name) not in self._checked:
                column.validate(full=True)
                self._checked.add((place, name))
        return chosen

    def _sound(self, rows: pa.Table) -> pa.Table:
        return rows  # its batches are checked

    def _close(self) -> None:
        # The mapping is released with its last view.
        self._batches = []
        del self._map


class ArrowFolderTable(FolderTable):
    """A folder of Arrow IPC files or streams."""

    part = ArrowIpcTable
    endings = (".arrow", ".arrows", ".feather", ".ipc")
