"""What identifies a cache: everything that can change what is read from a source."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_loaderperf.data.objects.place import ObjectPath
from pytest_loaderperf.errors import DataError

_ALWAYS = ("pytest-loaderperf", "pyarrow", "numpy")  # packages used to read every table
_DECODERS = {"zarr": ("numcodecs",), "tifffile": ("imagecodecs",)}  # packages used by others to decode
_PLAIN = (type(None), bool, int, float, str)


@dataclass
class Files:
    """The files at a path, links followed: ``facts`` to hash, and each folder by device and inode."""

    facts: list[list[Any]] = field(default_factory=list)
    folders: set[tuple[int, int]] = field(default_factory=set)


def files_at(path: Path, others: Iterable[Path] = ()) -> Files:
    """The file at ``path`` and its side files (``x.duckdb.wal``), or all files of a folder; and ``others``.

    A file's facts are its name, size, inode, and times of change in ns. A folder that several links lead to is entered
    once. Raises DataError if there is no file or folder, or a folder cannot be listed.
    """
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"{path}: expected a file or a folder, which can identify a cache. {_INSTEAD}")
    found, todo = Files(), [path.absolute(), *sorted({other.absolute() for other in others})]
    if path.is_file():
        todo += _beside(path)
    try:
        while todo:
            todo += reversed(_seen(todo.pop(), found))
    except OSError as error:
        raise DataError(f"{error.filename or path} cannot be read: {error.strerror}. {_INSTEAD}") from error
    return found


def _beside(path: Path) -> list[Path]:
    """Side files, such as write-ahead logs, of the given name and of the file that a link leads to."""
    names = {path.absolute(), path.resolve()}
    return [
        Path(entry.path)
        for name in sorted(names)
        for entry in _listed(name.parent)
        if entry.name.startswith(f"{name.name}.")
    ]


def _seen(path: Path, found: Files) -> list[Path]:
    """Note the files at ``path``; returns the paths to note next."""
    link = str(path.readlink()) if path.is_symlink() else None
    try:
        facts = path.stat()
    except OSError:  # a broken or circular link, or a file that was just removed
        found.facts.append([str(path), link, "nothing"])
        return []
    is_folder = stat.S_ISDIR(facts.st_mode)
    # The change time of the inode, because a program may reset that of the content.
    times = () if is_folder else (facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    found.facts.append([str(path), link, facts.st_ino, *times])
    key = (facts.st_dev, facts.st_ino)
    if not is_folder or key in found.folders:
        return []
    found.folders.add(key)
    return [Path(entry.path) for entry in _listed(path)]


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def refuse_inside(folder: Path, source: object, files: Files) -> None:
    """Raise DataError if ``folder`` is inside the folder ``source`` with these ``files``, also through links."""
    real = folder.resolve()
    for place in (real, *real.parents):
        try:
            facts = place.stat()
        except OSError:
            continue  # it does not exist yet
        if (facts.st_dev, facts.st_ino) in files.folders:
            raise DataError(
                f"expected a cache folder outside of the source, got {folder} inside {source}: the cache would change "
                "its own source. Give another cache_dir."
            )


def made_from(table: Any) -> Any:
    """The type and the options of ``table`` as JSON takes them: what it is pickled as.

    Raises DataError if one of them is a function, whose code could change unnoticed, or cannot be pickled.
    """
    reduced = table.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
    if isinstance(reduced, str):
        raise DataError(f"{_name(type(table))} pickles as the name {reduced!r}, without its options. {_INSTEAD}")
    return [_name(type(table)), [_told(part, table) for part in reduced[1:3]]]


def _told(value: Any, table: Any) -> Any:  # noqa: PLR0911 one a kind of value
    if isinstance(value, _PLAIN):
        return [type(value).__name__, value if isinstance(value, str | None) else repr(value)]
    if isinstance(value, type):
        return _name(value)
    if isinstance(value, ObjectPath):
        return ["object", value.identity]
    if isinstance(value, os.PathLike):
        return ["path", str(Path(value).absolute())]
    if isinstance(value, list | tuple):
        return [_told(part, table) for part in value]
    if isinstance(value, set | frozenset):
        return ["set", sorted(json.dumps(_told(part, table)) for part in value)]
    if isinstance(value, dict):
        return ["dict", sorted([_told(key, table), _told(part, table)] for key, part in value.items())]
    if callable(value):
        raise DataError(f"{_name(type(table))} is made with the function {value!r:.80}: {_UNKNOWN} {_INSTEAD}")
    try:
        return [_name(type(value)), pickle.dumps(value, pickle.HIGHEST_PROTOCOL).hex()]
    except Exception as error:
        raise DataError(f"{_name(type(table))} cannot be pickled ({error}): {_UNKNOWN} {_INSTEAD}") from error


_INSTEAD = 'Choose cache="lru" or "compressed", which keep nothing beyond this process.'
_UNKNOWN = "a cache file would not notice a change."


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def versions(table: Any, others: Iterable[str] = ()) -> dict[str, str]:
    """The version of each package that ``table`` is read with, and of ``others``: another one may read other values."""
    found = {}
    for package in sorted({*_ALWAYS, *others, *_packages(type(table))}):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = ""
    return found


def _packages(kind: type) -> Iterator[str]:
    from pytest_loaderperf.data.formats import FORMATS, READ_ONLY

    modules = {base.__module__ for base in kind.__mro__}
    yield from (module.partition(".")[0] for module in modules)
    yield from getattr(kind, "packages", ())
    for one in (FORMATS | READ_ONLY).values():
        if type(one).__module__ in modules:
            yield from (one.package, *_DECODERS.get(one.package, ()))


def digest(*facts: Any) -> hashlib.blake2b:
    """A hash of ``facts``, as JSON, that can be updated further."""
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16)
