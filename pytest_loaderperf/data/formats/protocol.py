"""The interface of every on-disk format: write a stream of Arrow record batches, and open it as a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from pytest_loaderperf.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class Table(Protocol):
    """Rows on disk. ``schema`` is the one that was written, extension types and metadata of fields included.

    ``columns`` are those that are read, in that order; None: all. Every method raises DataError, naming the file and
    where known the row and the column, for what cannot be read.
    """

    path: Path
    schema: pa.Schema

    def __len__(self) -> int:
        """Rows."""
        ...

    def read(self, columns: list[str] | None = None) -> pa.Table:
        """All rows."""
        ...

    def take(self, indices: np.ndarray, columns: list[str] | None = None) -> pa.Table:
        """The rows at int64 ``indices``, each from 0 to below the length, in that order, also repeated ones."""
        ...

    def stream(self, rows: int, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """All rows in order, in batches of at most ``rows``, with a bounded part of the file in memory."""
        ...

    def close(self) -> None:
        """Release files and handles. May be called twice."""
        ...


class Format(Protocol):
    """One way to store a table on disk.

    ``name`` is what users type, ``suffix`` the end of its paths, ``package`` the argument of `pip install`.
    ``options``: the names of `open`'s arguments besides the path.
    """

    name: str
    suffix: str
    package: str

    @property
    def options(self) -> tuple[str, ...]: ...

    def write(self, batches: pa.RecordBatchReader, path: Path) -> None:
        """Write all rows to ``path``, which is complete or absent afterwards. Holds a bounded part in memory.

        Raises DataError if this format cannot hold the schema, or the disk cannot hold the file.
        """
        ...

    def open(self, path: Path, **options: Any) -> Table:
        """The table at ``path``. Raises DataError if this format cannot read it."""
        ...


class OnlyRead:
    """A format that can only be read here."""

    name: str

    def write(self, batches: pa.RecordBatchReader, path: Path) -> NoReturn:
        """Raise DataError that says what to write instead."""
        raise DataError(
            f"{path}: expected a format that can be written, got {self.name}, which is only read. Use parquet."
        )
