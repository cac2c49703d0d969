"""Checks of the values of a column of encoded pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from pytest_loaderperf.data.checks.findings import Expected
from pytest_loaderperf.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

MEMORY_SHARE = 2  # the available memory is divided by this: a picture and its decoder's copy must fit


def picture_masks(
    name: str, column: pa.Array, expected: Expected, folder: Path
) -> Iterator[tuple[str, np.ndarray, Callable[[int], str]]]:
    """The column's name, its rows with a problem, and the problem of each: null, damaged, or not as expected.

    Every picture is decoded once. Files that a value names are in ``folder``.
    """
    wrong = {row: what for row, value in enumerate(column) if (what := _wrong(value, expected, folder))}
    rows = np.zeros(len(column), bool)
    rows[list(wrong)] = True
    yield name, rows, wrong.__getitem__


def _wrong(value: pa.Scalar, expected: Expected, folder: Path) -> str:
    from pytest_loaderperf.data.encoded.columns import encoded_bytes
    from pytest_loaderperf.data.encoded.decoder import stored

    try:
        data = encoded_bytes(value, folder)
        if data is None:
            return "is null"
        pixels = stored(data, psutil.virtual_memory().available // MEMORY_SHARE)
    except DataError as error:
        return str(error)
    if expected.shape is not None and pixels.shape != expected.shape:
        return f"has shape {pixels.shape}; expected {expected.shape}"
    if expected.dtype is not None and pixels.dtype != np.dtype(expected.dtype):
        return f"has dtype {pixels.dtype}; expected {expected.dtype}"
    return ""
