"""Blocks as long as batches resemble their neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_loaderperf.scale.blocks import block_length, drawn


def autoregressive(phi, n=5000):
    noise = np.random.default_rng(0).standard_normal(n)
    series = np.zeros(n)
    for i in range(1, n):
        series[i] = phi * series[i - 1] + noise[i]
    return series


def test_unrelated_batches_need_no_blocks():
    assert block_length(np.random.default_rng(0).lognormal(size=5000)) == 1.0
    assert block_length(np.full(100, 0.3)) == 1.0
    assert block_length(np.array([1.0, 2.0, 3.0])) == 1.0


@pytest.mark.parametrize("phi", [0.5, 0.9])
def test_the_length_is_the_one_of_patton_politis_and_white(phi):
    """For an autoregressive series: the cube root of n (2 phi / (1 - phi^2))^2."""
    best = np.cbrt(5000 * (2 * phi / (1 - phi**2)) ** 2)
    assert block_length(autoregressive(phi)) == pytest.approx(best, rel=0.35)


def test_the_length_has_a_limit():
    assert block_length(np.arange(1000.0)) <= 96


def test_blocks_are_in_a_row_have_the_mean_length_and_go_around():
    places = drawn(50, 10.0, 400, np.random.default_rng(0))
    assert places.shape == (400, 50)
    assert set(places.ravel()) == set(range(50))
    follows = (np.diff(places, axis=1) % 50 == 1).mean()
    assert follows == pytest.approx(0.9 + 0.1 / 50, abs=0.01)
    assert len({tuple(row) for row in places.tolist()}) == 400


def test_without_blocks_each_place_is_drawn_alone():
    places = drawn(1000, 1.0, 20, np.random.default_rng(0))
    assert (np.diff(places, axis=1) == 1).mean() < 0.01
