"""The columns of a table of encoded pictures, by row: in memory if they fit, else read from disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pytest_loaderperf.data.arrays.ragged import Ragged
from pytest_loaderperf.data.arrow.columns import array_of
from pytest_loaderperf.data.encoded.columns import InMemory, encoded_bytes
from pytest_loaderperf.data.formats.picture_folder import PictureFiles
from pytest_loaderperf.data.stores.preload import budget_of
from pytest_loaderperf.errors import DataError


@dataclass(frozen=True, slots=True)
class Held:
    """``values``: for each column, a function from a row to its value. ``alone``: they need no library's open file."""

    values: dict[str, Callable[[int], Any]]
    alone: bool


def held(table: Any, path: Path, names: Sequence[str], pictures: Sequence[str]) -> Held:
    """The columns ``names`` of ``table`` at ``path``: bytes of ``pictures``, tensors of other numbers.

    Files of a folder are read on request. Other tables are read completely if they fit into half of the available
    memory, else row by row. Raises DataError if they cannot be read.
    """
    others = [name for name in names if name not in pictures]
    if isinstance(table, PictureFiles):
        labels = {name: _Plain(table.take(np.arange(len(table)), [name]), name) for name in others}
        return Held({**dict.fromkeys(pictures, table.data), **labels}, alone=True)
    values: dict[str, Callable[[int], Any]]
    if not isinstance(table, InMemory) and _nbytes_of(table, path) > budget_of(None):
        values = {name: _Taken(table, name, path.parent, encoded=name in pictures) for name in names}
        return Held(values, alone=False)
    read = table.read(list(names))
    values = {name: _Plain(read, name) for name in others}
    values |= {name: _Encoded(read.column(name), path.parent) for name in pictures}
    return Held(values, alone=True)


def _nbytes_of(table: Any, path: Path) -> int:
    if hasattr(table, "stored_nbytes"):  # in an object store
        return int(table.stored_nbytes)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


@dataclass(frozen=True, slots=True)
class _Encoded:
    """The bytes of a column in memory."""

    column: pa.ChunkedArray
    folder: Path

    def __call__(self, row: int) -> bytes | None:
        return encoded_bytes(self.column[row], self.folder)


class _Plain:
    """The values of another column in memory: tensors for numbers, else Python objects."""

    def __init__(self, table: pa.Table, name: str) -> None:
        self._rows: np.ndarray | Ragged | None = None
        self._column = table.column(name)
        with suppress(DataError):  # texts, for one
            self._rows = array_of(table, name)

    def __call__(self, row: int) -> Any:
        if self._rows is None:
            return self._column[row].as_py()
        return torch.from_numpy(np.array(self._rows[row]))


@dataclass(frozen=True, slots=True)
class _Taken:
    """The values of a column that stays on disk."""

    table: Any
    name: str
    folder: Path
    encoded: bool

    def __call__(self, row: int) -> Any:
        taken = self.table.take(np.array([row]), [self.name])
        return encoded_bytes(taken.column(0)[0], self.folder) if self.encoded else _Plain(taken, self.name)(0)
