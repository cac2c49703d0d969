"""Checks whether data on disk can be used for training: the images of a folder, or the rows of a table, read once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pytest_loaderperf.data.arrays.indices import is_count
from pytest_loaderperf.data.checks.findings import MAX_ERRORS, CheckResult, Expected, Findings, Problem
from pytest_loaderperf.data.checks.isolated import CrashedError, Isolated
from pytest_loaderperf.data.checks.table import check_table
from pytest_loaderperf.data.objects.place import on_disk
from pytest_loaderperf.errors import DataError


def check(
    path: str | Path,
    *,
    max_errors: int = MAX_ERRORS,
    workers: int | None = None,
    classes: int | None = None,
    shape: tuple[int, ...] | None = None,
    dtype: str | None = None,
    progress: Callable[[str], object] = str,
    options: Mapping[str, Any] | None = None,
) -> CheckResult:
    """Read all images in the folder ``path``, or all rows of the table there, on ``workers`` threads (min(4, cores)).

    Finds unreadable data, NaN and infinity, nulls, shapes and dtypes that differ from the stated ones (for images: or
    from most of the first 25), and labels below 0 or not below ``classes`` (for images: their folders). Stops after
    ``max_errors`` problems, and keeps as many; 0 reads to the end, and keeps the first 10. The same arguments give the
    same result with any number of workers. ``progress`` is called with a text on how far it is. ``options``: those of
    `open_table`, such as ``{"split": "train"}``.

    Raises DataError if there is nothing to check, a library is not installed, or an argument does not fit.
    """
    path = on_disk(path)
    _check_arguments(max_errors, classes, shape, dtype)
    if not path.exists():
        raise DataError(f"{path} does not exist. Give the path of a folder of images or of a table.")
    findings, kind = Findings(max_errors or MAX_ERRORS), _format_name(path, images=not options)
    expected = Expected(shape, dtype, classes, workers, max_errors > 0, progress)
    if kind is None:
        from pytest_loaderperf.data.checks.images import check_images  # which needs pyarrow

        return check_images(path, findings, expected)
    from pytest_loaderperf.data.formats import missing, refuse_unknown

    if kind in missing():
        raise DataError(f"{path} is of the format {kind}, which is not installed. Run: {missing()[kind]}")
    refuse_unknown(path, kind, options or {})
    with Isolated[CheckResult](_checked_table, progress) as checked_table:
        try:
            return checked_table(_Asked(path, kind, dict(options or {})), findings, replace(expected, progress=str))
        except CrashedError as error:
            return _unreadable(path, kind, str(error), expected)


class _Asked(NamedTuple):
    """The table to check, in the format ``kind``."""

    path: Path
    kind: str
    options: dict[str, Any]


def _checked_table(
    asked: _Asked, findings: Findings, expected: Expected, told: Callable[[str], object] = str
) -> CheckResult:
    from pytest_loaderperf.data.formats import open_table

    path, kind, options = asked
    try:
        if path.is_file() and path.stat().st_size == 0:
            raise DataError("is empty (0 bytes)")
        table = open_table(path, kind, **options)
    except (DataError, OSError) as error:
        return _unreadable(path, kind, str(error).removeprefix(f"{path} "), expected)
    with closing(table):
        return check_table(table, kind, findings, replace(expected, progress=told))


def _unreadable(path: Path, kind: str, what: str, expected: Expected) -> CheckResult:
    problems = (Problem(str(path), None, None, what),)
    return CheckResult(
        str(path), kind, 0, 0, 1, problems, stopped_early=False, shape=expected.shape, dtype=expected.dtype
    )


def _format_name(path: Path, *, images: bool) -> str | None:
    """The name of the format of the table at ``path``; None for images, if ``images`` are allowed.

    Raises DataError for a file of no known format.
    """
    from pytest_loaderperf.data.checks.images import IMAGE_SUFFIXES

    if images and path.suffix.lower() in IMAGE_SUFFIXES and not path.is_dir():
        return None
    from pytest_loaderperf.data.formats import format_of

    try:
        name = format_of(path).name
    except DataError:
        if images and path.is_dir():
            return None
        raise
    # Each image is read separately, so that all damaged ones are named.
    return None if images and name in ("tiff", "ome_zarr", "pictures") else name


def _check_arguments(max_errors: int, classes: int | None, shape: tuple[int, ...] | None, dtype: str | None) -> None:
    if not is_count(max_errors, 0):
        raise DataError(f"max_errors: expected an integer of at least 0, got {max_errors!r}.")
    if classes is not None and not is_count(classes):
        raise DataError(f"classes: expected an integer of at least 1, got {classes!r}.")
    if shape is not None and not (isinstance(shape, tuple) and shape and all(map(is_count, shape))):
        raise DataError(f"shape: expected a tuple of integers of at least 1, got {shape!r}.")
    try:
        np.dtype(dtype)
    except TypeError as error:
        raise DataError(f"dtype: expected a name that NumPy knows, such as uint16, got {dtype!r}.") from error
