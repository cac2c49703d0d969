"""What a test could have caught: the minimum detectable effect (MDE)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from pytest_loaderperf.judge.evidence import hits_needed

POWER = 0.9  # the chance with which an effect of the size of the MDE is caught


def chance_needed(n: int, p0: float, alpha: float) -> float | None:
    """The chance of a hit at which ``n`` observations give evidence above ``p0`` with ``POWER``; None if none does."""
    needed = hits_needed(n, p0, -math.log(alpha))
    if needed > n:
        return None
    return float(special.betaincinv(needed, n - needed + 1, POWER))


def detectable_shift(log_ratios: Sequence[float], n: int, alpha: float) -> float | None:
    """The smallest true shift down beyond the threshold, a fraction, that ``n`` pairs as noisy as these reveal.

    0.021 means: a loader 2.1 % beyond the threshold would have been caught in 9 of 10 runs. None: nothing would.
    """
    chance = chance_needed(n, 0.5, alpha)
    if chance is None or not len(log_ratios):
        return None
    noise = np.asarray(log_ratios) - np.median(log_ratios)
    shift = np.quantile(np.abs(noise) if len(noise) == 1 else noise, chance, method="higher")
    return float(-math.expm1(-max(0.0, shift)))
