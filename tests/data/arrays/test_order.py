from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DistributedSampler, SequentialSampler

from pytest_loaderperf.data.arrays.order import EpochSampler, as_list, chunks, epoch_order, with_epochs

SIZES = st.integers(0, 200)
SEEDS = st.integers(0, 2**32)
EPOCHS = st.integers(0, 100)


@settings(deadline=None)
@given(samples=SIZES, seed=SEEDS, epoch=EPOCHS)
def test_a_shuffled_epoch_is_a_permutation_that_seed_and_epoch_determine(samples, seed, epoch):
    first = epoch_order(samples, shuffle=True, seed=seed, epoch=epoch)
    torch.rand(1)
    again = epoch_order(samples, shuffle=True, seed=seed, epoch=epoch)
    assert first.dtype == np.int64
    assert np.array_equal(first, again)
    assert sorted(first) == list(range(samples))


@settings(deadline=None)
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


@pytest.mark.parametrize("order", [range(3), np.arange(3)])
def test_a_list_of_an_order_has_pythons_own_integers(order):
    listed = as_list(order)
    assert (listed, {type(index) for index in listed}) == ([0, 1, 2], {int})


def test_a_sampler_gives_the_indices_of_the_epoch_that_was_chosen():
    sampler = EpochSampler(range(50), shuffle=True, seed=7)
    orders = []
    for epoch in (0, 3):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders == [as_list(epoch_order(50, shuffle=True, seed=7, epoch=epoch)) for epoch in (0, 3)]


def test_a_sampler_with_epochs_of_its_own_is_found_inside_a_batch_sampler():
    own = DistributedSampler(range(9), num_replicas=1, rank=0)
    assert with_epochs(own) is with_epochs(BatchSampler(own, 2, drop_last=False)) is own
    assert with_epochs(SequentialSampler(range(9))) is None
    assert with_epochs(EpochSampler(range(9), shuffle=True, seed=0)) is None  # its loader sets it


def test_an_order_is_cut_for_one_batch_then_for_four_times_as_many_each_time_up_to_the_most():
    order = range(1000)
    cut = list(chunks(order, 10, lambda: 20))
    assert [len(rows) for rows in cut] == [10, 40, 160, 200, 200, 200, 190]
    assert [index for rows in cut for index in rows] == list(order)


@settings(deadline=None)
@given(
    samples=st.integers(1, 200),
    seed=SEEDS,
    epoch=EPOCHS,
    shuffle=st.booleans(),
    dealings=st.lists(st.tuples(st.integers(1, 9), st.integers(0, 20)), min_size=1, max_size=4),
)
def test_dealt_to_changing_ranks_an_epoch_comes_once_in_its_order(samples, seed, epoch, shuffle, dealings):
    """Each dealing is to so many ranks, of which each takes so many indices; the last one deals all that is left."""
    order = list(epoch_order(samples, shuffle=shuffle, seed=seed, epoch=epoch))
    given_before: list[int] = []
    for ranks, taken in dealings:
        samplers = [
            EpochSampler(range(samples), shuffle=shuffle, seed=seed, rank=rank, world_size=ranks)
            for rank in range(ranks)
        ]
        shares = [as_list(sampler.order(epoch, len(given_before))) for sampler in samplers]
        assert {len(share) for share in shares} == {-(-max(0, samples - len(given_before)) // ranks)}
        rest = [index for turn in zip(*shares, strict=True) for index in turn]
        assert (given_before + rest)[:samples] == order
        assert (given_before + rest)[samples:] == (order * ranks)[: len(given_before + rest) - samples]
        if taken < len(shares[0]):
            given_before += rest[: taken * ranks]
