"""How samples become batches: sizes, the last batch, no batching at all, bulk loading, and collate_fn."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import BatchSampler, Dataset, RandomSampler, SequentialSampler, TensorDataset

with_and_without_workers = pytest.mark.parametrize("num_workers", [0, 2])
EDGES = {
    "short last batch": (10, 4, [4, 4, 2], [4, 4]),
    "full last batch": (8, 4, [4, 4], [4, 4]),
    "one sample": (1, 4, [1], []),
    "one sample, batches of one": (1, 1, [1], [1]),
    "batch as large as the dataset": (5, 5, [5], [5]),
    "batch larger than the dataset": (5, 8, [5], []),
    "empty": (0, 4, [], []),
}


class Bulk(Dataset):
    """Takes a list of indices at once, and nothing else."""

    def __len__(self):
        return 11

    def __getitem__(self, indices):
        assert isinstance(indices, list)
        return torch.as_tensor(indices)


class Batched(Dataset):
    """Has ``__getitems__``; ``__getitem__`` would give other values."""

    def __len__(self):
        return 10

    def __getitem__(self, index):
        return -index

    def __getitems__(self, indices):
        assert isinstance(indices, list)
        return [100 + index for index in indices]


class Single(Batched):
    __getitems__ = None


@pytest.mark.parametrize("make", [lambda n: list(range(n)), torch.arange], ids=["map-style", "tensor"])
@pytest.mark.parametrize("edge, num_workers", [*((edge, 0) for edge in EDGES), ("short last batch", 2), ("empty", 2)])
def test_the_last_short_batch_comes_unless_dropped(loader_class, make, edge, num_workers):
    samples, batch_size, sizes, sizes_dropping = EDGES[edge]
    for drop_last, expected in ((False, sizes), (True, sizes_dropping)):
        loader = loader_class(make(samples), batch_size=batch_size, drop_last=drop_last, num_workers=num_workers)
        assert [len(batch) for batch in loader] == expected
        assert len(loader) == len(expected)
        assert [sample for batch in loader for sample in batch.tolist()] == list(range(sum(expected)))


@pytest.mark.parametrize("make", [lambda n: list(range(n)), torch.arange], ids=["map-style", "tensor"])
def test_an_empty_dataset_cannot_be_shuffled(loader_class, make):
    with pytest.raises(ValueError) as caught:
        loader_class(make(0), batch_size=2, shuffle=True, num_workers=0)
    assert str(caught.value) == "num_samples should be a positive integer value, but got num_samples=0"


@with_and_without_workers
@pytest.mark.parametrize("shuffle", [False, True])
def test_without_a_batch_size_samples_come_one_by_one_and_as_they_are(loader_class, num_workers, shuffle):
    loader = loader_class(list(range(10)), batch_size=None, shuffle=shuffle, num_workers=num_workers)
    samples = list(loader)
    assert sorted(samples) == list(range(10))
    assert {type(sample) for sample in samples} == {int}
    assert (len(loader), loader.batch_size, loader.batch_sampler) == (10, None, None)


def test_without_a_batch_size_a_tensor_of_the_dataset_is_handed_on_itself(loader_class):
    dataset = [torch.arange(3), torch.arange(2)]
    assert all(map(lambda got, own: got is own, loader_class(dataset, batch_size=None, num_workers=0), dataset))


@with_and_without_workers
def test_without_a_batch_size_collate_fn_gets_the_sample(loader_class, num_workers):
    loader = loader_class([1, 2, 3], batch_size=None, num_workers=num_workers, collate_fn=lambda sample: sample * 10)
    assert list(loader) == [10, 20, 30]


@with_and_without_workers
@pytest.mark.parametrize("drop_last", [False, True])
def test_a_batch_sampler_as_sampler_loads_in_bulk(loader_class, num_workers, drop_last):
    sampler = BatchSampler(SequentialSampler(range(11)), batch_size=4, drop_last=drop_last)
    loader = loader_class(Bulk(), batch_size=None, sampler=sampler, num_workers=num_workers)
    expected = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]][: 2 if drop_last else 3]
    assert [batch.tolist() for batch in loader] == expected
    assert len(loader) == len(expected)


@with_and_without_workers
def test_bulk_loading_of_shuffled_indices_covers_the_dataset(loader_class, num_workers):
    sampler = BatchSampler(RandomSampler(range(11)), batch_size=4, drop_last=False)
    loader = loader_class(Bulk(), batch_size=None, sampler=sampler, num_workers=num_workers)
    assert torch.cat(list(loader)).sort().values.tolist() == list(range(11))


def test_bulk_loading_of_a_tensor_dataset_gathers_rows(loader_class):
    rows, labels = torch.arange(22).reshape(11, 2), torch.arange(11)
    sampler = BatchSampler(SequentialSampler(labels), batch_size=4, drop_last=False)
    loader = loader_class(TensorDataset(rows, labels), batch_size=None, sampler=sampler, num_workers=0)
    for start, (x, y) in zip((0, 4, 8), loader, strict=True):
        assert torch.equal(x, rows[start : start + 4])
        assert torch.equal(y, labels[start : start + 4])


@with_and_without_workers
def test_getitems_serves_whole_batches(loader_class, num_workers):
    loader = loader_class(Batched(), batch_size=4, num_workers=num_workers)
    assert [batch.tolist() for batch in loader] == [[100, 101, 102, 103], [104, 105, 106, 107], [108, 109]]


def test_getitems_is_not_used_without_batches(loader_class):
    assert list(loader_class(Batched(), batch_size=None, num_workers=0)) == [-i for i in range(10)]


def test_getitems_that_is_none_is_not_used(loader_class):
    assert next(iter(loader_class(Single(), batch_size=3, num_workers=0))).tolist() == [0, -1, -2]


def test_collate_fn_gets_exactly_what_getitems_returned(loader_class):
    class Rows(Batched):
        def __getitems__(self, indices):
            return torch.tensor(indices)

    batch = next(iter(loader_class(Rows(), batch_size=3, num_workers=0, collate_fn=lambda got: got)))
    assert torch.equal(batch, torch.tensor([0, 1, 2]))


@with_and_without_workers
@pytest.mark.parametrize("make", [list, lambda rows: TensorDataset(torch.tensor(rows))], ids=["map-style", "tensors"])
def test_collate_fn_gets_the_list_of_samples(loader_class, num_workers, make):
    loader = loader_class(
        make([5, 6, 7]), batch_size=2, num_workers=num_workers, collate_fn=lambda got: (type(got), len(got))
    )
    assert list(loader) == [(list, 2), (list, 1)]


def test_a_dataset_that_grows_is_served_whole(loader_class):
    dataset = [torch.tensor(i) for i in range(4)]
    loaders = [loader_class(dataset, shuffle=shuffle, num_workers=0) for shuffle in (False, True)]
    dataset.append(torch.tensor(4))
    for loader in loaders:
        assert len(loader) == 5
        assert sorted(batch.item() for batch in loader) == [0, 1, 2, 3, 4]


def test_without_workers_samples_are_fetched_only_when_asked_for(loader_class):
    """What the consumer does between two batches may change what the dataset or the sampler gives next."""
    fetched, drawn = [], []

    class Noting(Dataset):
        def __len__(self):
            return 10

        def __getitem__(self, index):
            fetched.append(index)
            return index

    def sampler():
        for index in range(10):
            drawn.append(index)
            yield index

    iterator = iter(loader_class(Noting(), batch_size=2, sampler=sampler(), num_workers=0))
    assert (fetched, drawn) == ([], [])
    for batches in (1, 2, 3):
        next(iterator)
        assert fetched == drawn == list(range(2 * batches))


@pytest.mark.parametrize("collection", [list, tuple])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_loader_turns_into_a_list_or_tuple(loader_class, collection, num_workers):
    loader = loader_class(list(range(6)), batch_size=2, num_workers=num_workers)
    fetched = collection(loader)
    assert isinstance(fetched, collection)
    assert [batch.tolist() for batch in fetched] == [[0, 1], [2, 3], [4, 5]]


@with_and_without_workers
def test_batches_can_all_be_held(loader_class, num_workers):
    rows = torch.arange(40).reshape(20, 2)
    held = list(loader_class(TensorDataset(rows), batch_size=3, num_workers=num_workers))
    assert torch.equal(torch.cat([batch[0] for batch in held]), rows)


def test_writing_to_a_batch_changes_neither_the_dataset_nor_the_next_epoch(loader_class):
    rows = torch.arange(12).reshape(6, 2)
    loader = loader_class(TensorDataset(rows), batch_size=2, num_workers=0)
    for _ in range(2):
        for start, (batch,) in zip((0, 2, 4), loader, strict=True):
            assert torch.equal(batch, torch.arange(12).reshape(6, 2)[start : start + 2])
            batch.zero_()
    assert torch.equal(rows, torch.arange(12).reshape(6, 2))
