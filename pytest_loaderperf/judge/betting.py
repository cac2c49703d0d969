"""Evidence that a mean is too large, from values between 0 and 1, such as the share of slow batches in a trial.

Against "the expectation of the next value, whatever the past, is at most m", each factor 1 + bet (value - m) with a bet
below 1/m has an expectation of at most one, and so has the average over bets of their products. By Ville's inequality
it ever exceeds 1/alpha with probability at most alpha (Waudby-Smith and Ramdas, JRSS B 86, 2024).
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
from scipy import special

_BETS = 25  # on a grid from small excesses, found slowly, to large ones, found quickly
_SMALLEST, _LARGEST = 0.003, 0.95  # shares of the largest bet that cannot lose everything
_RESOLUTION = 1 << 14  # steps of the search for a probability


def _bets(mean: float) -> np.ndarray:
    return np.geomspace(_SMALLEST, _LARGEST, _BETS) / mean


class Betting:
    """Adds values; ``log_evidence`` is the natural log of the e-value against a mean of at most ``mean``."""

    __slots__ = ("_bets", "_log_wealth", "_mean")

    def __init__(self, mean: float) -> None:
        self._mean = mean
        self._bets = _bets(mean)
        self._log_wealth = np.zeros(_BETS)

    def add(self, value: float) -> None:
        """Add one value."""
        self._log_wealth += np.log1p(self._bets * (value - self._mean))

    @property
    def log_evidence(self) -> float:
        return float(np.logaddexp.reduce(self._log_wealth) - math.log(_BETS))


def chance_revealed(trials: int, size: int, mean: float, log_needed: float, power: float) -> float | None:
    """The smallest hit probability that ``trials`` of ``size`` values reveal with probability ``power``; None: none.

    By the normal approximation to the log wealth, for hits that are independent of each other.
    """
    hits = np.arange(size + 1)
    growth = np.log1p(_bets(mean)[:, None] * (hits / size - mean))
    log_ways = -np.log1p(size) - special.betaln(size - hits + 1, hits + 1)
    spread = special.ndtri(power) * math.sqrt(trials)

    def evidence(step: int) -> float:
        chance = step / _RESOLUTION
        weights = np.exp(log_ways + special.xlogy(hits, chance) + special.xlog1py(size - hits, -chance))
        expected = growth @ weights
        deviation = np.sqrt(np.maximum(0.0, growth**2 @ weights - expected**2))
        return float(np.max(trials * expected - spread * deviation)) - math.log(_BETS)

    first = math.ceil(mean * _RESOLUTION)
    found = first + bisect_left(range(first, _RESOLUTION + 1), log_needed, key=evidence)
    return found / _RESOLUTION if found <= _RESOLUTION else None
