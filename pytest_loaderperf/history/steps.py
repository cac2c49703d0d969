"""Where the level of a series changed: a detector proposes steps, a t-test confirms them.

The detector is penalised least squares, solved exactly by optimal partitioning (Jackson et al., 2005), for all series
at once. docs/history.md compares it with others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Floats = NDArray[np.float64]
Whole = NDArray[np.int64]

LEAST_POINTS = 3  # of a level
_WINDOW = 7  # points, of the running median that outliers are compared with: up to three in a row are outliers
_OUTLIER = 3.0  # standard deviations from it; values further away count as this far
_LEAST_NOISE = 0.002  # in units of the series, which are logarithms: exact metrics have noise of at least 0.2 %
_TO_DEVIATION = 1.4826  # from the median of absolute deviations, for normal noise
_PENALTY = 2.5  # times log(n) and the noise's variance, for each proposed step
_FALSE_STEPS = 0.005  # that a series may have on average if nothing changed: 200 metrics, one in all
_MOST_CORRELATION = 0.9  # between neighbours
_DRIFT = 4.0  # standard errors from 0: less is noise
_ONE_LEVEL = 2  # edges
_COARSE = 300  # points; longer series are proposed steps at every second point, third, ..., and then refined
_RANGE = 0.95  # probability that a step is in its range
_REACH = 2  # points: a step's best place has the most probability this far around it
_NEAR = np.array([1.0, 1.0, 1.01, 1.0, 1.0])  # and of places that are as good in this way, is the likeliest


class Step(NamedTuple):
    """The level changes at point ``at``, the first of the new level; with 95 % probability in ``first`` to ``last``.

    ``size`` is the difference of the levels, with its 95 % interval; ``before`` and ``after`` are the levels.
    """

    at: int
    first: int
    last: int
    before: float
    after: float
    size: float
    low: float
    high: float


class Fit(NamedTuple):
    """The steps of a series in order, its drift per point (0: none), and what it costs to describe it this way."""

    steps: list[Step]
    drift: float
    cost: float


def find_steps(series: Sequence[Floats]) -> list[Fit]:
    """The steps of each series of finite values, such as logarithms of a metric, in the order of commits.

    Where a slope describes a series better than steps alone, the steps are those that remain without it.
    """
    cleaned = [_without_outliers(np.asarray(values, np.float64)) for values in series]
    proposed = _propose(cleaned)
    uneven = [i for i, edges in enumerate(proposed) if len(edges) > _ONE_LEVEL]
    fits = [_fit(values, edges, 0.0) for values, edges in zip(cleaned, proposed, strict=True)]
    for most in (0, 1, None):  # steps beside which a slope is searched, the largest of those found so far
        slopes = {i: slope for i in uneven if (slope := _slope(cleaned[i], fits[i].steps, most))}
        level = [cleaned[i] - slope * np.arange(len(cleaned[i])) for i, slope in slopes.items()]
        for i, values, edges in zip(slopes, level, _propose(level), strict=True):
            fits[i] = min(fits[i], _fit(values, edges, slopes[i]), key=lambda fit: fit.cost)
    return fits


def _without_outliers(values: Floats) -> Floats:
    """Values further than some deviations from the median around them, moved to there."""
    if len(values) < _WINDOW:
        return values
    half = _WINDOW // 2
    padded = np.pad(values, half, mode="symmetric")
    middle = np.median(np.lib.stride_tricks.sliding_window_view(padded, _WINDOW), axis=1)
    reach = _OUTLIER * _noise(values)
    cleaned: Floats = middle + np.clip(values - middle, -reach, reach)
    return cleaned


def _noise(values: Floats) -> float:
    """Standard deviation of the noise around levels, from differences of neighbours: few of them span a step."""
    if len(values) < LEAST_POINTS:
        return _LEAST_NOISE
    found = _TO_DEVIATION * float(np.median(np.abs(np.diff(values)))) / math.sqrt(2)
    return max(found, _LEAST_NOISE)


def _propose(series: Sequence[Floats]) -> list[list[int]]:
    """Edges of the levels of each series, 0 and its length included: the best partition for the penalty."""
    if not series:
        return []
    lengths = [len(values) for values in series]
    most = max(lengths)
    jump = 1 + most // _COARSE
    sums = np.zeros((len(series), most // jump + 1))
    for i, values in enumerate(series):
        scaled = (values - values[:1]) / _noise(values)
        total = np.concatenate([[0.0], np.cumsum(scaled)])[::jump]
        sums[i, : len(total)] = total
    penalties = np.array([_PENALTY * math.log(max(length, 2)) for length in lengths])
    least = -(-LEAST_POINTS // jump)
    begins = _partition(sums, penalties, jump, least)
    edges = []
    for i, length in enumerate(lengths):
        found, right = [length], length // jump
        while right > 0:
            right = int(begins[i, right])
            found.append(right * jump)
        edges.append(sorted(set(found)) if length else [0])
    return edges


def _partition(sums: Floats, penalties: Floats, jump: int, least: int) -> Whole:
    """For each series and each right edge, the left edge of the last level of the best partition up to there.

    The cost of a level is its squared deviations less its squares, which are the same for all partitions.
    """
    count, size = sums.shape
    rows, places = np.arange(count), np.arange(size, dtype=np.float64)
    costs = np.full((count, size), np.inf)
    costs[:, 0] = -penalties
    begins = np.zeros((count, size), np.int64)
    for right in range(least, size):
        stop = right - least + 1
        total = sums[:, right, None] - sums[:, :stop]
        total *= total
        total /= (right - places[:stop]) * jump
        np.subtract(costs[:, :stop], total, out=total)
        left = total.argmin(axis=1)
        begins[:, right] = left
        costs[:, right] = total[rows, left] + penalties
    return begins


class _Noise(NamedTuple):
    """Of the values around their levels: standard deviation, degrees of freedom, and correlation's share of variance.

    ``inflation``: by how much correlation between neighbours raises the variance of a mean.
    """

    deviation: float
    freedom: float
    inflation: float


def _fit(values: Floats, edges: list[int], drift: float) -> Fit:
    """The proposed steps that the test confirms, each at its best place. ``edges`` become those of their levels."""
    while True:
        noise = _noise_around(values, edges)
        steps: list[Step] = []
        for i in range(1, len(edges) - 1):
            steps.append(_step(values, edges[i - 1], edges[i + 1], noise))
            edges[i] = steps[-1].at
        doubts = [
            _p_value(step, left, right, noise) for step, left, right in zip(steps, edges, edges[2:], strict=False)
        ]
        if not doubts or max(doubts) * len(values) <= _FALSE_STEPS:
            break
        del edges[doubts.index(max(doubts)) + 1]
    place = _around_levels(np.arange(len(values), dtype=np.float64), edges)
    if drift and abs(drift) * float(np.linalg.norm(place)) < _DRIFT * noise.deviation * math.sqrt(noise.inflation):
        return Fit(steps, drift, math.inf)
    rest = _around_levels(values, edges)
    parameters = len(steps) + (drift != 0)
    cost = float(rest @ rest) / _noise(values) ** 2 + parameters * _PENALTY * math.log(max(len(values), 2))
    return Fit(steps, drift, cost)


def _noise_around(values: Floats, edges: list[int]) -> _Noise:
    rest = _around_levels(values, edges)
    squares = max(float(rest @ rest), len(values) * _LEAST_NOISE**2)
    correlation = float(rest[1:] @ rest[:-1]) / squares if len(values) else 0.0
    correlation = min(max(correlation, 0.0), _MOST_CORRELATION)
    inflation = (1 + correlation) / (1 - correlation)
    freedom = max(1.0, (len(values) - len(edges) + 1) / inflation)
    deviation = max(math.sqrt(squares / max(1, len(values) - len(edges) + 1)), _LEAST_NOISE)
    return _Noise(deviation, freedom, inflation)


def _step(values: Floats, left: int, right: int, noise: _Noise) -> Step:
    """The best place of the step between two edges, and how well it is known."""
    part = values[left:right] - values[left]
    count = np.arange(1, len(part))
    total = np.cumsum(part)
    gain = (total[:-1] - count / len(part) * total[-1]) ** 2 / (count * (len(part) - count) / len(part))
    gain = gain[LEAST_POINTS - 1 : len(gain) - LEAST_POINTS + 1]
    chance = np.exp((gain - gain.max()) / (2 * noise.deviation**2 * noise.inflation))
    chance /= chance.sum()
    near = np.convolve(chance, _NEAR)[_REACH : _REACH + len(chance)]
    order = np.argsort(-chance)
    inside = order[: 1 + int(np.searchsorted(np.cumsum(chance[order]), _RANGE))]
    best, first, last = (left + LEAST_POINTS + int(i) for i in (near.argmax(), inside.min(), inside.max()))
    before, after = float(values[left:best].mean()), float(values[best:right].mean())
    half = _error(best - left, right - best, noise) * float(stdtrit(noise.freedom, 0.5 + _RANGE / 2))
    return Step(best, first, last, before, after, after - before, after - before - half, after - before + half)


def _error(before: int, after: int, noise: _Noise) -> float:
    """Standard error of the difference of two levels of so many points."""
    return noise.deviation * math.sqrt(noise.inflation * (1 / before + 1 / after))


def _p_value(step: Step, left: int, right: int, noise: _Noise) -> float:
    error = _error(step.at - left, right - step.at, noise)
    return 2 * float(stdtr(noise.freedom, -abs(step.size) / error))


def _around_levels(values: Floats, edges: list[int]) -> Floats:
    """The values less the mean of their level."""
    rest: Floats = values - np.repeat([values[a:b].mean() for a, b in pairwise(edges)], np.diff(edges))
    return rest


def _slope(values: Floats, steps: Sequence[Step], most: int | None) -> float:
    """The common slope, per point, of the levels between the ``most`` largest steps; 0 if noise explains it."""
    largest = sorted(steps, key=lambda step: -abs(step.size))[:most]
    edges = [0, *sorted(step.at for step in largest), len(values)]
    place = _around_levels(np.arange(len(values), dtype=np.float64), edges)
    length = float(np.linalg.norm(place))
    slope = float(place @ values) / length**2
    return slope if abs(slope) * length > _DRIFT * _noise(values) else 0.0
