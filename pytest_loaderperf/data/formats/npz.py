"""NumPy's archives: several arrays in one .npz file, each read on request."""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.dense import ArraysTable, OneOfArrays
from pytest_loaderperf.data.formats.protocol import OnlyRead
from pytest_loaderperf.data.formats.table import reading
from pytest_loaderperf.errors import DataError

_ENDING = ".npy"  # of the members that are arrays
_ZIP = b"PK\x03\x04"


class Npz(OnlyRead):
    """Format ``npz``: what ``numpy.savez`` and ``savez_compressed`` write. ``columns``: the arrays to open."""

    name = "npz"
    suffix = ".npz"
    package = "numpy"
    options = ("columns",)

    def open(self, path: Path, **options: Any) -> NpzTable:
        """The arrays in the file ``path``, whose first dimension is the rows. Raises DataError."""
        return NpzTable(path, options)


class NpzTable(ArraysTable):
    """A .npz file. The first row that is read loads the complete array, with its checksum."""

    format_name = "npz"

    def _load(self) -> tuple[Mapping[str, OneOfArrays], pa.Schema | None]:
        with self._binary() as file, zipfile.ZipFile(file) as archive:
            members = [name for name in archive.namelist() if name.endswith(_ENDING)]
            names = [name.removesuffix(_ENDING) for name in members]
            if len(set(names)) < len(names):
                raise DataError(f"{self.path}: expected arrays of different names, got {names}. Save it again.")
            if not names:
                raise DataError(
                    f"{self.path} holds no arrays. Expected one for each column, as numpy.savez writes them."
                )
            return {name: _Member(self.path, self._binary, archive, name) for name in self._wanted(names)}, None

    @property
    def ends(self) -> np.ndarray | None:
        """All rows, because any of them loads the complete arrays."""
        return np.array([len(self)])


class _Member:
    """An array in an archive: its shape and dtype, and its items on request."""

    def __init__(self, path: Path, binary: Callable[[], BinaryIO], archive: zipfile.ZipFile, name: str) -> None:
        self._path, self._binary, self._name, self._lock = path, binary, name, threading.Lock()
        self._array: np.ndarray | None = None
        with archive.open(name + _ENDING) as file:
            try:
                self.shape, self._fortran, self.dtype = _header(file)
            except (ValueError, zipfile.BadZipFile) as error:
                raise DataError(
                    f"{path}, column {name!r} is not an array that NumPy can read: {error}. "
                    "Save it again with numpy.savez, or open the others: columns=[...]."
                ) from error
            self._start = file.tell()
        nbytes = archive.getinfo(name + _ENDING).file_size - self._start
        expected = prod(self.shape) * self.dtype.itemsize
        if not self.dtype.hasobject and nbytes != expected:
            raise DataError(
                f"{path}, column {name!r}: expected {expected} bytes for {self.dtype} of shape {self.shape}, "
                f"got {nbytes}. Save it again with numpy.savez."
            )

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> np.ndarray:
        with self._lock, reading(self._path):
            if self._array is None:
                with self._binary() as file, zipfile.ZipFile(file) as archive:
                    content = archive.read(self._name + _ENDING)  # all of it: the checksum is checked at the end
                if _header(io.BytesIO(content)) != (self.shape, self._fortran, self.dtype):
                    raise DataError(
                        f"{self._path}: expected the arrays of when it was opened, got others. Open it again."
                    )
                items = np.frombuffer(io.BytesIO(content).getbuffer(), self.dtype, offset=self._start)
                self._array = items.reshape(self.shape, order="F" if self._fortran else "C")
        found: np.ndarray = self._array[rows]
        return found


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """The shape, whether it is in Fortran order, and the dtype of the array in ``file``. Raises ValueError."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0}.get(version, np.lib.format.read_array_header_2_0)
    header: tuple[tuple[int, ...], bool, np.dtype[Any]] = read(file)
    return header
