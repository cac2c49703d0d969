from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_loaderperf.data.workloads.draws import Draws

MANY = 20_000
DRAWN = {
    "uint8": lambda draws, start, stop: draws.whole(np.dtype("uint8"), start, stop),
    "uint16": lambda draws, start, stop: draws.whole(np.dtype("uint16"), start, stop),
    "int64": lambda draws, start, stop: draws.whole(np.dtype("int64"), start, stop),
    "bool": lambda draws, start, stop: draws.whole(np.dtype("bool"), start, stop),
    "fractions": lambda draws, start, stop: draws.fractions(start, stop),
    "below": lambda draws, start, stop: draws.below(7, start, stop),
    "weighted": lambda draws, start, stop: draws.weighted([3, 1], start, stop),
}


@pytest.mark.parametrize("kind", DRAWN)
@given(cuts=st.lists(st.integers(0, 100), max_size=5))
@settings(max_examples=20, deadline=None)
def test_any_part_of_the_row_is_the_same_drawn_alone(kind, cuts):
    draw, draws = DRAWN[kind], Draws(5, 1)
    places = [0, *sorted(cuts), 100]
    parts = [draw(draws, start, stop) for start, stop in itertools.pairwise(places)]
    assert np.array_equal(np.concatenate(parts), draw(draws, 0, 100))


def test_seed_and_key_determine_the_draws():
    rows = [Draws(*key).fractions(0, 8).tolist() for key in [(1,), (1,), (2,), (1, 1)]]
    assert rows[0] == rows[1]
    assert len({tuple(row) for row in rows}) == 3


def test_fractions_are_those_of_numpys_own_generator():
    generator = np.random.Generator(np.random.PCG64(11))
    assert np.array_equal(Draws(11).fractions(0, 1000), generator.random(1000, dtype=np.float32))


def test_whole_numbers_fill_the_range_of_their_dtype():
    drawn = Draws(0).whole(np.dtype("int16"), 0, MANY)
    assert drawn.dtype == np.int16
    assert drawn.min() < -32_000
    assert drawn.max() > 32_000
    assert 0.45 < Draws(0).whole(np.dtype(bool), 0, MANY).mean() < 0.55


def test_draws_below_an_end_take_every_value_alike():
    counts = np.bincount(Draws(3).below(4, 0, MANY))
    assert len(counts) == 4
    assert counts.min() > 0.23 * MANY


def test_ends_may_differ_from_draw_to_draw():
    assert Draws(3).below(np.array([1, 1, 1]), 0, 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("weights", [[90, 9, 1], [0.9, 0.09, 0.01]])
def test_weighted_draws_come_as_often_as_their_weights_say(weights):
    shares = np.bincount(Draws(0).weighted(weights, 0, MANY), minlength=3) / MANY
    assert np.abs(shares - [0.9, 0.09, 0.01]).max() < 0.01


@pytest.mark.parametrize("samples", [0, 1, 100])
def test_an_order_is_a_permutation(samples):
    assert sorted(Draws(4).order(samples).tolist()) == list(range(samples))
