"""torch's own dataset classes, and datapipes."""

from __future__ import annotations

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils.data import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from torch.utils.data.datapipes.iter import IterableWrapper

with_and_without_workers = pytest.mark.parametrize("num_workers", [0, 2])
ROWS = torch.arange(24, dtype=torch.float32).reshape(12, 2)
LABELS = torch.arange(12)


class Stream(IterableDataset):
    def __init__(self, start, stop):
        self.range = range(start, stop)

    def __iter__(self):
        return iter(self.range)


class Batched(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        return index

    def __getitems__(self, indices):
        return [100 + index for index in indices]


def batches_of(loader):
    return [batch.tolist() for batch in loader]


@with_and_without_workers
@pytest.mark.parametrize("batch_size", [1, 5])
def test_tensor_dataset(loader_class, num_workers, batch_size):
    loader = loader_class(TensorDataset(ROWS, LABELS), batch_size=batch_size, num_workers=num_workers)
    batches = list(loader)
    assert {(type(batch), len(batch)) for batch in batches} == {(list, 2)}
    assert torch.equal(torch.cat([x for x, _ in batches]), ROWS)
    assert torch.equal(torch.cat([y for _, y in batches]), LABELS)
    assert {(x.dtype, y.dtype) for x, y in batches} == {(torch.float32, torch.int64)}


@with_and_without_workers
def test_a_tensor_dataset_without_a_batch_size_gives_its_tuples(loader_class, num_workers):
    samples = list(loader_class(TensorDataset(ROWS, LABELS), batch_size=None, num_workers=num_workers))
    for (x, y), row, label in zip(samples, ROWS, LABELS, strict=True):
        assert torch.equal(x, row)
        assert torch.equal(y, label)


@with_and_without_workers
@pytest.mark.parametrize("make", [torch.as_tensor, np.asarray], ids=["tensor", "array"])
def test_a_tensor_or_array_is_a_dataset_of_its_rows(loader_class, num_workers, make):
    rows = make(np.arange(12.0).reshape(6, 2))
    batches = list(loader_class(rows, batch_size=4, num_workers=num_workers))
    assert [tuple(batch.shape) for batch in batches] == [(4, 2), (2, 2)]
    assert torch.equal(torch.cat(batches), torch.arange(12.0, dtype=torch.float64).reshape(6, 2))


@with_and_without_workers
def test_concat_dataset(loader_class, num_workers):
    joined = ConcatDataset([list(range(5)), list(range(10, 13))])
    loader = loader_class(joined, batch_size=3, num_workers=num_workers)
    assert batches_of(loader) == [[0, 1, 2], [3, 4, 10], [11, 12]]
    assert len(loader) == 3


@with_and_without_workers
@pytest.mark.parametrize("chain", [lambda a, b: ChainDataset([a, b]), lambda a, b: a + b], ids=["class", "plus"])
def test_chain_dataset(loader_class, num_workers, chain):
    chained = chain(Stream(0, 3), Stream(10, 12))
    expected = [0, 1, 2, 10, 11]
    loader = loader_class(chained, batch_size=None, num_workers=num_workers)
    assert list(loader) == [sample for sample in expected for _ in range(max(1, num_workers))]


def test_a_chain_of_other_datasets_is_refused_as_torch_does(loader_class):
    with pytest.raises(AssertionError, match="ChainDataset only supports IterableDataset"):
        list(loader_class(ChainDataset([Stream(0, 2), LABELS]), num_workers=0))


@with_and_without_workers
@pytest.mark.parametrize("dataset", [list(range(12)), TensorDataset(LABELS)], ids=["map-style", "TensorDataset"])
def test_subset(loader_class, num_workers, dataset):
    loader = loader_class(Subset(dataset, [7, 3, 3, 11]), batch_size=3, num_workers=num_workers)
    found = [(batch[0] if isinstance(batch, list) else batch).tolist() for batch in loader]
    assert found == [[7, 3, 3], [11]]


def test_a_subset_asks_its_dataset_for_whole_batches(loader_class):
    assert batches_of(loader_class(Subset(Batched(), [7, 3, 11]), 2, num_workers=0)) == [[107, 103], [111]]


@with_and_without_workers
@pytest.mark.parametrize("lengths", [[4, 8], [1 / 3, 2 / 3]], ids=["lengths", "fractions"])
def test_random_split(loader_class, num_workers, lengths):
    splits = random_split(list(range(12)), lengths, generator=torch.Generator().manual_seed(1))
    loaders = [loader_class(split, batch_size=3, num_workers=num_workers) for split in splits]
    found = [[sample for batch in batches_of(loader) for sample in batch] for loader in loaders]
    assert found == [list(split) for split in splits]
    assert sorted(chain(*found)) == list(range(12))


def test_random_split_asks_the_dataset_by_whole_numbers(loader_class):
    kinds = set()

    class Noting(Dataset):
        def __len__(self):
            return 5

        def __getitem__(self, index):
            kinds.add(type(index))
            return index

    list(loader_class(random_split(Noting(), [5])[0], num_workers=0))
    assert kinds == {int}


@with_and_without_workers
def test_stack_dataset(loader_class, num_workers):
    rows, numbers = list(ROWS), list(range(12))
    for dataset, keys in ((StackDataset(rows, numbers), (0, 1)), (StackDataset(x=rows, y=numbers), ("x", "y"))):
        batches = list(loader_class(dataset, batch_size=5, num_workers=num_workers))
        assert type(batches[0]) is (list if keys == (0, 1) else dict)
        assert torch.equal(torch.cat([batch[keys[0]] for batch in batches]), ROWS)
        assert torch.equal(torch.cat([batch[keys[1]] for batch in batches]), LABELS)


def test_a_stack_dataset_asks_its_datasets_for_whole_batches(loader_class):
    loader = loader_class(StackDataset(a=Batched(), b=list(range(12))), batch_size=2, num_workers=0)
    batch = next(iter(loader))
    assert (batch["a"].tolist(), batch["b"].tolist()) == ([100, 101], [0, 1])


@with_and_without_workers
def test_a_dataset_need_not_be_a_torch_dataset(loader_class, num_workers):
    class Plain:
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return {"index": index}

    loader = loader_class(Plain(), batch_size=2, num_workers=num_workers)
    assert [batch["index"].tolist() for batch in loader] == [[0, 1], [2, 3], [4]]


@with_and_without_workers
def test_a_string_is_a_dataset_of_its_letters(loader_class, num_workers):
    assert list(loader_class("abcde", batch_size=2, num_workers=num_workers)) == [["a", "b"], ["c", "d"], ["e"]]


@with_and_without_workers
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_datapipe_is_sharded_and_shuffled_as_the_loader_says(loader_class, num_workers, shuffle):
    pipe = IterableWrapper(list(range(20))).shuffle(buffer_size=20).sharding_filter()
    loader = loader_class(pipe, batch_size=None, shuffle=shuffle, num_workers=num_workers)
    epochs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        epochs.append(list(loader))
    assert Counter(epochs[0]) == Counter(epochs[2]) == Counter(range(20))
    assert epochs[0] == epochs[1]
    assert (epochs[0] != epochs[2]) is shuffle
    assert (epochs[0] != list(range(20))) is shuffle
