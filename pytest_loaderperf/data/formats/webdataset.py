"""WebDataset: tars whose consecutive members with the same name up to the first dot are the parts of one sample."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.arrays.mapping import FileMapping
from pytest_loaderperf.data.formats.dense import Layout, column_of, kind_of
from pytest_loaderperf.data.formats.parts import FolderTable, open_folder
from pytest_loaderperf.data.formats.protocol import OnlyRead
from pytest_loaderperf.data.formats.table import CheckedTable, TakenTable, reading
from pytest_loaderperf.errors import DataError

KEY = "__key__"
_NUMBERS, _TEXTS = ("cls", "cls2", "index", "inx", "id"), ("txt", "text", "transcript", "json", "jsn")
_MOST_NBYTES = 64 << 20  # of a file that the process may hold before it releases its pages


class WebDataset(OnlyRead):
    """Format ``webdataset``: a tar, or a folder of tars. ``columns``: the parts to open, such as ["jpg", "cls"]."""

    name = "webdataset"
    suffix = ".tar"
    package = "pyarrow"
    options = ("columns",)

    def open(self, path: Path, **options: Any) -> CheckedTable:
        """The samples in the tar ``path``, or in all tars of the folder. Raises DataError."""
        return open_folder(TarFolderTable, path, options)


class Place(NamedTuple):
    """The position of a member's content."""

    start: int
    nbytes: int


Contents = Callable[[Place], memoryview]


