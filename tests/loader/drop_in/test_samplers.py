"""Samplers and batch samplers, torch's and the user's."""

from __future__ import annotations

from itertools import chain, count, groupby, islice

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    Dataset,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from pytest_loaderperf.loader import ReferenceLoader

SAMPLES = 20
DATASETS = {"map-style": list(range(SAMPLES)), "TensorDataset": TensorDataset(torch.arange(SAMPLES))}
WEIGHTS = [float(index % 4) for index in range(SAMPLES)]

over_datasets = pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
with_and_without_workers = pytest.mark.parametrize("num_workers", [0, 2])


def seeded():
    return torch.Generator().manual_seed(5)


SAMPLERS = {
    "sequential": lambda: SequentialSampler(range(SAMPLES)),
    "random": lambda: RandomSampler(range(SAMPLES), generator=seeded()),
    "random, fewer": lambda: RandomSampler(range(SAMPLES), num_samples=7, generator=seeded()),
    "random, more": lambda: RandomSampler(range(SAMPLES), num_samples=45, generator=seeded()),
    "random, replacing": lambda: RandomSampler(range(SAMPLES), replacement=True, generator=seeded()),
    "random, replacing, more": lambda: RandomSampler(
        range(SAMPLES), replacement=True, num_samples=45, generator=seeded()
    ),
    "weighted": lambda: WeightedRandomSampler(WEIGHTS, 33, generator=seeded()),
    "weighted, not replacing": lambda: WeightedRandomSampler(WEIGHTS, 11, replacement=False, generator=seeded()),
    "subset": lambda: SubsetRandomSampler(range(3, 12), generator=seeded()),
    "distributed": lambda: DistributedSampler(range(SAMPLES), num_replicas=3, rank=1, seed=5),
    "a range": lambda: range(2, 12),
    "a list": lambda: [4, 4, 2, 19],
    "a backward range": lambda: range(SAMPLES - 1, -1, -1),
    "an array of indices": lambda: torch.tensor([3, 1, 2]),
}


class Keyed(Dataset):
    """Samples by name, without a length."""

    words = {"one": 1, "two": 2, "three": 3}  # noqa: RUF012 read only

    def __getitem__(self, key):
        return self.words[key]


def batches_of(loader):
    return [(batch[0] if isinstance(batch, list) else batch).tolist() for batch in loader]


def cut(indices, size):
    return [indices[start : start + size] for start in range(0, len(indices), size)]


@over_datasets
@pytest.mark.parametrize("name, num_workers", [*((name, 0) for name in SAMPLERS), ("weighted", 2), ("a list", 2)])
def test_a_sampler_decides_the_order_in_every_epoch(loader_class, dataset, name, num_workers):
    make = SAMPLERS[name]
    twin = make()
    loader = loader_class(dataset, batch_size=4, sampler=make(), num_workers=num_workers)
    for _ in range(2):
        expected = cut([int(index) for index in twin], 4)
        assert len(loader) == len(expected)
        assert batches_of(loader) == expected


@over_datasets
@pytest.mark.parametrize("drop_last", [False, True])
def test_drop_last_counts_the_samplers_samples(loader_class, dataset, drop_last):
    loader = loader_class(dataset, batch_size=4, sampler=range(10), drop_last=drop_last, num_workers=0)
    assert batches_of(loader) == cut(list(range(10)), 4)[: 2 if drop_last else 3]
    assert len(loader) == (2 if drop_last else 3)


@over_datasets
def test_a_sampler_serves_single_samples_without_a_batch_size(loader_class, dataset):
    loader = loader_class(dataset, batch_size=None, sampler=[3, 1], num_workers=0)
    assert [int(sample[0] if isinstance(sample, (list, tuple)) else sample) for sample in loader] == [3, 1]


@over_datasets
def test_distributed_replicas_share_the_samples_and_set_epoch_reshuffles(loader_class, dataset):
    epochs = []
    for epoch in (0, 1):
        seen = []
        for rank in range(4):
            sampler = DistributedSampler(range(SAMPLES), num_replicas=4, rank=rank, seed=9)
            sampler.set_epoch(epoch)
            seen += chain(*batches_of(loader_class(dataset, 2, sampler=sampler, num_workers=0)))
        assert sorted(seen) == list(range(SAMPLES))
        epochs.append(seen)
    assert epochs[0] != epochs[1]


@over_datasets
@with_and_without_workers
def test_an_endless_sampler_gives_an_endless_epoch(loader_class, dataset, num_workers):
    class Endless(Sampler):
        def __iter__(self):
            return (index % SAMPLES for index in count())

    loader = loader_class(dataset, batch_size=3, sampler=Endless(), num_workers=num_workers)
    assert batches_of(islice(loader, 8)) == [[(i + j) % SAMPLES for j in range(3)] for i in range(0, 24, 3)]
    with pytest.raises(TypeError, match=r"^object of type 'Endless' has no len\(\)$"):
        len(loader)


