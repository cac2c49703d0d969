"""Each rank's share of an epoch, which is that of torch's DistributedSampler, whoever fetches it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import DistributedSampler, TensorDataset

from pytest_loaderperf.loader import ReferenceLoader

BATCH_SIZE = 3
SIZES = [(10, 1), (10, 2), (10, 3), (24, 4), (7, 4), (3, 5), (1, 3), (2, 7)]
DATASETS = {
    "array": torch.arange,
    "TensorDataset": lambda samples: TensorDataset(torch.arange(samples)),
    "map-style": lambda samples: list(range(samples)),
}
WORKERS: dict[str, dict[str, Any]] = {
    "here": {"num_workers": 0},
    "a thread": {"num_workers": 1, "worker_kind": "threads"},
    "three threads": {"num_workers": 3, "worker_kind": "threads"},
    "by default": {},
}
PROCESSES: dict[str, dict[str, Any]] = {
    "a process": {"num_workers": 1, "worker_kind": "processes"},
    "two processes": {"num_workers": 2, "worker_kind": "processes"},
}
over_datasets = pytest.mark.parametrize("make_dataset", DATASETS.values(), ids=DATASETS)
shuffled_or_not = pytest.mark.parametrize("shuffle", [False, True])


def indices(loader: Any) -> list[int]:
    return [index for batch in loader for index in (batch[0] if isinstance(batch, list) else batch).tolist()]


def torchs(samples: int, world_size: int, rank: int, epoch: int, *, shuffle: bool, seed: int = 0) -> list[int]:
    sampler = DistributedSampler(range(samples), world_size, rank, shuffle=shuffle, seed=seed)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("samples, world_size", SIZES)
@shuffled_or_not
@over_datasets
def test_the_indices_are_those_of_torchs_distributed_sampler(make_dataset, shuffle, samples, world_size):
    for rank in range(world_size):
        loader = ReferenceLoader(
            make_dataset(samples), BATCH_SIZE, shuffle=shuffle, seed=9, rank=rank, world_size=world_size, num_workers=0
        )
        for epoch in range(2):
            came = indices(loader)
            assert came == torchs(samples, world_size, rank, epoch, shuffle=shuffle, seed=9)
        assert len(loader) == -(-len(came) // BATCH_SIZE)


def test_without_a_seed_the_seed_is_zero_as_in_torch():
    loader = ReferenceLoader(range(20), BATCH_SIZE, shuffle=True, rank=1, world_size=2, num_workers=0)
    assert indices(loader) == torchs(20, 2, 1, 0, shuffle=True)


@pytest.mark.parametrize("workers", (WORKERS | PROCESSES).values(), ids=WORKERS | PROCESSES)
@over_datasets
def test_the_order_does_not_depend_on_who_fetches(make_dataset, workers):
    with ReferenceLoader(make_dataset(25), BATCH_SIZE, shuffle=True, seed=4, rank=1, world_size=2, **workers) as loader:
        for epoch in range(2):
            assert indices(loader) == torchs(25, 2, 1, epoch, shuffle=True, seed=4)


@pytest.mark.parametrize("samples, world_size", SIZES)
@shuffled_or_not
@over_datasets
def test_together_the_ranks_cover_the_dataset_in_equal_shares(make_dataset, shuffle, samples, world_size):
    shares = [
        indices(
            ReferenceLoader(
                make_dataset(samples), BATCH_SIZE, shuffle=shuffle, rank=rank, world_size=world_size, num_workers=0
            )
        )
        for rank in range(world_size)
    ]
    assert {index for share in shares for index in share} == set(range(samples))
    assert len({len(share) for share in shares}) == 1


@over_datasets
def test_drop_last_drops_the_short_batch_of_the_share(make_dataset):
    loader = ReferenceLoader(make_dataset(20), BATCH_SIZE, drop_last=True, rank=1, world_size=2, num_workers=0)
    assert indices(loader) == list(range(1, 19, 2))
    assert len(loader) == 3


@pytest.mark.parametrize("dataset", [range(20), torch.arange(20)], ids=["map-style", "array"])
def test_single_samples_are_shared_out_too(dataset):
    loader = ReferenceLoader(dataset, None, rank=1, world_size=2, num_workers=0)
    assert [int(sample) for sample in loader] == list(range(1, 20, 2))


@pytest.mark.parametrize("workers", [WORKERS["here"], WORKERS["three threads"], PROCESSES["a process"]])
@over_datasets
def test_each_rank_goes_on_with_its_own_share_after_a_restart(make_dataset, workers):
    for rank in range(2):
        first, second = (
            ReferenceLoader(make_dataset(25), BATCH_SIZE, shuffle=True, seed=4, rank=rank, world_size=2, **arguments)
            for arguments in (WORKERS["here"], workers)
        )
        iterator = iter(first)
        for _ in range(2):
            next(iterator)
        with first, second:
            second.load_state_dict(first.state_dict())
            assert indices(second) == torchs(25, 2, rank, 0, shuffle=True, seed=4)[2 * BATCH_SIZE :]


def test_an_empty_dataset_gives_each_rank_nothing():
    assert indices(ReferenceLoader(torch.arange(0), BATCH_SIZE, rank=2, world_size=3, num_workers=0)) == []
