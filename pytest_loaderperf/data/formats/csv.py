"""Text tables: CSV and TSV, compressed or not, by Arrow's reader."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from pytest_loaderperf.data.formats.chunks import reordered
from pytest_loaderperf.data.formats.parts import FolderTable, open_folder
from pytest_loaderperf.data.formats.protocol import OnlyRead
from pytest_loaderperf.data.formats.table import CheckedTable
from pytest_loaderperf.errors import DataError

_PLAIN, _CODECS = (".csv", ".tsv"), {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
CSV_ENDINGS = tuple(plain + how for plain in _PLAIN for how in ("", *_CODECS))
BUDGET_SHARE = 4  # the available memory is divided by this: what the rows of a file may take
_BLOCK_NBYTES = 4 << 20  # of text that is parsed together
_EXACT = 1 << 53  # float64 holds all integers below
_CONVERSION = r"CSV column #(\d+).*conversion error to .*: (?:invalid value '(.*)'|invalid UTF8 data)"
_LONG_INTEGER = r"^[+-]?\d{16,}$"  # that are not below
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

    _stamp: tuple[int, ...] = ()  # of the file that was opened

    def _open(self) -> tuple[pa.Schema, int]:
        if codec_of(self.path.name) is None:
            self._refuse_others("csv")
        budget = self.options.get("memory_budget")
        if budget is not None and (type(budget) is not int or budget < 0):
            raise DataError(f"{self.path}: expected memory_budget, a number of bytes, got {budget!r}.")
        self._budget = psutil.virtual_memory().available // BUDGET_SHARE if budget is None else budget
        self._types = self._asked_types()
        self._check_options()
        self._whole: pa.Table | None = None
        schema, batches, rows, nbytes = None, list[pa.RecordBatch](), 0, 0
        rounded, last = set[str](), None
        for batch in self._blocks(self._types):
            schema = schema or batch.schema
            named = zip(batch.schema.names, batch.columns, strict=True)
            rounded |= {name for name, column in named if name not in self._types and _may_be_rounded(column)}
            rows, nbytes = rows + len(batch), nbytes + batch.nbytes
            batches = [*batches, batch] if nbytes <= self._budget else []
            last = batch.slice(len(batch) - 1) if len(batch) else last
        assert schema is not None
        if len(set(schema.names)) < len(schema.names):
            raise DataError(f"{self.path}: expected columns of different names, got {schema.names}. Pass names=[...].")
        if missing := set(self._types) - set(schema.names):
            raise DataError(f"{self.path}: expected types of its columns {schema.names}, got one of {sorted(missing)}.")
        if last is not None:
            self._refuse_open_quote(last, rows - 1)
        if rounded:
            self._refuse_rounded(sorted(rounded))
        if nbytes <= self._budget:
            self._whole = pa.Table.from_batches(batches, schema)
        return schema, rows

    def _input(self) -> AbstractContextManager[Any]:
        """What Arrow reads: a stream, closed at the end. Raises DataError if it is not of the file that was opened."""
        facts = self.path.stat()
        stamp = facts.st_ino, facts.st_size, facts.st_mtime_ns
        self._stamp = self._stamp or stamp
        if stamp != self._stamp:
            raise DataError(f"{self.path} changed after it was opened. Open it again when it no longer changes.")
        stream: AbstractContextManager[Any] = pa.input_stream(str(self.path), codec_of(self.path.name))
        return stream

    def _asked_types(self) -> dict[str, pa.DataType]:
        types = self.options.get("types") or {}
        try:
            return {name: pa.type_for_alias(one) if isinstance(one, str) else one for name, one in types.items()}
        except (ValueError, AttributeError) as error:
            raise DataError(
                f"{self.path}: expected types as {{column: type}} with names such as 'float32', got {types!r:.200}."
            ) from error

    def _check_options(self) -> None:
        names, delimiter = self.options.get("names"), self.options.get("delimiter")
        if names is not None and (not isinstance(names, list) or not all(isinstance(name, str) for name in names)):
            raise DataError(f"{self.path}: expected names, a list with the name of each column, got {names!r:.200}.")
        if delimiter is not None and (not isinstance(delimiter, str) or len(delimiter) != 1):
            raise DataError(f"{self.path}: expected delimiter, one character, got {delimiter!r:.200}.")

    def _refuse_open_quote(self, last: pa.RecordBatch, row: int) -> None:
        """Raise DataError if the ``last`` row ends in a quote that is never closed, and so has all later lines."""
        name, text = last.schema.names[-1], last.column(last.num_columns - 1)[0].as_py()
        if not isinstance(text, str) or "\n" not in text:
            return
        tail = b""
        with self._input() as stream:
            while piece := stream.read(_BLOCK_NBYTES):
                tail = (tail + piece).rstrip()[-1:]
        if tail != b'"':
            raise DataError(
                f"{self.path}, column {name!r}, row {row}: expected a closing quote, got the end of the file: all "
                "lines after the quote are in one field. Close it, or double it if it belongs to the text."
            )

    def _refuse_rounded(self, names: list[str]) -> None:
        """Raise DataError for an integer in the columns ``names`` that float64, which Arrow found for it, rounds.

        Two such could become one number.
        """
        row = 0
        for batch in self._blocks(dict.fromkeys(names, pa.string()), names):
            for name in names:
                if found := _first_rounded(batch[name]):
                    place, text = found
                    kinds = " or ".join(dict.fromkeys(map(repr, (_type_for(text), "string"))))
                    raise DataError(
                        f"{self.path}, column {name!r}, row {row + place}: expected a number that float64 holds, got "
                        f"{text}, which it would round. Give the column's type: types={{{name!r}: {kinds}}}."
                    )
            row += len(batch)

    def _blocks(self, types: Mapping[str, pa.DataType], columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows, block by block, with ``types``, and for other columns those of the first block."""
        try:
            yield from self._parsed(types, columns)
        except pa.ArrowNotImplementedError as error:
            raise DataError(f"{self.path}: {error}. Give a type for it that texts have, in types={{...}}.") from error
        except pa.ArrowInvalid as error:
            found = re.search(_CONVERSION, str(error), re.DOTALL)
            if found is None:
                raise
            names = self.options.get("names") or self._header()
            place = int(found[1])
            name = names[place] if place < len(names) else "column"
            raise DataError(
                f"{self.path}: {str(error).splitlines()[0].rstrip('.')}. "
                f"{'That is the type that was given' if name in types else 'Its first rows have another type'}. Give "
                f"the column's type, as in types={{{name!r}: {_type_for(found[2])!r}}}."
            ) from error

    def _header(self) -> list[str]:
        """The names in the first line; none if it cannot be read."""
        with suppress(pa.ArrowException, DataError):
            return list(next(self._parsed({}, None)).schema.names)
        return []

    def _parsed(self, types: Mapping[str, pa.DataType], columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        tabs = _without_codec(self.path.name).endswith((".tsv", ".tab"))
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
                    column_types=types,
                    include_columns=columns,
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=False,
                ),
            ) as reader,
        ):
            if columns is None:
                yield pa.RecordBatch.from_arrays([pa.array([], f.type) for f in reader.schema], schema=reader.schema)
            yield from reader

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
        for batch in self._blocks(self._types, columns):
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
            yield from self._blocks(self._types, columns)


