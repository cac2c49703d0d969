"""The base of all formats' tables: checks of the callers' arguments, and errors that name the file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.chunks import unsliced
from pytest_loaderperf.data.formats.convert import any_inside, with_schema
from pytest_loaderperf.data.formats.diagnosis import DAMAGED, check_file, explained, plain_text, refused_file
from pytest_loaderperf.data.formats.library import library
from pytest_loaderperf.errors import DataError

if TYPE_CHECKING:
    from ray.data import Datasource


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn any error of a library while it reads ``path`` into DataError."""
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{error.filename or path} is missing. Give a path that exists, or write it first.") from error
    except PermissionError as error:
        raise DataError(f"{error.filename or path} may not be read. Get permission to read it.") from error
    except UnicodeEncodeError as error:  # bytes of a file system or an archive that are no text
        raise DataError(f"{path}: expected names in UTF-8, got {error.object[:80]!a}. Rename it.") from error
    except BaseException as error:
        # Libraries in Rust raise their panics past Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if was_interrupted(error):
            raise KeyboardInterrupt from error
        raise DataError(explained(path, said(error))) from error


def said(error: BaseException) -> str:
    """An error's text in one line, or with its type if the text is empty or only a key."""
    if isinstance(error, KeyError) or not str(error).strip():
        return f"{type(error).__name__} {error}".strip()
    if type(error).__name__ == "PanicException":
        return "its library stopped with an error of its own"
    return plain_text(str(error))


def was_interrupted(error: BaseException) -> bool:
    """Whether a library raised ``error`` because of Ctrl-C."""
    return type(error).__name__ == "InterruptException" or "KeyboardInterrupt" in str(error)


