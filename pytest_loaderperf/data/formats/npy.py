"""A folder with one .npy file for each column, mapped into memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.dense import ArraysTable, Layout, OneOfArrays, dense_array, is_file_name, layouts_of
from pytest_loaderperf.data.formats.diagnosis import check_file
from pytest_loaderperf.data.formats.storage import SCHEMA_FILE, read_schema, write_schema
from pytest_loaderperf.data.formats.table import reading
from pytest_loaderperf.data.formats.writing import complete_or_absent
from pytest_loaderperf.errors import DataError

_MOST_NAME_NBYTES = 250  # of a file system's 255, for .npy needs four


class Npy:
    """Format ``npy``: a folder with one file for each column; a single file opens, too. ``columns``: those to open."""

    name = "npy"
    suffix = "-npy"
    package = "numpy"
    options = ("columns",)

    def write(self, batches: pa.RecordBatchReader, path: Path) -> None:
        """Write all rows to the folder ``path``, complete or absent. Raises DataError."""
        layouts = layouts_of(batches.schema, self.name)
        for name in batches.schema.names:
            if "/" in name or "\0" in name or name in ("", ".", "..") or len(name.encode()) > _MOST_NAME_NBYTES:
                raise DataError(f"column {name[:80]!r} cannot be the name of a file, as npy needs. Rename it.")
        with complete_or_absent(path) as new:
            new.mkdir()
            write_schema(batches.schema, new)
            write_arrays(batches, layouts, [new / f"{name}.npy" for name in batches.schema.names])

    def open(self, path: Path, **options: Any) -> ArraysTable:
        """The table in the folder ``path``, or the rows of the array in the file. Raises DataError."""
        return (NpyFileTable if path.is_file() else NpyTable)(path, options)


def write_arrays(batches: pa.RecordBatchReader, layouts: list[Layout], paths: Sequence[Path]) -> None:
    """Write one .npy for each column, to its path in ``paths``; they grow with the batches."""
    rows, names = 0, batches.schema.names
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in paths]
        _write_headers(files, layouts, 0)
        for batch in batches:
            rows += len(batch)
            for name, file, layout, column in zip(names, files, layouts, batch.columns, strict=True):
                file.write(dense_array(column, layout, name).data)
        # NumPy reserves space in a header for a larger number of rows, so this one is as long as the first.
        _write_headers(files, layouts, rows)


def _write_headers(files: Sequence[BinaryIO], layouts: list[Layout], rows: int) -> None:
    for file, (shape, dtype) in zip(files, layouts, strict=True):
        file.seek(0)
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (rows, *shape)}
        np.lib.format.write_array_header_1_0(file, header)


def map_array(file: Path) -> np.ndarray:
    """The array in a .npy file, mapped into memory read-only. Raises DataError naming the file.

    More bytes than the header says are also an error: otherwise rows would be missing without notice.
    """
    with reading(file):
        check_file(file)
        try:
            mapped = np.load(file, mmap_mode="r", allow_pickle=False)
        except ValueError as error:
            if "allow_pickle" not in str(error) and "Python objects" not in str(error):
                raise
            raise DataError(
                f"{file}: expected an array of numbers, got Python objects or another kind of file. "
                "Save it again with numpy.save, as numbers."
            ) from error
        if not isinstance(mapped, np.memmap):
            mapped.close()
            raise DataError(f"{file}: expected one array, got {type(mapped).__name__}. Save it with numpy.save.")
        extra = file.stat().st_size - mapped.offset - mapped.nbytes
        if extra:
            raise DataError(
                f"{file}: expected {mapped.nbytes} bytes for {mapped.dtype} of shape {mapped.shape}, got {extra} more. "
                "Write it again, or give a file of one array."
            )
        return np.asarray(mapped)


class NpyTable(ArraysTable):
    """A folder of .npy files whose first dimension is the rows."""

    is_folder = True

    def _load(self) -> tuple[Mapping[str, OneOfArrays], pa.Schema | None]:
        schema = read_schema(self.path)
        if schema is None:
            found = sorted(file for file in self.path.glob("[!.]*") if file.suffix.lower() == ".npy")
            names = [file.stem for file in found]
        else:
            names = schema.names
            found = [self.path / f"{name}.npy" for name in names]
        if wrong := [name for name in names if not is_file_name(name) or names.count(name) > 1]:
            where, advice = (
                (self.path, "Rename one") if schema is None else (self.path / SCHEMA_FILE, "Write the folder again")
            )
            raise DataError(
                f"{where}: expected columns of different names, each of a file in this folder, got {wrong[0]!r:.80}. "
                f"{advice}."
            )
        if schema is not None:
            layouts_of(schema, Npy.name)
        if not names:
            raise DataError(f"{self.path} holds no .npy files. Expected a folder with one for each column.")
        wanted = self._wanted(names)
        if schema is not None:
            schema = pa.schema([schema.field(name) for name in wanted], schema.metadata)
        files = dict(zip(names, found, strict=True))
        return {name: map_array(files[name]) for name in wanted}, schema


class NpyFileTable(ArraysTable):
    """A .npy file, whose first dimension is the rows of one column of the name of the file."""

    format_name = "npy"

    def _load(self) -> tuple[Mapping[str, OneOfArrays], pa.Schema | None]:
        return {name: map_array(self.path) for name in self._wanted([self.path.stem])}, None
