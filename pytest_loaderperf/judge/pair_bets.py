"""Bets on the ratios of pairs: the factor of each bet, and which shift of the ratios they reveal.

A pair counts as x, the log of its ratio over the needed ratio, divided by a scale from earlier pairs only. Against "the
next x is symmetric about zero, or about something below it, whatever happened before", each factor 1 + bet
tanh(steepness x) has an expectation of at most one, since tanh is odd and increasing. So has the average over bets and
steepnesses of the products of factors, and by Ville's inequality it ever exceeds 1/alpha with chance at most alpha
(Waudby-Smith and Ramdas, JRSS B 86, 2024). A full bet of steepness d is the best for Gaussian noise that is shifted by
d of its standard deviations. The steepest bets almost only count signs, which is good for frequent outliers.

The average also has bets that assume more, so that few pairs decide an obvious claim: noise alone makes a ratio wrong
by a factor of two in at most one pair of twenty, and by a factor of five in at most one of two hundred, whatever
happened before. Short trials do not satisfy this on a busy machine, where a process waits for a core as long as they
take. So a pair counts there only if one of its trials was long, and only if it is several scales away, so that known
large noise does not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from pytest_loaderperf.judge.power import chance_needed

_STEEP = 10.0  # almost only the sign counts
_WHOLE = 0.999  # a full bet would lose everything by a single pair on the wrong side
STEEPNESS, BET, SHARE = np.array(
    [
        (0.1, _WHOLE, 0.075),
        (0.2, _WHOLE, 0.075),
        (0.4, _WHOLE, 0.075),
        (0.8, _WHOLE, 0.075),
        (1.6, _WHOLE, 0.14),
        (_STEEP, _WHOLE, 0.18),
        (_STEEP, 0.6, 0.06),
        (_STEEP, 0.3, 0.06),
        (1.0, 0.5, 0.06),
    ]
).T
# By noise alone a pair is beyond the factor with probability BY_NOISE at most; the bet is on probability BEYOND.
_FACTOR, _BY_NOISE, _BEYOND, OBVIOUS_SHARE = np.array(
    [
        (2, 0.05, 0.9, 0.04),
        (2, 0.05, 0.6, 0.03),
        (5, 0.005, 0.9, 0.13),
    ]
).T
OBVIOUS_LOG = np.log(_FACTOR)
OBVIOUS_HIT = np.log(_BEYOND / _BY_NOISE)
OBVIOUS_MISS = np.log((1 - _BEYOND) / (1 - _BY_NOISE))
OBVIOUS_SECONDS = 0.5  # at least, for the longer trial of a pair: many times what a process waits for a core
OBVIOUS_SCALES = 3.0  # the least distance of an obvious pair, with any factor

_FIRST_SCALE = 0.02  # of a log ratio, while there are no pairs
_FIRST_WEIGHT = 3  # it counts as this many pairs later
_LEAST_SCALE = 1e-4  # a log ratio, by which two clocks differ
_QUARTILES = 1.349  # between those of a normal distribution, in standard deviations
_MARGIN = 0.95  # the normal quantile for which POWER agrees with the simulation, with an estimated scale
_FEW_ODDS = 200  # e-value that excludes a median on each side, for 99 % in total
_NOISE_POINTS = 64  # at which the noise is evaluated; more change little


def scale_of(log_ratios: Sequence[float] | np.ndarray) -> float:
    """The scale for the next pair, from the quartiles of these, which outliers and a shift do not change."""
    n = len(log_ratios)
    if n < 2:  # noqa: PLR2004 one pair has no spread
        return _FIRST_SCALE
    ordered = sorted(log_ratios)
    quarter = (n - 1) // 4
    spread = (ordered[n - 1 - quarter] - ordered[quarter]) / _QUARTILES
    scale = (_FIRST_WEIGHT * _FIRST_SCALE + (n - 1) * spread) / (_FIRST_WEIGHT + n - 1)
    return max(_LEAST_SCALE, float(scale))


def rescaled_after(n: int) -> int:
    """The number of pairs at which the scale is updated next, after ``n``: rarely, because that takes a sort."""
    return n + max(1, n // 4)


def obvious_interval(log_ratios: Sequence[float]) -> tuple[float, float]:
    """A 99 % interval for the median from very few pairs: a factor of about two around the ratios."""
    n = len(log_ratios)
    hits = math.ceil((math.log(_FEW_ODDS) - n * OBVIOUS_MISS[0]) / (OBVIOUS_HIT[0] - OBVIOUS_MISS[0]))
    if not n or hits > n:
        return -math.inf, math.inf
    ordered = sorted(log_ratios)
    return ordered[n - hits] - float(OBVIOUS_LOG[0]), ordered[hits - 1] + float(OBVIOUS_LOG[0])


def detectable_shift(log_ratios: Sequence[float] | np.ndarray, n: int, alpha: float, *, obvious: bool) -> float | None:
    """The smallest shift of log ratios beyond the needed one that ``n`` pairs as noisy as these reveal; None: none.

    It would be revealed in about 9 of 10 runs, by a normal approximation to the growth of each bet. Noise is assumed to
    be as large downwards as upwards, as the bets assume.
    """
    if not len(log_ratios):
        return None
    scale, off = scale_of(log_ratios), np.asarray(log_ratios, dtype=float) - np.median(log_ratios)
    centred = np.sort(np.concatenate([off, -off]))
    shifts = [_shift_by_magnitude(centred, scale, n, -math.log(alpha))]
    if obvious:
        shifts.append(_obvious_shift(centred, scale, n, -math.log(alpha)))
    return min((shift for shift in shifts if shift is not None), default=None)


def _shift_by_magnitude(noise: np.ndarray, scale: float, n: int, log_needed: float) -> float | None:
    places = (np.arange(min(len(noise), _NOISE_POINTS)) + 0.5) / min(len(noise), _NOISE_POINTS)
    points = noise[(places * len(noise)).astype(int), None]
    margin, log_share = special.ndtri(_MARGIN) * math.sqrt(n), np.log(SHARE)

    def revealed(shift: float) -> bool:
        growth = np.log1p(BET * np.tanh(STEEPNESS * ((shift - points) / scale)))
        wealth = n * growth.mean(axis=0) - margin * growth.std(axis=0) + log_share
        return float(np.logaddexp.reduce(wealth)) >= log_needed

    low, high = 0.0, float(noise[-1]) + 100 * scale  # here every bet wins
    if not revealed(high):
        return None
    while high - low > scale / 100 + high / 1000:
        middle = (low + high) / 2
        low, high = (low, middle) if revealed(middle) else (middle, high)
    return high


def _obvious_shift(noise: np.ndarray, scale: float, n: int, log_needed: float) -> float | None:
    still_needed = log_needed - np.log(OBVIOUS_SHARE) - n * OBVIOUS_MISS
    hits = np.maximum(1, np.ceil(still_needed / (OBVIOUS_HIT - OBVIOUS_MISS))).astype(int)
    beyond = np.maximum(OBVIOUS_LOG, OBVIOUS_SCALES * scale)
    return min(
        (
            float(far + np.quantile(noise, chance_needed(n, int(least)), method="higher"))
            for far, least in zip(beyond, hits, strict=True)
            if least <= n
        ),
        default=None,
    )
