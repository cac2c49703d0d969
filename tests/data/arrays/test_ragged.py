"""Samples of different shapes in one flat array."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_loaderperf.data.arrays.ragged import Ragged, alike, offsets_of

SHAPES = np.array([[2, 3], [0, 3], [1, 4]])
SAMPLES = [[[0, 1, 2], [3, 4, 5]], [], [[6, 7, 8, 9]]]


@pytest.fixture
def ragged():
    return Ragged(np.arange(10), offsets_of(SHAPES), SHAPES)


def test_each_sample_is_a_view_in_its_shape(ragged):
    assert [sample.tolist() for sample in ragged] == SAMPLES
    assert [ragged[index].tolist() for index in (-3, -2, -1)] == SAMPLES
    assert all(np.shares_memory(ragged[index], ragged.values) for index in (0, 2))
    assert (len(ragged), ragged.dtype, ragged.nbytes) == (3, ragged.values.dtype, ragged.values.nbytes)


@pytest.mark.parametrize("index", [3, -4])
def test_a_sample_that_is_not_there_is_refused(ragged, index):
    with pytest.raises(IndexError, match=f"^index {index} is out of range for 3 rows.$"):
        ragged[index]


def test_samples_are_taken_as_copies_in_any_order(ragged):
    taken = ragged.take(np.array([2, 0, 1, 2]))
    assert [sample.tolist() for sample in taken] == [SAMPLES[index] for index in (2, 0, 1, 2)]
    assert not any(np.shares_memory(sample, ragged.values) for sample in taken)
    assert ragged.take(np.array([], int)) == []


@pytest.mark.parametrize("shape", [(3, 4), ()])
def test_samples_of_one_shape_take_no_memory_for_it(shape):
    shapes = alike(5, shape)
    assert (shapes.dtype, shapes.strides[0]) == (np.int64, 0)
    assert shapes.tolist() == [list(shape)] * 5
