"""On-disk formats, one module each behind one Protocol, and functions to open and write them by name or suffix."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_loaderperf.data.objects.place import ObjectPath, is_url, on_disk
from pytest_loaderperf.errors import DataError

try:
    import pyarrow as pa
except ModuleNotFoundError as error:
    raise DataError("tables need pyarrow, which is not installed: pip install 'pytest-loaderperf[tables]'") from error

from pytest_loaderperf.data.formats.arrow_ipc import ArrowIpc
from pytest_loaderperf.data.formats.chunks import unsliced
from pytest_loaderperf.data.formats.csv import CSV_ENDINGS, Csv
from pytest_loaderperf.data.formats.duckdb import DuckDb
from pytest_loaderperf.data.formats.lance import Lance
from pytest_loaderperf.data.formats.npy import Npy
from pytest_loaderperf.data.formats.npz import Npz
from pytest_loaderperf.data.formats.ome_layouts import is_zarr
from pytest_loaderperf.data.formats.ome_zarr import OmeZarr
from pytest_loaderperf.data.formats.parquet import Parquet
from pytest_loaderperf.data.formats.picture_folder import SUFFIXES, PictureFolder
from pytest_loaderperf.data.formats.protocol import Format, Table
from pytest_loaderperf.data.formats.safetensors import Safetensors
from pytest_loaderperf.data.formats.samples import find
from pytest_loaderperf.data.formats.saved_dataset import SavedDataset, is_saved_dataset
from pytest_loaderperf.data.formats.table import said
from pytest_loaderperf.data.formats.tiff import Tiff
from pytest_loaderperf.data.formats.vortex import Vortex
from pytest_loaderperf.data.formats.webdataset import WebDataset

__all__ = [
    "FORMATS",
    "READ_ONLY",
    "Format",
    "Table",
    "format_of",
    "format_to_write",
    "missing",
    "named",
    "open_table",
    "refuse_unknown",
    "write_table",
]

FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Parquet(),
        ArrowIpc(),
        Lance(),
        DuckDb(),
        Vortex(),
        Tiff(),
        OmeZarr(),
        Safetensors(),
        Npy(),
    )
}
READ_ONLY: dict[str, Format] = {one.name: one for one in (SavedDataset(), Npz(), Csv(), WebDataset(), PictureFolder())}
_OTHER_SUFFIXES = {
    ".feather": "arrow",
    ".ipc": "arrow",
    ".arrows": "arrow",
    ".pq": "parquet",
    ".npy": "npy",
    ".npz": "npz",
    ".tif": "tiff",
    ".tiff": "tiff",
    **dict.fromkeys(CSV_ENDINGS, "csv"),
    ".tar": "webdataset",
}
_CONTENTS = {  # of a folder, by suffix
    ".npy": "npy",
    ".tif": "tiff",
    ".tiff": "tiff",
    ".zarr": "ome_zarr",
    **dict.fromkeys(SUFFIXES, PictureFolder.name),
}
_WITHOUT_COLUMNS = ("parquet", "arrow", "lance", "vortex")  # formats that store tables without columns
_SINGLE = (".npy", ".tif", ".tiff")  # files that can be opened; writing makes a folder
_TABLES = {  # the same, if there is none of the above: tables are often the metadata of images
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".tar": "webdataset",
    **dict.fromkeys(CSV_ENDINGS, "csv"),
}


def missing() -> dict[str, str]:
    """The install command of each format whose library is missing, by the format's name."""
    return {name: f"pip install {one.package}" for name, one in FORMATS.items() if not _is_installed(one.package)}


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def format_of(path: str | os.PathLike[str]) -> Format:
    """The format of the folder or file at ``path``: of a folder by its content, else by the suffix.

    Raises DataError if that cannot be told, also of a folder that holds files of several formats.
    """
    path = on_disk(path)
    names = formats_in(path) if path.is_dir() else []
    if len(names) > 1:
        raise DataError(
            f"{path} holds files of {' and '.join(names)}: expected a folder of one format. "
            f"Say which to read, as in format={names[0]!r}, or keep the others elsewhere."
        )
    name = names[0] if names else None
    name = name or suffix_format(path.name)
    if name is None:
        raise DataError(
            f"{path} is of no known format. Expected a path that ends in one of {', '.join(_suffixes())}, "
            f"or the name of a format: {', '.join(FORMATS | READ_ONLY)}."
        )
    return named(name)


def _suffixes() -> dict[str, str]:
    return {one.suffix: name for name, one in FORMATS.items()} | _OTHER_SUFFIXES


def suffix_format(name: str) -> str | None:
    """The name of the format of a file or folder called ``name``, by its suffix; None if it has none of them."""
    return next((kind for suffix, kind in _suffixes().items() if name.lower().endswith(suffix)), None)


