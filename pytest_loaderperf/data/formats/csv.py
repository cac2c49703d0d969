"""Text tables: CSV and TSV, compressed or not, by Arrow's reader."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pacsv

from pytest_loaderperf.data.formats.chunks import reordered
from pytest_loaderperf.data.formats.parts import FolderTable, open_folder
from pytest_loaderperf.data.formats.protocol import OnlyRead
from pytest_loaderperf.data.formats.table import CheckedTable
from pytest_loaderperf.errors import DataError

_PLAIN, _COMPRESSED = (".csv", ".tsv"), ("", ".gz", ".bz2", ".zst")
CSV_ENDINGS = tuple(plain + how for plain in _PLAIN for how in _COMPRESSED)
BUDGET_SHARE = 4  # the available memory is divided by this: what the rows of a file may take
_BLOCK_NBYTES = 4 << 20  # of text that is parsed together
_OPTIONS = ("delimiter", "names", "types", "memory_budget")


class Csv(OnlyRead):
    """Format ``csv``.

    ``delimiter``: one character, by default a comma, and a tab in ``.tsv``. ``names``: those of the columns of a file
    without a header. ``types``: an Arrow type, or its name such as "float32", by the name of a column; other types are
    found from the file. ``memory_budget``: bytes that the rows may take in memory, by default a quarter of the
    available memory; for a larger table each `take` reads the file from its beginning.
    """

    name = "csv"
    suffix = ".csv"
    package = "pyarrow"
    options = _OPTIONS

    def open(self, path: Path, **options: Any) -> CheckedTable:
        """The table in the file ``path``, or in all files of the folder. Raises DataError."""
        return open_folder(CsvFolderTable, path, options)


class CsvTable(CheckedTable):
    """A CSV file: in memory, or read block by block if it does not fit."""

    def _open(self) -> tuple[pa.Schema, int]:
        if not self.path.name.lower().endswith(_COMPRESSED[1:]):
            self._refuse_others("csv")
        budget = self.options.get("memory_budget")
        if budget is not None and (type(budget) is not int or budget < 0):
            raise DataError(f"{self.path}: expected memory_budget, a number of bytes, got {budget!r}.")
        self._budget = psutil.virtual_memory().available // BUDGET_SHARE if budget is None else budget
        self._types = self._asked_types()
        self._whole: pa.Table | None = None
        schema, batches, rows, nbytes = None, list[pa.RecordBatch](), 0, 0
        for batch in self._blocks():
            schema = schema or batch.schema
            rows, nbytes = rows + len(batch), nbytes + batch.nbytes
            batches = [*batches, batch] if nbytes <= self._budget else []
        assert schema is not None
        if len(set(schema.names)) < len(schema.names):
            raise DataError(f"{self.path}: expected columns of different names, got {schema.names}. Pass names=[...].")
        if missing := set(self._types) - set(schema.names):
            raise DataError(f"{self.path}: expected types of its columns {schema.names}, got one of {sorted(missing)}.")
        if nbytes <= self._budget:
            self._whole = pa.Table.from_batches(batches, schema)
        return schema, rows

    def _input(self) -> AbstractContextManager[Any]:
        """What Arrow reads: a path or a stream, closed at the end."""
        return nullcontext(self.path)

    def _asked_types(self) -> dict[str, pa.DataType]:
        types = self.options.get("types") or {}
        try:
            return {name: pa.type_for_alias(one) if isinstance(one, str) else one for name, one in types.items()}
        except (ValueError, AttributeError) as error:
            raise DataError(
                f"{self.path}: expected types as {{column: type}} with names such as 'float32', got {types!r:.200}."
            ) from error

    def _blocks(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows, block by block, with the types of the first block or the given ones."""
        tabs = any(ending in self.path.name.lower() for ending in (".tsv", ".tab"))
        options = self.options
        with (
            self._input() as source,
            pacsv.open_csv(
                source,
                read_options=pacsv.ReadOptions(
                    block_size=_BLOCK_NBYTES, column_names=options.get("names"), use_threads=False
                ),
                parse_options=pacsv.ParseOptions(
                    delimiter=options.get("delimiter") or ("\t" if tabs else ","), newlines_in_values=True
                ),
                convert_options=pacsv.ConvertOptions(
                    column_types=self._types,
                    include_columns=columns,
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            ) as reader,
        ):
            if columns is None:
                yield pa.RecordBatch.from_arrays([pa.array([], f.type) for f in reader.schema], schema=reader.schema)
            try:
                yield from reader
            except pa.ArrowInvalid as error:
                if "conversion error" not in str(error):
                    raise
                raise DataError(
                    f"{self.path}: {str(error).splitlines()[0].rstrip('.')}. Its first rows have another type. Give "
                    "the column's type, as in types={'column': 'float64'}."
                ) from error

    def _read(self, columns: list[str]) -> pa.Table:
        if self._whole is None:
            raise DataError(
                f"{self.path} takes more memory than its budget of {self._budget:,} bytes. Stream it, open it with a "
                "larger memory_budget, or write it as parquet."
            )
        return self._whole.select(columns)

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        if self._whole is not None:
            return self._whole.select(columns).take(pa.array(indices))
        rows, back = np.unique(indices, return_inverse=True)
        start, found = 0, []
        for batch in self._blocks(columns):
            here = rows[(rows >= start) & (rows < start + len(batch))]
            if len(here):
                found.append(pa.Table.from_batches([batch.take(pa.array(here - start))]))
            start += len(batch)
            if start > rows[-1]:
                break
        return reordered(pa.concat_tables(found), back)

    def _range(self, start: int, stop: int, columns: list[str]) -> pa.Table:
        if self._whole is not None:
            return self._whole.select(columns).slice(start, stop - start)
        return super()._range(start, stop, columns)

    @property
    def ends(self) -> np.ndarray | None:
        """All rows, because texts are read from the beginning."""
        return np.array([len(self)])

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        if self._whole is not None:
            yield from self._whole.select(columns).to_batches(max_chunksize=rows)
        else:
            yield from self._blocks(columns)


class CsvFolderTable(FolderTable):
    """A folder of CSV files."""

    part = CsvTable
    endings = CSV_ENDINGS
