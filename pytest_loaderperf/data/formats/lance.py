"""Lance: a folder of columns that are made for taking rows by index."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.library import library
from pytest_loaderperf.data.formats.storage import stored
from pytest_loaderperf.data.formats.table import CheckedTable
from pytest_loaderperf.data.formats.writing import complete_or_absent
from pytest_loaderperf.errors import DataError


class Lance:
    """Format ``lance``. Extension types and metadata survive by Lance's own schema."""

    name = "lance"
    suffix = ".lance"
    package = "pylance"

    def write(self, batches: pa.RecordBatchReader, path: Path) -> None:
        """Write all rows to the folder ``path``, complete or absent. Raises DataError."""
        lance = library("lance", self.package)
        with complete_or_absent(path) as new:
            schema = batches.schema
            lance.write_dataset(pa.RecordBatchReader.from_batches(schema, stored(batches, schema)), str(new))

    def open(self, path: Path) -> LanceTable:
        """The newest version of the dataset in the folder ``path``. Raises DataError."""
        return LanceTable(path)


class LanceTable(CheckedTable):
    """A Lance dataset. Its threads do not outlive a fork: give workers the pickled table."""

    is_folder = True

    def _open(self) -> tuple[pa.Schema, int]:
        if not (self.path / "_versions").is_dir():  # for which Lance would look again and again
            raise DataError(f"{self.path} holds no _versions. Expected the folder of a Lance dataset.")
        self._dataset = library("lance", Lance.package).dataset(str(self.path))
        return self._dataset.schema, self._dataset.count_rows()

    def _read(self, columns: list[str]) -> pa.Table:
        return self._dataset.to_table(columns=columns, batch_size=max(1, len(self)))  # in one chunk

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        return self._dataset.take(indices.tolist(), columns)

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        batches: Iterable[pa.RecordBatch] = self._dataset.to_batches(columns=columns, batch_size=rows)
        return batches

    def _close(self) -> None:
        del self._dataset