def formats_in(folder: Path) -> list[str]:
    """The names of the formats of the files in ``folder``, sorted."""
    if (folder / "_versions").is_dir():
        return ["lance"]
    if is_zarr(folder):
        return [OmeZarr.name]
    if is_saved_dataset(folder):
        return [SavedDataset.name]
    for contents in (_CONTENTS, _TABLES):
        names = [sample.name.lower() for sample in find(folder, tuple(contents)).samples if sample.name[0] != "_"]
        if names:
            return sorted({kind for ending, kind in contents.items() if any(name.endswith(ending) for name in names)})
    return []


def open_table(
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002 the field's own word
    **options: Any,
) -> Table:
    """The table at ``path``, in the format ``format`` or else that of the path.

    ``path`` may be the URL of an object, or of a prefix with many: s3://, gs:// or https://. Only its version is asked
    for, until rows or the schema are read; a change of the object after that is an error.

    ``options``: those of the format, such as ``split``; they are part of the name of the table's cache.
    Raises DataError if the format cannot read the path, its library is not installed, or it has no such
    option.
    """
    if is_url(path):
        from pytest_loaderperf.data.formats.remote import open_object

        return open_object(str(path), format, options)
    path = Path(path)
    chosen = format_of(path) if format is None else named(format)
    refuse_unknown(path, chosen.name, options)
    return chosen.open(path, **options)


def refuse_unknown(path: Path | ObjectPath, name: str, options: Iterable[str]) -> None:
    """Raise DataError if the format called ``name`` has not all of the ``options``; it names those it has."""
    known = named(name).options
    if unknown := sorted(set(options) - set(known)):
        has = f"has the options {', '.join(known)}" if known else "has no options"
        raise DataError(f"{path}: the format {name} {has}; got {', '.join(unknown)}. Leave it out.")


def format_to_write(path: Path, name: str | None = None) -> Format:
    """The format ``name``, or that of ``path``, to write there.

    Raises DataError for one that is only read, and for the path of a single file of one that is written as a folder.
    """
    chosen = format_of(path) if name is None else named(name)
    if chosen.name in READ_ONLY:
        raise DataError(
            f"{path}: expected a format that can be written, got {chosen.name}, which is only read. Use parquet."
        )
    if path.suffix.lower() in _SINGLE and (name is None or path.is_file()):
        raise DataError(
            f"{path}: expected the path of a folder, which is how {chosen.name} is written, got that of a single file. "
            f"Give one such as {path.stem}{chosen.suffix}."
        )
    return chosen


def write_table(
    source: pa.Table | pa.RecordBatchReader,
    path: str | os.PathLike[str],
    format: str | None = None,  # noqa: A002 the field's own word
) -> None:
    """Write all rows of ``source`` to ``path``, which is complete or absent afterwards and may exist before.

    ``format``: a name; by default that of the path. A reader is consumed, with a bounded part of it in memory.

    Raises DataError if the format cannot hold the source, its library is not installed, or the disk refuses.
    """
    path = on_disk(path)
    chosen = format_to_write(path, format)
    if not isinstance(source, pa.Table | pa.RecordBatchReader):
        got = type(source).__name__
        raise DataError(
            f"expected a pyarrow Table or RecordBatchReader to write, got {got}. Make one with pyarrow.table."
        )
    names = source.schema.names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"expected columns of different names, got {', '.join(twice)} more than once. Rename it.")
    if not names and chosen.name not in _WITHOUT_COLUMNS:
        raise DataError(f"{path}: expected at least one column to write as {chosen.name}, got none. Add one.")
    reader = source.to_reader() if isinstance(source, pa.Table) else source
    raised: list[BaseException] = []
    try:
        chosen.write(pa.RecordBatchReader.from_batches(reader.schema, _noting(reader, raised)), path)
    except Exception as error:
        if not raised:
            raise
        if isinstance(raised[0], DataError) or not isinstance(raised[0], Exception):
            raise raised[0] from error
        raise DataError(
            f"{path} cannot be written: the source of its rows raised {type(raised[0]).__name__}: {said(raised[0])}. "
            "What was there before is unchanged; fix the source."
        ) from raised[0]


def _noting(batches: Iterable[pa.RecordBatch], raised: list[BaseException]) -> Iterator[pa.RecordBatch]:
    """``batches``, noting what they raise, because libraries that read them replace it by their own error."""
    try:
        yield from map(unsliced, batches)
    except GeneratorExit:
        raise
    except BaseException as error:
        raised.append(error)
        raise


def named(name: str) -> Format:
    """The format ``name``. Raises DataError that lists all names."""
    known = FORMATS | READ_ONLY
    if name not in known:
        raise DataError(f"unknown format {name!r}. Known: {', '.join(FORMATS)}; read only: {', '.join(READ_ONLY)}.")
    return known[name]