@over_datasets
def test_a_generator_as_sampler_serves_one_epoch(loader_class, dataset):
    loader = loader_class(dataset, batch_size=2, sampler=(index for index in (5, 6, 7)), num_workers=0)
    assert batches_of(loader) == [[5, 6], [7]]
    assert batches_of(loader) == []


@with_and_without_workers
def test_keys_need_not_be_numbers(loader_class, num_workers):
    loader = loader_class(Keyed(), batch_size=2, sampler=["three", "one", "two"], num_workers=num_workers)
    assert batches_of(loader) == [[3, 1], [2]]
    by_batch = loader_class(Keyed(), batch_sampler=[["two"], ["one", "three"]], num_workers=num_workers)
    assert batches_of(by_batch) == [[2], [1, 3]]


@over_datasets
def test_negative_indices_count_from_the_end(loader_class, dataset):
    loader = loader_class(dataset, batch_size=2, sampler=[-1, -SAMPLES, 3], num_workers=0)
    assert batches_of(loader) == [[SAMPLES - 1, 0], [3]]


@over_datasets
@pytest.mark.parametrize("index", [SAMPLES, -SAMPLES - 1])
def test_an_index_beyond_the_dataset_raises(loader_class, dataset, index):
    with pytest.raises(IndexError):
        list(loader_class(dataset, batch_size=2, sampler=[0, index], num_workers=0))


BATCHES = [(0, 1), (2, 3, 4), (5,), (6, 7, 8, 9)]


@over_datasets
@pytest.mark.parametrize("kind, num_workers", [(tuple, 0), (list, 0), (torch.tensor, 0), (torch.tensor, 2)])
def test_a_batch_sampler_decides_which_samples_make_a_batch(loader_class, dataset, num_workers, kind):
    batch_sampler = [kind(batch) for batch in BATCHES]
    loader = loader_class(dataset, batch_sampler=batch_sampler, num_workers=num_workers)
    for _ in range(2):
        assert batches_of(loader) == [list(batch) for batch in BATCHES]
    assert len(loader) == 4
    assert (loader.batch_size, loader.drop_last) == (None, False)
    assert loader.batch_sampler is batch_sampler


@over_datasets
@with_and_without_workers
@pytest.mark.parametrize("drop_last", [False, True])
def test_torchs_batch_sampler_may_be_given(loader_class, dataset, num_workers, drop_last):
    def make():
        return BatchSampler(RandomSampler(range(SAMPLES), generator=seeded()), 6, drop_last)

    loader = loader_class(dataset, batch_sampler=make(), num_workers=num_workers)
    assert len(loader) == (3 if drop_last else 4)
    assert batches_of(loader) == list(make())


def in_groups():
    for _, group in groupby(chain.from_iterable(BATCHES), lambda index: index // 4):
        yield group


def in_one_list():
    """As those that save allocations do it."""
    batch = []
    for group in in_groups():
        batch[:] = group
        yield batch


@over_datasets
@pytest.mark.parametrize("batches", [in_groups, in_one_list])
def test_indices_of_a_batch_may_last_until_the_next_one(loader_class, dataset, batches):
    whole = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert batches_of(loader_class(dataset, batch_sampler=batches())) == whole
    if loader_class is ReferenceLoader:
        with ReferenceLoader(dataset, batch_sampler=batches(), num_workers=2, worker_kind="threads") as loader:
            assert batches_of(loader) == whole
        assert batches_of(ReferenceLoader(dataset, batch_sampler=batches(), num_workers=1)) == whole


def test_a_batch_sampler_without_a_length_gives_a_loader_without_one(loader_class):
    class Unsized:
        def __iter__(self):
            return iter([[1, 2], [0]])

    loader = loader_class([5, 6, 7], batch_sampler=Unsized(), num_workers=0)
    assert batches_of(loader) == [[6, 7], [5]]
    with pytest.raises(TypeError, match=r"^object of type 'Unsized' has no len\(\)$"):
        len(loader)


@with_and_without_workers
def test_an_error_of_the_sampler_comes_out_as_it_is(loader_class, num_workers):
    def sampler():
        yield 0
        raise LookupError("the sampler is lost")

    with pytest.raises(LookupError, match=r"^the sampler is lost$"):
        list(loader_class([1, 2], sampler=sampler(), num_workers=num_workers))


def test_a_dataset_without_a_length_needs_a_sampler(loader_class):
    with pytest.raises(TypeError, match=r"^object of type 'Keyed' has no len\(\)$"):
        len(loader_class(Keyed(), batch_size=2, num_workers=0))


@with_and_without_workers
def test_a_sampler_may_yield_more_than_the_dataset_has(loader_class, num_workers):
    loader = loader_class([7, 8], batch_size=4, sampler=[0, 1] * 3, num_workers=num_workers)
    assert batches_of(loader) == [[7, 8, 7, 8], [7, 8]]
