"""The indices of a caller or a sampler, as positions from 0."""

from __future__ import annotations

from typing import Any

import numpy as np

from pytest_loaderperf.errors import DataError


def is_count(value: object, least: int = 1) -> bool:
    """Whether ``value`` is an integer of at least ``least``; a bool is not one."""
    return type(value) is int and value >= least


def places(samples: int, index: Any) -> tuple[np.ndarray, bool]:
    """The rows of ``index``, as int64 from 0, and whether it is a single sample, not a batch.

    A batch is a slice, a mask with one bool for each sample, or a list, tuple, range, array or tensor of integers,
    which may be empty. Raises IndexError for an index out of range, and DataError for anything else.
    """
    if isinstance(index, slice):
        return np.arange(*index.indices(samples)), False
    if type(index) is int and not -samples <= index < samples:  # also one that is too large for an array
        raise IndexError(f"index {index} is out of range for a dataset of {samples} samples.")
    if not isinstance(index, list | tuple | range) and not getattr(index, "ndim", 0):
        return checked_indices(samples, [index]), True
    got = np.asarray(index)
    if got.dtype.kind == "b" and got.ndim == 1:
        if len(got) != samples:
            raise IndexError(f"expected a mask of {samples} bools, one a sample, got {len(got)}. Make it as long.")
        return np.flatnonzero(got), False
    if got.shape == (0,):
        return np.empty(0, np.int64), False
    return checked_indices(samples, index), False


def checked_indices(samples: int, indices: Any) -> np.ndarray:
    """A batch of indices from a sampler, as int64 from 0. Raises DataError or IndexError."""
    if (positions := positions_of(samples, indices)) is None:
        raise DataError(
            f"expected a list of integers as a batch of indices, got {indices!r}. "
            "Arrays are indexed by position; give a map-style dataset for other keys."
        )
    return positions


def positions_of(samples: int, indices: Any) -> np.ndarray | None:
    """``indices`` as int64 from 0; None if they are not a row of integers.

    Raises IndexError for one beyond the ``samples``; negative ones count from the end.
    """
    try:
        got = np.asarray(indices)
    except ValueError:  # lists of several lengths
        return None
    if got.ndim != 1 or not len(got) or got.dtype.kind not in "iu":
        return None
    least, most = int(got.min()), int(got.max())
    if least < -samples or most >= samples:
        wrong = most if most >= samples else least
        raise IndexError(f"index {wrong} is out of range for a dataset of {samples} samples.")
    got = got.astype(np.int64, copy=False)
    return np.where(got < 0, got + samples, got) if least < 0 else got
