"""The samples of a folder: files, or folders that are one image each, and the labels of their class folders."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pytest_loaderperf.data.formats.diagnosis import no_file
from pytest_loaderperf.errors import DataError

LABEL_DTYPE: np.dtype[Any] = np.dtype(np.int64)


class Found(NamedTuple):
    """``samples`` of a folder, sorted by path, and ``broken`` links and folders with the problem of each."""

    samples: list[Path]
    broken: dict[Path, str]


def find(folder: Path, endings: tuple[str, ...]) -> Found:
    """The files in ``folder`` and below it, and the Zarr folders, whose names end in one of ``endings``.

    Those with hidden names are left out.

    A folder is entered once, by device and inode, even if several links lead to it: by its own path if it is in
    ``folder``, else by the first of the links in sorted order. A link to a file is a separate sample.
    """
    samples: list[Path] = []
    broken: dict[Path, str] = {}
    entered: set[tuple[int, int]] = set()
    folders, links = [folder], list[Path]()
    while folders or links:
        # Links are followed after the real folders, so that an image keeps its own class folder.
        here = folders.pop() if folders else links.pop(links.index(min(links)))
        status = here.stat()
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        try:
            entries = list(os.scandir(here))
        except OSError as error:
            broken[here] = f"cannot be read: {error.strerror}"
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            path = here / entry.name
            is_link = entry.is_symlink()
            if (is_link or not (entry.is_file() or entry.is_dir())) and (wrong := _unusable(path)):
                broken[path] = wrong
            elif entry.name.lower().endswith(endings) and (not entry.is_dir() or _is_image(entry.name)):
                samples.append(path)
            elif entry.is_dir():
                (links if is_link else folders).append(path)
    return Found(sorted(samples), broken)


def _is_image(folder: str) -> bool:
    """Whether a folder called ``folder`` is one image, not one with files of samples as Spark calls ``a.parquet``."""
    return folder.lower().endswith(".zarr")


def _unusable(path: Path) -> str:
    """What is wrong with the link, pipe or device at ``path``, or nothing."""
    try:
        return "" if path.is_dir() else (no_file(path) or "").removesuffix(".")
    except OSError as error:
        if not path.is_symlink():
            return f"cannot be read: {error.strerror}"
        return f"is a link to {path.readlink()}, which cannot be followed: {error.strerror}"


def class_folders(samples: Sequence[Path], folder: Path) -> list[str] | None:
    """The name of the class folder of each sample; None if one is in ``folder`` itself."""
    if any(sample.parent == folder for sample in samples):
        return None
    return [sample.relative_to(folder).parts[0] for sample in samples]


def refuse_empty_classes(folder: Path, names: Sequence[str]) -> None:
    """Raise DataError if ``folder`` has a folder without files beside those called ``names``, whose places are labels.

    A class without samples would change the labels of others, so that two folders of one data set differ in them.
    """
    with os.scandir(folder) as entries:
        others = [one for one in entries if one.name[0] != "." and one.name not in names and one.is_dir()]
    for other in sorted(others, key=lambda one: one.name):
        if not any(name[0] != "." for _, _, files in os.walk(other.path) for name in files):
            raise DataError(
                f"{folder}: expected files in each class folder, got none in {other.name!a}: labels are the places of "
                "the folders' names. Put some there, or remove it."
            )


def class_labels(
    names: Sequence[str], dtype: np.dtype[Any] = LABEL_DTYPE, *, numbered: bool = True
) -> tuple[list[int], dict[str, str] | None]:
    """The label of each of ``names`` of class folders, and the metadata of the field if labels are positions.

    If all names are numbers of ``dtype``, and ``numbered``, these are the labels, else the positions of sorted names.
    Raises DataError if two names are different and their label, or how they are written, is not.
    """
    classes = sorted(set(names))
    numbers = {name: int(name) for name in classes if name.removeprefix("-").isdecimal()}
    held = np.iinfo(dtype)
    if numbered and len(numbers) == len(classes) and all(held.min <= number <= held.max for number in numbers.values()):
        _check_different(numbers, "are one number")
        return [numbers[name] for name in names], None
    _check_different({name: unicodedata.normalize("NFC", name) for name in classes}, "are one text in Unicode")
    place = {name: i for i, name in enumerate(classes)}
    return [place[name] for name in names], {"classes": json.dumps(classes)}


def _check_different(meanings: dict[str, int] | dict[str, str], why: str) -> None:
    first: dict[int | str, str] = {}
    for name, meaning in meanings.items():
        other = first.setdefault(meaning, name)
        if other != name:
            raise DataError(
                f"expected one folder for each class, got {other!a} and {name!a}, which {why}. "
                "Rename one, or put their images into one folder."
            )