def _may_be_rounded(column: pa.Array) -> bool:
    """Whether it has integers so large that float64 does not hold all of them."""
    if not pa.types.is_float64(column.type):
        return False
    numbers = column.to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        return bool((np.isfinite(numbers) & (np.abs(numbers) >= _EXACT) & (numbers % 1 == 0)).any())


def _first_rounded(texts: pa.Array) -> tuple[int, str] | None:
    """The position of the first integer in ``texts`` that float64 cannot give back, and the integer."""
    long = pc.match_substring_regex(texts, _LONG_INTEGER).fill_null(False)
    for place in np.flatnonzero(long.to_numpy(zero_copy_only=False)).tolist():
        text: str = texts[place].as_py()
        if Decimal(repr(float(text))) != Decimal(text):
            return place, text
    return None


def _type_for(text: str | None) -> str:
    """The name of the type of a column that has ``text`` among its numbers, or is one of texts; None: of bytes."""
    if text is None:
        return "binary"
    try:
        number = int(text)
    except ValueError:
        try:
            float(text)
        except ValueError:
            return "string"
        return "float64"
    return "int64" if -(1 << 63) <= number < 1 << 63 else "uint64" if 0 <= number < 1 << 64 else "string"


def codec_of(name: str) -> str | None:
    """How the file called ``name`` is compressed, as Arrow calls it."""
    return next((codec for ending, codec in _CODECS.items() if name.lower().endswith(ending)), None)


def _without_codec(name: str) -> str:
    found = next((ending for ending in _CODECS if name.lower().endswith(ending)), "")
    return name.lower().removesuffix(found)


class CsvFolderTable(FolderTable):
    """A folder of CSV files."""

    part = CsvTable
    endings = CSV_ENDINGS
