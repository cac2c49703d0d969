"""Several tables as one: the files of a folder, in order, with the values in the names of their folders."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pytest_loaderperf.data.formats.chunks import reordered
from pytest_loaderperf.data.formats.convert import with_schema
from pytest_loaderperf.data.formats.samples import find
from pytest_loaderperf.data.formats.table import CheckedTable
from pytest_loaderperf.errors import DataError

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"  # what Hive, Spark and Arrow call the folder of nulls
_LOGS = {"_delta_log": "a Delta table", ".hoodie": "a Hudi table", "metadata/version-hint.text": "an Iceberg table"}


class Part(NamedTuple):
    """A ``table``, and the ``values`` of all its rows in additional columns."""

    table: CheckedTable
    values: Mapping[str, Any]


class PartsTable(CheckedTable):
    """The rows of tables with the same columns, one table after another. The order of columns is that of the first."""

    is_folder = True

    def _open(self) -> tuple[pa.Schema, int]:
        self._parts = self._opened()
        if not self._parts:
            raise DataError(f"{self.path} holds no files with rows. Give the folder that has them.")
        schema = self._parts[0].table.schema
        for part in self._parts[1:]:
            schema = _common(schema, self._parts[0].table, part.table)
        self._own = set(schema.names)
        for name, kind in _folder_types([part.values for part in self._parts], self.path).items():
            if name not in self._own:  # else the files have this column
                schema = schema.append(pa.field(name, kind))
        self._ends = np.cumsum([len(part.table) for part in self._parts], dtype=np.int64)
        return schema, int(self._ends[-1])

    @abstractmethod
    def _opened(self) -> list[Part]:
        """The tables, in order."""

    def _stored(self, columns: list[str]) -> list[str]:
        """Those of ``columns`` that the tables have; else any column, for the number of rows."""
        return [name for name in columns if name in self._own] or self._parts[0].table.schema.names[:1]

    def _whole(self, part: Part, rows: pa.Table, columns: list[str]) -> pa.Table:
        schema = self._chosen(columns)
        for name in self._own & set(part.values) & set(columns):
            _check_agree(rows.column(name), part, name)
        arrays = [
            rows.column(field.name)
            if field.name in self._own
            else pa.repeat(pa.scalar(_value(part.values[field.name], field.type), field.type), len(rows))
            for field in schema
        ]
        return with_schema(pa.Table.from_arrays(arrays, columns), schema)

    def _read(self, columns: list[str]) -> pa.Table:
        own = self._stored(columns)
        return pa.concat_tables([self._whole(part, part.table.read(own), columns) for part in self._parts])

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        rows, back = np.unique(indices, return_inverse=True)
        owner = np.searchsorted(self._ends, rows, side="right")
        own, found = self._stored(columns), []
        for i in np.unique(owner):
            part = self._parts[i]
            first = self._ends[i] - len(part.table)
            found.append(self._whole(part, part.table.take(rows[owner == i] - first, own), columns))
        return reordered(pa.concat_tables(found), back)

    def _range(self, start: int, stop: int, columns: list[str]) -> pa.Table:
        own, found = self._stored(columns), []
        for part, end in zip(self._parts, self._ends.tolist(), strict=True):
            first = end - len(part.table)
            low, high = max(start - first, 0), min(stop, end) - first
            if low < high:
                found.append(self._whole(part, part.table.rows(low, high, own), columns))
        return pa.concat_tables(found)

    @property
    def ends(self) -> np.ndarray | None:
        """Those of its tables, if these have any."""
        found, first = [], 0
        for part, end in zip(self._parts, self._ends.tolist(), strict=True):
            inner = part.table.ends
            if inner is None:
                return None
            found.append(first + inner)
            first = end
        return np.concatenate(found)

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        own = self._stored(columns)
        for part in self._parts:
            for batch in part.table.stream(rows, own):
                yield from self._whole(part, pa.Table.from_batches([batch]), columns).to_batches()

    def _close(self) -> None:
        for part in self._parts:
            part.table.close()


def _common(schema: pa.Schema, first: CheckedTable, other: CheckedTable) -> pa.Schema:
    """``schema`` with a type for columns of only nulls. Raises DataError if ``other`` has other columns."""
    names = set(schema.names)
    if odd := sorted(names ^ set(other.schema.names)):
        raise DataError(
            f"{other.path}: expected the columns of {first.path.name}, got {'no' if odd[0] in names else 'also'} "
            f"{odd[0]!r}. Write all files with the same columns, or move it to another folder."
        )
    for place, field in enumerate(schema):
        kind = other.schema.field(field.name).type
        if pa.types.is_null(field.type):
            schema = schema.set(place, field.with_type(kind))
        elif not kind.equals(field.type) and not pa.types.is_null(kind):
            raise DataError(
                f"{other.path}, column {field.name!r}: expected {str(field.type)[:80]}, as in {first.path.name}, got "
                f"{str(kind)[:80]}. Write all files with the same columns, or move it to another folder."
            )
    return schema


def refuse_logs(path: object, has: Callable[[str], bool]) -> None:
    """Raise DataError for the folder of a table whose log says which files count. ``has``: whether it has a name."""
    for mark, what in _LOGS.items():
        if has(mark):
            raise DataError(
                f"{path} is {what}, whose log says which of its files count. Read it with its own library, "
                "and give the Arrow table."
            )


class FolderTable(PartsTable):
    """All files of one format in a folder and its subfolders, sorted by path.

    Folders called ``name=value`` give a column ``name``. Names that begin with ``_`` or ``.`` are ignored.
    """

    part: type[CheckedTable]
    endings: tuple[str, ...]

    def _opened(self) -> list[Part]:
        refuse_logs(self.path, lambda mark: (self.path / mark).exists())
        found = find(self.path, self.endings)
        for path, wrong in found.broken.items():
            raise DataError(f"{path} {wrong}. Repair it, or take it out of the folder.")
        parts = {file: file.relative_to(self.path).parts for file in found.samples}
        files = sorted(
            (file for file in parts if not any(p.startswith("_") for p in parts[file])), key=parts.__getitem__
        )
        return [Part(self.part(file, self.options), hive(parts[file][:-1], file)) for file in files]


def hive(folders: Sequence[str], file: object) -> dict[str, str]:
    """The values in the names of ``folders``, those of ``file``, called ``name=value``.

    Raises DataError if two have one name, or what a name stands for is no text.
    """
    pairs = [folder.partition("=") for folder in folders if "=" in folder]
    try:
        values = {unquote(name, errors="strict"): unquote(value, errors="strict") for name, _, value in pairs}
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: expected folders name=value in UTF-8, got {error.object!r}. Rename it.") from error
    if len(values) < len(pairs):
        raise DataError(f"{file}: expected folders name=value of different names, got {'/'.join(folders)}. Rename one.")
    return values


def _folder_types(values: list[Mapping[str, Any]], path: Path) -> dict[str, pa.DataType]:
    """The type of each column of folder names: int64 if all values are such numbers, else text."""
    if any(set(one) != set(values[0]) for one in values):
        names = " and ".join(sorted({", ".join(one) or "none" for one in values}))
        raise DataError(
            f"{path}: expected folders called name=value of the same names for all files, got {names}. Rename them."
        )
    kinds = {}
    for name in values[0]:
        texts = {one[name] for one in values} - {_NO_VALUE}
        numbers = all(
            text.isascii() and text.removeprefix("-").isdecimal() and abs(int(text)) < 1 << 63 for text in texts
        )
        kinds[name] = pa.int64() if numbers and texts else pa.string()
    return kinds


def _value(text: str, kind: pa.DataType) -> Any:
    if text == _NO_VALUE:
        return None
    return int(text) if pa.types.is_integer(kind) else text


def _check_agree(column: pa.ChunkedArray, part: Part, name: str) -> None:
    """Raise DataError if the file has another value in the column ``name`` than the name of its folder."""
    text = part.values[name]
    try:
        value = pa.scalar(None if text == _NO_VALUE else text, pa.string()).cast(column.type)
        same = column.null_count == len(column) if not value.is_valid else pc.all(pc.equal(column, value)).as_py()
    except pa.ArrowException:
        return  # of a type without texts
    if same is False or (value.is_valid and column.null_count):
        raise DataError(
            f"{part.table.path}, column {name!r}: expected {text!r}, as its folder says, got other values. "
            "Drop the column from the files, or rename the folder."
        )


def open_folder(table: type[FolderTable], path: Path, options: Mapping[str, Any]) -> CheckedTable:
    """The file at ``path``, or all files in the folder there."""
    return (table if path.is_dir() else table.part)(path, options)
