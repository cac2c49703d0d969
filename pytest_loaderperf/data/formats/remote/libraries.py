"""Lance and Vortex in object stores: their libraries have stores of their own."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.lance import Lance, LanceTable
from pytest_loaderperf.data.formats.library import library
from pytest_loaderperf.data.formats.remote.table import LateTable, Listing, ObjectTable
from pytest_loaderperf.data.formats.vortex import VortexTable
from pytest_loaderperf.data.objects.failures import changed, failed
from pytest_loaderperf.data.objects.place import ObjectPath, Version
from pytest_loaderperf.data.objects.store import (
    CONNECT_S,
    REQUEST_S,
    RETRIES,
    RETRYING_S,
    ObjectStore,
    check_process,
    remote,
    settings_of,
)
from pytest_loaderperf.errors import DataError

VERSIONS = "_versions"  # the folder of a Lance dataset that says which files are part of it
_OF_STORE = re.compile(
    r"Generic \w+ error|status code|Error performing|body error|LanceError\(IO\)|precondition", re.IGNORECASE
)


@contextmanager
def _explaining(path: ObjectPath) -> Iterator[None]:
    """Turn the errors of a library's store into DataError, without what may be secret in them."""
    check_process(path)
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        if _OF_STORE.search(str(error)):
            raise failed(path, error, RETRIES + 1) from None
        raise


def lance_version(store: ObjectStore, path: ObjectPath) -> Version | None:
    """What the versions of the Lance dataset at ``path`` are now, as one; None if there is none. Raises DataError."""
    return _version_of(store.listed(path / VERSIONS))


def _version_of(listing: Listing) -> Version | None:
    if not listing:
        return None
    facts = repr([(name, one.nbytes, one.etag) for name, one in listing.items()])
    return Version(0, hashlib.blake2b(facts.encode(), digest_size=16).hexdigest(), "")


class LanceObject(LateTable, LanceTable):
    """A Lance dataset, whose files never change: its version is that of its list of versions."""

    is_folder = True

    def __init__(
        self, path: ObjectPath, options: Mapping[str, Any] | None, version: Version, store: ObjectStore | None = None
    ) -> None:
        super().__init__(path, options, store)
        self._version = version

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.options, self._version)

    @property
    def stored_nbytes(self) -> int:
        return sum(one.nbytes for one in self.store.listed(self.path).values())

    def _newest(self) -> Any:
        limits = {
            "client_max_retries": str(RETRIES),
            "client_retry_timeout": str(int(RETRYING_S)),
            "connect_timeout": f"{CONNECT_S:g}s",
            "request_timeout": f"{REQUEST_S:g}s",
        }
        with _explaining(self.path):
            lance = library("lance", Lance.package)
            dataset = lance.dataset(str(self.path), storage_options=settings_of(self.path) | limits)
        if lance_version(self.store, self.path) != self._version:
            raise changed(self.path)
        return dataset

    def _read(self, columns: list[str]) -> pa.Table:
        with _explaining(self.path):
            return super()._read(columns)

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        with _explaining(self.path):
            return super()._take(indices, columns)

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        with _explaining(self.path):
            yield from super()._stream(rows, columns)


class VortexObject(ObjectTable, VortexTable):
    """A Vortex file. Its library gives no ETag with its reads, so each is followed by a look at the present one."""

    def _library_file(self) -> Any:
        self._refuse_others("vortex")
        with self._checked():
            stores = import_module("vortex.store")
            if self.path.scheme.startswith("http"):
                return self._vortex.open("", store=remote(self.path, stores))
            return self._vortex.open(self.path.key, store=remote(self.path, stores))

    @contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            with _explaining(self.path):
                yield
        finally:
            self._check_version()

    def _check_version(self) -> None:
        if self.store.version(self.path) != self.content.version:
            raise changed(self.path)

    def _read(self, columns: list[str]) -> pa.Table:
        with self._checked():
            return super()._read(columns)

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        with self._checked():
            return super()._take(indices, columns)

    def _stream(self, rows: int, columns: list[str]) -> Iterable[pa.RecordBatch]:
        with _explaining(self.path):
            for batch in super()._stream(rows, columns):
                self._check_version()
                yield batch
