"""The interval of a quantile holds the true one as often as it says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_loaderperf.judge import CONFIDENCE, quantile, quantile_interval


def coverage(draw, true, n, q, series=300):
    intervals = [quantile_interval(draw(n), q) for _ in range(series)]
    return sum(low <= true <= high for low, high in intervals) / series


@pytest.mark.parametrize("n", [5, 30, 200, 2000])
@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_covers_the_true_quantile(n, q):
    rng = np.random.default_rng(n)
    assert coverage(lambda n: rng.exponential(size=n), -math.log1p(-q), n, q) >= CONFIDENCE


@pytest.mark.parametrize("q", [0.5, 0.9])
def test_covers_the_true_quantile_of_coarse_values(q):
    rng = np.random.default_rng(1)
    assert coverage(lambda n: rng.integers(1, 11, size=n), 10 * q, 100, q) >= CONFIDENCE


def test_covers_at_all_looks_together():
    rng = np.random.default_rng(2)
    looks = range(5, 301, 5)
    held = 0
    for _ in range(60):
        values = rng.normal(size=300)
        intervals = [quantile_interval(values[:n], 0.5) for n in looks]
        held += all(low <= 0 <= high for low, high in intervals)
    assert held / 60 >= CONFIDENCE - 0.03  # three times the error of 60 series


def test_narrows_with_more_values():
    rng = np.random.default_rng(3)
    low, high = quantile_interval(rng.normal(size=10_000), 0.5)
    assert -0.1 < low < 0 < high < 0.1


@pytest.mark.parametrize(
    "n, q, bounded",
    [
        (0, 0.5, (False, False)),
        (1, 0.5, (False, False)),
        (5, 0.5, (False, False)),
        (10, 0.5, (True, True)),
        (30, 0.99, (True, False)),
        (30, 0.01, (False, True)),
    ],
)
def test_is_unbounded_where_there_are_too_few_values(n, q, bounded):
    low, high = quantile_interval(range(1, n + 1), q)
    assert (math.isfinite(low), math.isfinite(high)) == bounded
    assert low == -math.inf or bounded[0]
    assert high == math.inf or bounded[1]


def test_a_higher_confidence_is_wider():
    values = range(100)
    low, high = quantile_interval(values, 0.5)
    lower, higher = quantile_interval(values, 0.5, confidence=0.999)
    assert lower < low < high < higher


@pytest.mark.parametrize(
    "values, q, expected",
    [([3], 0.5, 3), ([3], 0.99, 3), ([2, 1], 0.5, 1), ([3, 1, 2], 0.5, 2), (range(1, 101), 0.99, 99), ([1, 2], 0, 1)],
)
def test_a_quantile_is_the_smallest_value_with_enough_at_or_below_it(values, q, expected):
    assert quantile(values, q) == expected
