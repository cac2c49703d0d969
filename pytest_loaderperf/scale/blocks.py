"""The stationary bootstrap: a series is drawn again in blocks of random length, so that slow batches in a row stay so.

The length follows from the autocorrelation, as Patton, Politis and White (2009) choose it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Places = np.ndarray[Any, np.dtype[np.int64]]
_LEAST_LAGS = 5  # in a row that must be negligible, before the autocorrelation counts as ended
_NEGLIGIBLE = 2.0  # times sqrt(log10(n) / n): noise stays below


def block_length(series: Floats) -> float:
    """The mean length of a block, 1 or more, for ``series``, in which neighbours may resemble each other.

    It is 1 for a constant series and for one without autocorrelation.
    """
    n = len(series)
    centred = series - series.mean()
    variance = float(centred @ centred) / n
    if n < 2 * _LEAST_LAGS or variance <= (1e-9 * float(np.abs(series).max())) ** 2:
        return 1.0
    in_a_row = max(_LEAST_LAGS, math.ceil(math.sqrt(math.log10(n))))
    most_lags = min(n - 1, math.ceil(math.sqrt(n)) + in_a_row)
    covariances = np.array([float(centred[: n - lag] @ centred[lag:]) / n for lag in range(most_lags + 1)])
    small = np.abs(covariances[1:]) < _NEGLIGIBLE * math.sqrt(math.log10(n) / n) * variance
    ends = np.flatnonzero(np.convolve(small, np.ones(in_a_row, int), "valid") == in_a_row)
    related = int(ends[0]) if len(ends) else most_lags  # lags that are not negligible
    if related == 0:
        return 1.0
    lags = np.arange(1, min(2 * related, most_lags) + 1)
    weights = np.minimum(1.0, 2 * (1 - lags / (lags[-1] + 1e-9)))  # a flat top, then down to 0
    slope = 2 * float(np.sum(weights * lags * covariances[lags]))
    level = float(covariances[0]) + 2 * float(np.sum(weights * covariances[lags]))
    length = float(np.cbrt(n * (slope / level) ** 2)) if level > 0 else math.inf
    return min(max(1.0, length), math.ceil(min(3 * math.sqrt(n), n / 3)))


def drawn(n: int, length: float, sets: int, rng: np.random.Generator) -> Places:
    """Places in a series of ``n`` values: ``sets`` series of ``n``, in blocks of a mean ``length``; shape (sets, n)."""
    begins = rng.random((sets, n)) < 1 / length
    begins[:, 0] = True
    now = np.arange(n)
    begun_at = np.maximum.accumulate(np.where(begins, now, 0), axis=1)
    firsts = np.take_along_axis(rng.integers(n, size=(sets, n)), begun_at, axis=1)
    return np.asarray((firsts + now - begun_at) % n)
