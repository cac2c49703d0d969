"""Steps are found where they are, and nowhere else. suites/history has the rates over many series."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import ruptures
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_loaderperf.history import steps
from pytest_loaderperf.history.steps import find_steps


def noisy(seed, *levels, deviation=0.03):
    """Levels of ``(points, height)`` with normal noise."""
    rng = np.random.default_rng(seed)
    return np.concatenate([height + deviation * rng.standard_normal(points) for points, height in levels])


def test_a_step_is_found_with_its_size_and_range():
    (fit,) = find_steps([noisy(1, (60, 0.0), (40, 0.1))])
    (step,) = fit.steps
    assert step.first <= 60 <= step.last
    assert abs(step.at - 60) <= 2
    assert step.low < 0.1 < step.high
    assert step.high - step.low < 0.05
    assert fit.drift == 0


def test_steps_up_and_down_are_both_found():
    (fit,) = find_steps([noisy(2, (50, 0.0), (50, 0.2), (50, 0.0))])
    assert [(step.at, step.size > 0) for step in fit.steps] == [(50, True), (100, False)]


def test_many_series_of_different_lengths_give_what_each_gives_alone():
    series = [noisy(i, (20 + 9 * i, 0.0), (30, 0.15 * (i % 2))) for i in range(12)]
    together = find_steps(series)
    assert together == [find_steps([values])[0] for values in series]
    assert [len(fit.steps) for fit in together] == [i % 2 for i in range(12)]


def test_five_of_a_hundred_series_with_a_step_of_five_percent_are_missed_at_most():
    found = find_steps([noisy(i, (100, 0.0), (20, np.log(1.05))) for i in range(200)])
    hits = sum(any(step.first - 2 <= 100 <= step.last + 2 for step in fit.steps) for fit in found)
    assert hits >= 190


def test_noise_alone_gives_no_steps():
    found = find_steps([noisy(i, (1000, 0.0)) for i in range(50)])
    assert sum(len(fit.steps) for fit in found) <= 1


def test_single_outliers_are_no_steps():
    values = noisy(3, (200, 0.0))
    values[[30, 31, 90, 150]] += [0.5, 0.4, -0.6, 2.0]
    assert find_steps([values])[0].steps == []


def test_a_drift_is_a_drift_and_a_step_on_it_is_found():
    slope = np.linspace(0, 0.3, 400)
    drifting, both = find_steps([noisy(4, (400, 0.0)) + slope, noisy(5, (200, 0.0), (200, 0.12)) + slope])
    assert drifting.steps == []
    assert drifting.drift == pytest.approx(0.3 / 400, rel=0.1)
    assert len(both.steps) == 1
    assert abs(both.steps[0].at - 200) <= 2


def test_correlated_noise_is_no_step():
    rng, values = np.random.default_rng(6), np.zeros(500)
    for i in range(1, 500):
        values[i] = 0.6 * values[i - 1] + 0.03 * rng.standard_normal()
    assert find_steps([values])[0].steps == []


@pytest.mark.parametrize("points", [0, 1, 2, 5])
def test_few_points_have_no_steps(points):
    (fit,) = find_steps([np.arange(float(points))])
    assert fit.steps == []


def test_an_exact_metric_steps_where_it_changes():
    (fit,) = find_steps([np.repeat([0.0, 0.02, 0.02], 10)])
    assert [(step.at, step.first, step.last) for step in fit.steps] == [(10, 10, 10)]
    assert find_steps([np.repeat([0.0, 0.0005], 10)])[0].steps == []


def cost(values, edges):
    return sum(((values[a:b] - values[a:b].mean()) ** 2).sum() for a, b in pairwise(edges))


def least_cost(values, penalty):
    """By trying every last level of every part, in plain Python."""
    best = {0: penalty}
    for b in range(steps.LEAST_POINTS, len(values) + 1):
        starts = [a for a in best if a <= b - steps.LEAST_POINTS]
        best[b] = min(best[a] + cost(values, [a, b]) + penalty for a in starts)
    return best[len(values)]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(8, 60))
def test_the_proposed_partition_is_the_best_and_no_worse_than_that_of_ruptures(seed, points):
    """Ruptures prunes, which is not exact with a least length of levels."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(points).cumsum() * (rng.random(points) < 0.2) + rng.standard_normal(points)
    edges = steps._propose([values])[0]
    penalty = steps._PENALTY * np.log(points) * steps._noise(values) ** 2
    theirs = [0, *ruptures.KernelCPD("linear", min_size=steps.LEAST_POINTS).fit(values).predict(pen=penalty)]
    ours = cost(values, edges) + penalty * len(edges)
    assert ours == pytest.approx(least_cost(values, penalty), rel=1e-9)
    assert ours <= cost(values, theirs) + penalty * len(theirs) + 1e-9


def test_long_series_are_proposed_steps_at_every_few_points():
    values = noisy(7, (411, 0.0), (589, 0.2))
    (edges,) = steps._propose([values])
    assert len(edges) == 3
    assert abs(edges[1] - 411) <= 4
    assert find_steps([values])[0].steps[0].at == 411
