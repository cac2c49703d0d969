"""Tables in object stores, by URL: which formats, and what to do about the others."""

from __future__ import annotations

from typing import Any

from pytest_loaderperf.data.formats.remote.arrays import NpyObject, NpzObject, SafetensorsObject
from pytest_loaderperf.data.formats.remote.columnar import ArrowObject, ParquetObject
from pytest_loaderperf.data.formats.remote.libraries import LanceObject, VortexObject, lance_version
from pytest_loaderperf.data.formats.remote.streams import CsvObject, TarObject
from pytest_loaderperf.data.formats.remote.table import LateTable, Listing, ObjectFolder, ObjectTable, counted_names
from pytest_loaderperf.data.objects.failures import DISK, missing
from pytest_loaderperf.data.objects.place import ObjectPath
from pytest_loaderperf.data.objects.store import ObjectStore
from pytest_loaderperf.errors import DataError

OBJECTS: dict[str, type[ObjectTable]] = {
    "parquet": ParquetObject,
    "arrow": ArrowObject,
    "vortex": VortexObject,
    "csv": CsvObject,
    "webdataset": TarObject,
    "npy": NpyObject,
    "npz": NpzObject,
    "safetensors": SafetensorsObject,
}
FOLDERS = ("parquet", "arrow", "csv", "webdataset")  # of which several objects below a prefix are one table
NAMES = (*OBJECTS, "lance")


def open_object(url: str, name: str | None, options: dict[str, Any]) -> LateTable:
    """The table at ``url`` in the format ``name``, or else that of its suffix or of the objects below it.

    It asks the store for the version, and reads nothing else yet. Raises DataError.
    """
    from pytest_loaderperf.data.formats import named, refuse_unknown, suffix_format

    path = ObjectPath.of(url)
    name = name and named(name).name
    kind = name or suffix_format(path.name)
    if kind is not None:
        _refuse(path, kind)
    store = ObjectStore(path)
    try:
        if kind == "lance":
            refuse_unknown(path, kind, options)
            version = lance_version(store, path)
            if version is None:
                raise DataError(f"{path} holds no _versions. Expected the folder of a Lance dataset.")
            return _owning(LanceObject(path, options, version, store))
        version = None if url.endswith("/") or not path.key else store.version(path)
        if version is not None:
            if kind is None:
                raise DataError(f"{path} is of no known format. Say which: format= one of {', '.join(NAMES)}.")
            refuse_unknown(path, kind, options)
            return _owning(OBJECTS[kind](path, options, version, store))
        return _owning(_folder(path, kind if name else None, options, store))
    except BaseException:
        store.close()
        raise


def _owning(table: LateTable) -> LateTable:
    table._owns_store = True  # noqa: SLF001 it was made for this table
    return table


def _refuse(path: ObjectPath, kind: str) -> None:
    if kind not in NAMES:
        raise DataError(
            f"{path}: the format {kind} cannot be read from an object store. {DISK}; of those that can be read there, "
            f"parquet is a good choice. The others: {', '.join(NAMES[1:])}."
        )


def _folder(path: ObjectPath, kind: str | None, options: dict[str, Any], store: ObjectStore) -> ObjectFolder:
    """The objects below ``path`` as one table."""
    from pytest_loaderperf.data.formats import refuse_unknown, suffix_format

    listing = {} if path.scheme.startswith("http") else store.listed(path)
    if not listing:
        raise missing(path)
    names = {name: suffix_format(name.rpartition("/")[2]) for name in counted_names(path, listing)}
    if any(f"/{name}".rpartition("/")[0].endswith("/_versions") for name in listing) or "lance" in names.values():
        raise DataError(f"{path} is or holds a Lance dataset. Name it, with format='lance'.")
    kinds = sorted({one for one in names.values() if one}) if kind is None else [kind]
    if len(kinds) != 1:
        got = " and ".join(kinds) or "no file of a known format"
        raise DataError(
            f"{path}: expected objects of one format below it, got {got}. Name one, as in format='parquet'."
        )
    _refuse(path, kinds[0])
    if kinds[0] not in FOLDERS:
        raise DataError(
            f"{path}: objects of {kinds[0]} below a prefix are no table. Name one object, or copy them to a disk first."
        )
    refuse_unknown(path, kinds[0], options)
    parts: Listing = {name: listing[name] for name, one in names.items() if one == kinds[0]}
    if not parts:
        raise DataError(f"{path} holds no files of {kinds[0]}. Give the prefix that has them.")
    return ObjectFolder(path, options, OBJECTS[kinds[0]], parts, store)
