"""Zarr groups with several OME-Zarr images: those of bioformats2raw, plates, and wells."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import count, takewhile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from pytest_loaderperf.errors import DataError

_LAYOUT = "bioformats2raw.layout"
_FILES = ("zarr.json", ".zattrs", ".zgroup")  # of a group, in Zarr 3 and 2
_ADVICE = "Write it again, or give an undamaged plate."


class ZarrImage(NamedTuple):
    """The group of an image, and the name of its ``well`` in a plate."""

    group: Path
    well: str | None = None


def is_zarr(folder: Path) -> bool:
    """Whether ``folder`` itself is a Zarr group."""
    return any((folder / name).is_file() for name in _FILES)


def is_plate(folder: Path) -> bool:
    """Whether ``folder`` is a plate of wells."""
    return "plate" in _metadata(folder)


def zarr_images(group: Path, options: Mapping[str, Any]) -> list[ZarrImage]:
    """The images in ``group`` in order: of a plate by rows and columns of its wells, then by field.

    ``options``: ``series``, one of the images of bioformats2raw; ``well``, one of a plate by its name, such as "A/1";
    ``field``, one of the fields of each well. Raises DataError if there is no such one, or what the metadata name
    is not there.
    """
    metadata = _metadata(group)
    if "plate" in metadata:
        images = list(_of_plate(group, metadata["plate"], options))
    elif "well" in metadata:
        images = [ZarrImage(field) for field in _fields(group, options)]
    elif _LAYOUT in metadata:
        images = [ZarrImage(image) for image in _series(group, options)]
    else:
        images = [ZarrImage(group)]
    unused = {"series", "well", "field"} & set(options) - _meant(metadata)
    if unused:
        raise DataError(
            f"{group}: expected {' and '.join(sorted(unused))} for a group that has such, got another. Leave it out."
        )
    return images


def _meant(metadata: Mapping[str, Any]) -> set[str]:
    if "plate" in metadata:
        return {"well", "field"}
    return {"field"} if "well" in metadata else {"series"} if _LAYOUT in metadata else set()


def _metadata(group: Path) -> dict[str, Any]:
    """The metadata of a group: the attribute ``ome`` of version 0.5, or all attributes of version 0.4."""
    for name in _FILES[:2]:
        file = group / name
        if not file.is_file():
            continue
        try:
            found = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise DataError(f"{file} cannot be read: {error}. {_ADVICE}") from error
        found = found.get("attributes", {}) if name == "zarr.json" and isinstance(found, dict) else found
        ome = found.get("ome", found) if isinstance(found, dict) else {}
        return ome if isinstance(ome, dict) else {}
    return {}


def _of_plate(group: Path, plate: Any, options: Mapping[str, Any]) -> Iterator[ZarrImage]:
    wells = {name: _place(well) for well in _entries(group, plate, "wells") for name in [well["path"]]}
    names = sorted(wells, key=lambda name: wells[name] or (len(wells), name))
    wanted = options.get("well")
    if wanted is not None and wanted not in names:
        raise DataError(
            f"{group}: expected one of its wells {', '.join(names)[:200]}, got well={wanted!r}. Name another."
        )
    for name in names if wanted is None else [wanted]:
        for field in _fields(_inside(group, name), options):
            yield ZarrImage(field, name)


def _place(well: Mapping[str, Any]) -> tuple[int, int] | None:
    row, column = well.get("rowIndex"), well.get("columnIndex")
    return (row, column) if type(row) is int and type(column) is int else None


def _fields(well: Path, options: Mapping[str, Any]) -> list[Path]:
    found = [_inside(well, image["path"]) for image in _entries(well, _metadata(well).get("well"), "images")]
    return _one(well, "field", found, options)


def _one(group: Path, what: str, found: list[Path], options: Mapping[str, Any]) -> list[Path]:
    place = options.get(what)
    if place is None:
        return found
    if type(place) is not int or not 0 <= place < len(found):
        raise DataError(
            f"{group}: expected a {what} from 0 to below {len(found)}, got {what}={place!r}. Choose another."
        )
    return [found[place]]


def _series(group: Path, options: Mapping[str, Any]) -> list[Path]:
    named = _metadata(group / "OME").get("series")
    if isinstance(named, list) and named:
        found = [_inside(group, name) for name in named]
    else:
        found = list(takewhile(is_zarr, (group / str(place) for place in count())))
    if not found:
        raise DataError(f"{group}: expected the images 0, 1, ... of bioformats2raw, got none. {_ADVICE}")
    return _one(group, "series", found, options)


def _entries(group: Path, holder: Any, key: str) -> list[dict[str, Any]]:
    """The objects with a path that ``holder`` lists. Raises DataError if there are none."""
    entries = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) and "path" in e for e in entries):
        raise DataError(f"{group}: expected metadata that list {key} by their path, got {str(entries)[:80]}. {_ADVICE}")
    return entries


def _inside(group: Path, name: Any) -> Path:
    """The group ``name`` in ``group``. Raises DataError if it is not there, or is outside of it."""
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    if not parts or ".." in parts or parts[0] == "/" or not is_zarr(group / name):
        raise DataError(f"{group}: expected the group {name!r}, which its metadata name, got nothing there. {_ADVICE}")
    return group.joinpath(*parts)
