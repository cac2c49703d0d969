"""What a test could have caught: the minimum detectable effect (MDE)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from pytest_loaderperf.judge.evidence import hits_needed

POWER = 0.9  # the chance with which an effect of the size of the MDE is caught


def chance_needed(n: int, hits: int) -> float:
    """The chance of a hit at which ``n`` observations hold at least ``hits`` of them, with ``POWER``."""
    return float(special.betaincinv(hits, n - hits + 1, POWER))


def detectable_shift(log_ratios: Sequence[float], n: int, alpha: float) -> float | None:
    """The smallest true shift down beyond the threshold, in log ratio, that ``n`` pairs as noisy as these reveal.

    It would be caught in 9 of 10 runs. None: nothing would.
    """
    hits = hits_needed(n, 0.5, -math.log(alpha))
    if hits > n or not len(log_ratios):
        return None
    noise = np.asarray(log_ratios) - np.median(log_ratios)
    return max(0.0, float(np.quantile(noise, chance_needed(n, hits), method="higher")))
