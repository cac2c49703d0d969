"""Estimates and their confidence intervals, which are valid whenever measuring stops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from pytest_loaderperf.judge.evidence import hits_needed

CONFIDENCE = 0.95


def quantile_interval(values: Sequence[float], q: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The ``q``-quantile's confidence interval: all values that the evidence so far does not exclude.

    Ends are infinite if there are too few values. Nothing is assumed about the distribution.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    n = len(ordered)
    enough = math.log(2 / (1 - confidence))
    # A value is too low if too many observations are above it, and too high likewise.
    most_at_or_below = n - hits_needed(n, 1 - q, enough)
    fewest_below = hits_needed(n, q, enough)
    low = float(ordered[most_at_or_below]) if 0 <= most_at_or_below < n else -math.inf
    high = float(ordered[fewest_below - 1]) if 0 < fewest_below <= n else math.inf
    return low, high