class CheckedTable(ABC):
    """A `Table` over a library's own: subclasses are made from a path and options, and so pickle as those."""

    is_folder = False  # whether the path is one
    format_name = ""  # of a file that is recognised by its first bytes

    def __init__(self, path: Path, options: Mapping[str, Any] | None = None) -> None:
        self.path, self.options = path.absolute(), dict(options or {})  # a process may change its folder
        self._closed = False
        if not path.exists():
            raise DataError(f"{path} is missing. Give a path that exists, or write it first.")
        if path.is_dir() != self.is_folder:
            kinds = ("file", "folder") if self.is_folder else ("folder", "file")
            raise DataError(f"{path} is a {kinds[0]}; expected a {kinds[1]}. Name another format or path.")
        with reading(path):
            if not self.is_folder:
                check_file(path)
            if self.format_name:
                self._refuse_others(self.format_name)
            self.schema, self._rows = self._open()
            check_names(self.schema)

    def __len__(self) -> int:
        return self._rows

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.options) if self.options else (self.path,)

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """All rows. Raises DataError as the Protocol says."""
        self._check_open()
        schema = self._chosen(columns)
        with reading(self.path):
            rows = self._sound(self._read(schema.names))
            self._check_rows(len(rows), self._rows)
            return with_schema(rows, schema)

    def take(self, indices: np.ndarray, columns: list[str] | None = None) -> pa.Table:
        """The rows at ``indices``. Raises IndexError for one that is out of range, else as the Protocol says."""
        self._check_open()
        indices = np.asarray(indices)
        if indices.ndim != 1 or (len(indices) and indices.dtype.kind not in "iu"):
            raise DataError(
                f"{self.path}: expected indices as one row of integers, "
                f"got {indices.dtype} of shape {indices.shape}. Pass an int64 array."
            )
        wrong = indices[(indices < 0) | (indices >= self._rows)]
        if len(wrong):
            raise IndexError(f"index {wrong[0]} is out of range for {self.path}, which has {self._rows} rows.")
        schema = self._chosen(columns)
        if not len(indices):
            return pa.Table.from_batches([], schema)
        with reading(self.path):
            rows = self._take(indices.astype(np.int64, copy=False), schema.names)
            self._check_rows(len(rows), len(indices))
            return with_schema(self._sound(rows), schema)

    def rows(self, start: int, stop: int, columns: list[str] | None = None) -> pa.Table:
        """The rows from ``start`` to before ``stop``, not copied where `read` does not copy.

        Raises IndexError for rows that are out of range, else as the Protocol says.
        """
        self._check_open()
        if not 0 <= start <= stop <= self._rows:
            raise IndexError(f"rows {start} to {stop} are out of range for {self.path}, which has {self._rows} rows.")
        schema = self._chosen(columns)
        if start == stop:
            return pa.Table.from_batches([], schema)
        with reading(self.path):
            rows = self._sound(self._range(start, stop, schema.names))
            self._check_rows(len(rows), stop - start)
            return with_schema(pa.Table.from_batches(map(unsliced, rows.to_batches()), rows.schema), schema)

    def stream(self, rows: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows in batches of at most ``rows``. Raises DataError as the Protocol says."""
        self._check_open()
        if type(rows) is not int or rows < 1:
            raise DataError(f"{self.path}: expected rows as an integer of at least 1, got {rows!r}.")
        return self._streamed(rows, self._chosen(columns))

    def _streamed(self, rows: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        with reading(self.path):
            batches = iter(self._stream(rows, schema.names))
        found = 0
        while True:
            with reading(self.path):
                batch = next(batches, None)
                if batch is None:
                    self._check_rows(found, self._rows)
                    return
                found += len(batch)
                batch = with_schema(self._sound(pa.Table.from_batches([batch])), schema).to_batches()
            for part in batch:
                yield from (unsliced(part.slice(start, rows)) for start in range(0, len(part), rows))

    @property
    def ends(self) -> np.ndarray | None:
        """The row after the last one of each chunk that is read as a whole, int64; None if any row is read alone."""
        return None

    @property
    def elsewhere(self) -> Sequence[Path]:
        """Files that it reads and that are neither at its path nor below it, whether they exist or not."""
        return ()

    def to_ray(self) -> Datasource:
        """These rows for Ray Data: ``ray.data.read_datasource(table.to_ray())``, whose tasks read ranges of rows.

        Each task opens the file itself, so all nodes need it at the same path. Raises DataError for a table in memory,
        and if Ray is not installed.
        """
        self._check_open()
        library("ray.data", "'pytest-loaderperf[ray]'")
        from pytest_loaderperf.data.formats.ray_source import TableSource

        return TableSource(self)

    def close(self) -> None:
        """Release the file. May be called twice."""
        if not self._closed:
            self._closed = True
            self._close()

    def _binary(self) -> BinaryIO:
        """The file itself, open for reading."""
        return self.path.open("rb")

    def _size(self) -> int:
        return self.path.stat().st_size

    def _refuse_others(self, format_name: str) -> None:
        """Raise DataError if the file is of another format."""
        with self._binary() as file:
            if why := refused_file(file, self._size(), format_name):
                raise DataError(f"{self.path} {why}")

    def _check_open(self) -> None:
        if self._closed:
            raise DataError(f"{self.path} was closed. Open it again, or close it later.")

    def _chosen(self, columns: list[str] | None) -> pa.Schema:
        if columns is None:
            if twice := sorted({name for name in self.schema.names if self.schema.names.count(name) > 1}):
                raise DataError(
                    f"{self.path}: expected columns of different names, got {', '.join(twice)} more than once. Rename "
                    "one, or name those to read."
                )
            return self.schema
        if not isinstance(columns, list) or not columns or len(set(columns)) < len(columns):
            raise DataError(f"{self.path}: expected columns as a list of different names, got {columns!r}.")
        for name in columns:
            if self.schema.names.count(name) != 1:
                known = ", ".join(self.schema.names)
                raise DataError(f"{self.path} has no column {name!r}. It has: {known}.")
        return pa.schema([self.schema.field(name) for name in columns], self.schema.metadata)

    def _wanted(self, known: Iterable[str]) -> list[str]:
        """Those of the columns ``known`` that the option ``columns`` names, or all. Raises DataError."""
        columns, known = self.options.get("columns"), list(known)
        if columns is None:
            return known
        if not isinstance(columns, list) or not columns or not set(columns) <= set(known):
            raise DataError(
                f"{self.path}: expected columns, a list of some of {known}, got {columns!r:.200}. Name them."
            )
        return list(dict.fromkeys(columns))

    def _sound(self, rows: pa.Table) -> pa.Table:
        """``rows`` that were just read. Raises for sizes, offsets or texts whose use would crash the process."""
        rows.validate(full=True)
        return rows

    def _check_rows(self, found: int, expected: int) -> None:
        if found != expected:
            raise DataError(f"{self.path} is damaged: expected {expected:,} rows, got {found:,}. {DAMAGED}.")

    @abstractmethod
    def _open(self) -> tuple[pa.Schema, int]:
        """The schema as it was written, and the rows."""

    @abstractmethod
    def _read(self, columns: list[str]) -> pa.Table:
        """All rows of ``columns``, in their order, in storage names and types."""

    @abstractmethod
    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        """The rows at ``indices``, at least one, all in range, of ``columns`` in order, in storage names and types."""

    def _range(self, start: int, stop: int, columns: list[str]) -> pa.Table:
        """The rows from ``start`` to before ``stop``, at least one, otherwise as ``_take``."""
        return self._take(np.arange(start, stop), columns)

    @abstractmethod
    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        """All rows of ``columns`` in batches near ``rows``, in their order, in storage names and types."""

    def _close(self) -> None:  # noqa: B027 most tables hold nothing
        """Release what ``_open`` opened."""


class TakenTable(CheckedTable):
    """A table that reads only the requested rows, on request."""

    def _read(self, columns: list[str]) -> pa.Table:
        return self._take(np.arange(len(self)), columns)

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        for start in range(0, len(self), rows):
            yield from self._take(np.arange(start, min(start + rows, len(self))), columns).to_batches()


def check_names(schema: pa.Schema) -> None:
    """Raise UnicodeDecodeError if a damaged name is no text: Arrow would raise that whenever one asks for it."""
    any_inside(pa.struct(list(schema)), lambda kind: any(kind.field(i).name is None for i in range(kind.num_fields)))