class TarTable(TakenTable):
    """A mapped tar, whose headers are read once. A row is a sample, a column the members of one extension.

    ``cls`` and ``index`` are int64, ``txt`` and ``json`` texts, ``npy`` tensors of the shape of the first one, and all
    others bytes. ``__key__`` is the name that the parts of a sample share.
    """

    def _open(self) -> tuple[pa.Schema, int]:
        samples = self._index()
        kinds = list(dict.fromkeys(kind for _, parts in samples for kind in parts))
        self._columns = self._wanted([KEY, *kinds])
        self._keys = [key for key, _ in samples]
        self._places: dict[str, list[Place]] = {}
        self._firsts: dict[str, Layout] = {}  # of the columns of tensors
        for kind in self._columns:
            if kind == KEY:
                continue
            lacking = [key for key, parts in samples if kind not in parts]
            if lacking:
                raise DataError(
                    f"{self.path}: expected {kind!r} in every sample, got {len(lacking)} of {len(samples)} without, "
                    f"such as {lacking[0]!r}. Add it, or open the others: columns=[...]."
                )
            self._places[kind] = [parts[kind] for _, parts in samples]
        self._prepare()
        return pa.schema([self._field(kind) for kind in self._columns]), len(samples)

    def _prepare(self) -> None:
        """Make the contents of members readable."""
        self._map = FileMapping(self.path, _MOST_NBYTES)

    def _contents(self, places: Iterable[Place]) -> Contents:
        """The contents at ``places``, each by its place."""
        whole = memoryview(self._map.buffer)
        return lambda place: whole[place.start : place.start + place.nbytes]

    def _index(self) -> list[tuple[str, dict[str, Place]]]:
        """The samples in order: the key, and the place of each part by its extension."""
        samples: list[tuple[str, dict[str, Place]]] = []
        for name, place in self._members():
            folder, slash, file = name.rpartition("/")
            stem, _, kind = file.partition(".")
            if file.startswith(".") or not kind:
                continue
            key, kind = folder + slash + stem, kind.lower()
            if not samples or samples[-1][0] != key:
                samples.append((key, {}))
            if kind in samples[-1][1]:
                raise DataError(f"{self.path}: expected one {kind!r} in a sample, got two in {key!r}. Write it again.")
            samples[-1][1][kind] = place
        if not samples:
            raise DataError(f"{self.path} holds no samples. Expected files called key.extension.")
        return samples

    def _members(self) -> Iterator[tuple[str, Place]]:
        size = self._size()
        try:
            with self._binary() as file, tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    if member.isdir():
                        continue
                    if not member.isreg() or member.issparse():
                        raise DataError(
                            f"{self.path}: expected plain files, got {member.name!r}, a link or a sparse file. "
                            "Write it again with the files themselves."
                        )
                    if member.offset_data + member.size > size:
                        raise self._cut(f"{member.name!r} ends at byte {member.offset_data + member.size:,}")
                    yield member.name, Place(member.offset_data, member.size)
                end = tar.offset
        except tarfile.ReadError as error:
            if "compressed" in str(error) or self._is_compressed():
                raise DataError(
                    f"{self.path} is compressed, so samples cannot be read by position. Unpack it to a .tar."
                ) from error
            raise DataError(f"{self.path} is not a readable tar: {error}. Write it again.") from error
        self._check_end(end)

    def _is_compressed(self) -> bool:
        with self._binary() as file:
            return file.read(4).startswith((b"\x1f\x8b", b"BZh", b"\xfd7zX", b"(\xb5/\xfd"))

    def _check_end(self, end: int) -> None:
        """A reader stops silently at a damaged header, so check that only zeros follow the last member."""
        with self._binary() as file:
            file.seek(end)
            if not file.read(tarfile.BLOCKSIZE):
                raise self._cut("the mark of its end is missing")
            file.seek(end)
            while block := file.read(1 << 20):
                if block.strip(b"\0"):
                    raise DataError(
                        f"{self.path}: expected the end of the tar at byte {end:,}, got other bytes: a header there is "
                        "damaged, or several tars were joined. Write it again, or give the tars as files of a folder."
                    )

    def _cut(self, what: str) -> DataError:
        return DataError(
            f"{self.path} is truncated: it has {self._size():,} bytes, but {what}. Write it again, or copy all of it."
        )

    def _field(self, kind: str) -> pa.Field:
        ending = kind.rpartition(".")[2]
        if kind == KEY or ending in _TEXTS:
            return pa.field(kind, pa.string())
        if ending in _NUMBERS:
            return pa.field(kind, pa.int64())
        if ending == "npy":
            place = self._places[kind][0]
            first = self._array(kind, 0, self._contents([place])(place))
            self._firsts[kind] = Layout(first.shape, first.dtype)
            if first.dtype.kind in "biuf":
                return pa.field(kind, kind_of(Layout(first.shape, first.dtype)))
        return pa.field(kind, pa.large_binary())

    def _array(self, kind: str, row: int, content: memoryview) -> np.ndarray:
        with reading(self.path):
            try:
                file = io.BytesIO(content)
                array: np.ndarray = np.load(file, allow_pickle=False)
            except (ValueError, EOFError) as error:
                raise self._wrong(kind, row, f"an array of numbers, got other content ({error})") from error
        if isinstance(array, np.ndarray) and (more := len(content) - file.tell()):
            raise self._wrong(kind, row, f"one array of {array.dtype} and shape {array.shape}, got {more} more bytes")
        return array

    def _wrong(self, kind: str, row: int, what: str) -> DataError:
        return DataError(f"{self.path}, row {row}, {self._keys[row]}.{kind}: expected {what}. Write it again.")

    def _column(self, field: pa.Field, rows: np.ndarray, contents: Contents) -> pa.Array:
        kind = field.name
        if kind == KEY:
            return pa.array([self._keys[row] for row in rows], field.type)
        parts = [contents(self._places[kind][row]) for row in rows]
        if pa.types.is_large_binary(field.type):
            return pa.array(parts, field.type)
        if kind in self._firsts:
            return self._tensors(field, rows, parts)
        values: list[Any] = []
        for row, part in zip(rows.tolist(), parts, strict=True):
            try:
                text = bytes(part).decode()
                values.append(int(np.int64(int(text))) if pa.types.is_integer(field.type) else text)
            except (ValueError, OverflowError) as error:
                what = "an integer of 64 bits" if pa.types.is_integer(field.type) else "text in UTF-8"
                raise self._wrong(kind, row, f"{what}, got {bytes(part)[:40]!r}") from error
        return pa.array(values, field.type)

    def _tensors(self, field: pa.Field, rows: np.ndarray, parts: list[memoryview]) -> pa.Array:
        first = self._firsts[field.name]
        images = np.empty((len(rows), *first.shape), first.dtype.newbyteorder("="))
        into = images if first.shape else images[:, None]
        for image, row, part in zip(into, rows.tolist(), parts, strict=True):
            array = self._array(field.name, row, part)
            if array.shape != first.shape or array.dtype != first.dtype:
                raise self._wrong(
                    field.name,
                    row,
                    f"{first.dtype} of shape {first.shape}, as in the first sample, got {array.dtype} of shape "
                    f"{array.shape}",
                )
            image[...] = array
        return column_of(images, field.type)

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        contents = self._contents(self._places_of(indices, columns))
        table = self._rows_of(indices, columns, contents)
        self._map.note_read(table.nbytes, len(indices))
        return table

    def _places_of(self, indices: np.ndarray, columns: list[str]) -> list[Place]:
        return [self._places[kind][row] for kind in columns if kind != KEY for row in indices]

    def _rows_of(self, indices: np.ndarray, columns: list[str], contents: Contents) -> pa.Table:
        arrays = [self._column(self.schema.field(name), indices, contents) for name in columns]
        return pa.Table.from_arrays(arrays, columns)

    def _close(self) -> None:
        del self._map


class TarFolderTable(FolderTable):
    """A folder of tars."""

    part = TarTable
    endings = (".tar",)
