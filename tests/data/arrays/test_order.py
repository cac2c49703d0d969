from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler

from pytest_loaderperf.data.arrays.order import epoch_order

SIZES = st.integers(0, 200)
SEEDS = st.integers(0, 2**32)
EPOCHS = st.integers(0, 100)


@given(samples=SIZES, seed=SEEDS, epoch=EPOCHS)
def test_a_shuffled_epoch_is_a_permutation_that_seed_and_epoch_determine(samples, seed, epoch):
    first = epoch_order(samples, shuffle=True, seed=seed, epoch=epoch)
    torch.rand(1)
    again = epoch_order(samples, shuffle=True, seed=seed, epoch=epoch)
    assert first.dtype == np.int64
    assert np.array_equal(first, again)
    assert sorted(first) == list(range(samples))


@given(samples=st.integers(1, 200), seed=SEEDS, epoch=EPOCHS)
def test_the_permutation_is_that_of_torchs_distributed_sampler(samples, seed, epoch):
    sampler = DistributedSampler(range(samples), num_replicas=1, rank=0, shuffle=True, seed=seed)
    sampler.set_epoch(epoch)
    assert epoch_order(samples, shuffle=True, seed=seed, epoch=epoch).tolist() == list(sampler)


@pytest.mark.parametrize("other", [{"seed": 1, "epoch": 0}, {"seed": 0, "epoch": 1}])
def test_another_seed_or_epoch_gives_another_order(other):
    first = epoch_order(100, shuffle=True, seed=0, epoch=0)
    assert not np.array_equal(first, epoch_order(100, shuffle=True, **other))


def test_the_order_leaves_torchs_default_generator_alone():
    before = torch.get_rng_state()
    epoch_order(100, shuffle=True, seed=0, epoch=0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("epoch", [0, 5])
def test_without_shuffle_every_epoch_is_in_sequence(epoch):
    assert epoch_order(7, shuffle=False, seed=3, epoch=epoch) == range(7)
