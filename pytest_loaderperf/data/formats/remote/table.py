"""Tables in object stores: opened when they are first read, and all reads are of one version."""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, cast

from pytest_loaderperf.data.formats.diagnosis import refused_file
from pytest_loaderperf.data.formats.parts import Part, PartsTable, hive, refuse_logs
from pytest_loaderperf.data.formats.table import CheckedTable, check_names, reading
from pytest_loaderperf.data.objects.place import ObjectPath, Version
from pytest_loaderperf.data.objects.ranges import AHEAD_NBYTES, PIECE_NBYTES, Blocks, Range, StoredObject
from pytest_loaderperf.data.objects.store import CONNECTIONS, ObjectStore
from pytest_loaderperf.errors import DataError

END_NBYTES = 64 << 10  # read first: it holds most footers, so that one request is enough
_HEAD_NBYTES = 1 << 10  # that show what a file is
_FEW_ROWS = 32  # as many as are looked at to learn what a table holds
_SMALL_NBYTES = 64 << 10  # of a library's small reads, which one request answers

Listing = Mapping[str, Version]


def first_nbytes(rows: int) -> int:
    """How much to request at first for a stream of so many rows a batch: with few of them, only these may be needed."""
    return PIECE_NBYTES if rows <= _FEW_ROWS else AHEAD_NBYTES


class LateTable(CheckedTable):
    """A table that is opened when its schema or its rows are first asked for."""

    path: Any  # an ObjectPath

    def __init__(self, path: ObjectPath, options: Mapping[str, Any] | None, store: ObjectStore | None) -> None:
        self.path, self.options, self._closed = path, dict(options or {}), False
        self.store, self._owns_store = store or ObjectStore(path), store is None
        self._opening = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        """``schema`` and the number of rows, which are missing until the table is opened."""
        if name not in ("schema", "_rows"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        with self._opening:
            if name not in self.__dict__:
                self._check_open()
                with reading(self.path):
                    self.schema, self._rows = self._open()
                    check_names(self.schema)
            return self.__dict__[name]

    @property
    def stored_nbytes(self) -> int:
        """Bytes in the store."""
        raise NotImplementedError

    def close(self) -> None:
        """Release what is held. May be called twice."""
        if not self._closed:
            if "schema" in self.__dict__:
                self._close()
            self._closed = True
            if self._owns_store:
                self.store.close()


class ObjectTable(LateTable):
    """A table in one object, of which it reads only the given ``version``."""

    def __init__(
        self, path: ObjectPath, options: Mapping[str, Any] | None, version: Version, store: ObjectStore | None = None
    ) -> None:
        super().__init__(path, options, store)
        self.content = StoredObject(self.store, path, version)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.options, self.content.version)

    @property
    def stored_nbytes(self) -> int:
        return self.content.nbytes

    def _binary(self) -> BinaryIO:
        return cast("BinaryIO", io.BufferedReader(self.content.file(), _SMALL_NBYTES))

    def _size(self) -> int:
        return self.content.nbytes

    def _refuse_others(self, format_name: str) -> None:
        self._both_ends(format_name)

    def _head(self, format_name: str) -> BinaryIO:
        """The file itself, whose first bytes are here. Raises DataError if they are those of another format."""
        return cast("BinaryIO", io.BufferedReader(self.content.file(self._both_ends(format_name)), _HEAD_NBYTES))

    def _both_ends(self, format_name: str) -> Blocks:
        """The first and the last bytes. Raises DataError if they are those of another format."""
        end = self.content.nbytes
        ends = self.content.fetch([Range(0, _HEAD_NBYTES), Range(end - END_NBYTES, end)])
        with io.BufferedReader(self.content.file(ends), _HEAD_NBYTES) as file:
            if why := refused_file(cast("BinaryIO", file), end, format_name):
                raise DataError(f"{self.path} {why}")
        return ends


class ObjectFolder(LateTable, PartsTable):
    """The objects of a ``listing`` below a path, as `FolderTable` has the files of a folder."""

    def __init__(
        self,
        path: ObjectPath,
        options: Mapping[str, Any] | None,
        part: type[ObjectTable],
        listing: Listing,
        store: ObjectStore | None = None,
    ) -> None:
        super().__init__(path, options, store)
        self._part, self._listing = part, dict(listing)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.options, self._part, self._listing)

    @property
    def stored_nbytes(self) -> int:
        return sum(version.nbytes for version in self._listing.values())

    def _opened(self) -> list[Part]:
        parts = [
            Part(
                self._part(self.path / name, self.options, version, self.store),
                hive(name.split("/")[:-1], self.path / name),
            )
            for name, version in self._listing.items()
        ]
        with ThreadPoolExecutor(CONNECTIONS) as pool:  # the first access opens them
            for _ in pool.map(lambda one: one.table.schema, parts):
                pass
        return parts


def counted_names(path: ObjectPath, listing: Listing) -> list[str]:
    """The names in ``listing`` without hidden ones. Raises DataError for the folder of a table with a log."""
    refuse_logs(path, lambda mark: any(name == mark or name.startswith(f"{mark}/") for name in listing))
    return [name for name in listing if not any(part.startswith((".", "_")) for part in name.split("/"))]
