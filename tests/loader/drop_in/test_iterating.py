"""Iterators: several at once, again and again, from another thread, and past the end."""

from __future__ import annotations

import threading

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

SAMPLES = 10
DATASETS = {"map-style": list(range(SAMPLES)), "TensorDataset": TensorDataset(torch.arange(SAMPLES))}
WHOLE = [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

over_datasets = pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
with_and_without_workers = pytest.mark.parametrize("num_workers", [0, 2])


def values(batch):
    return (batch[0] if isinstance(batch, list) else batch).tolist()


def make(loader_class, dataset, num_workers, **arguments):
    return loader_class(dataset, batch_size=4, num_workers=num_workers, persistent_workers=False, **arguments)


@over_datasets
@with_and_without_workers
def test_each_epoch_begins_anew(loader_class, dataset, num_workers):
    loader = make(loader_class, dataset, num_workers)
    for _ in range(4):
        assert [values(batch) for batch in loader] == WHOLE


@over_datasets
@with_and_without_workers
def test_an_epoch_left_early_does_not_change_the_next(loader_class, dataset, num_workers):
    loader = make(loader_class, dataset, num_workers)
    for _ in range(2):
        assert values(next(iter(loader))) == WHOLE[0]
    assert [values(batch) for batch in loader] == WHOLE


@over_datasets
@with_and_without_workers
def test_two_iterators_of_a_loader_do_not_disturb_each_other(loader_class, dataset, num_workers):
    loader = make(loader_class, dataset, num_workers)
    one, two = iter(loader), iter(loader)
    assert one is not two
    firsts = [next(one), next(one), next(two)]
    assert [values(batch) for batch in (*firsts, next(two), next(one), next(two))] == [
        *WHOLE[:2],
        *WHOLE[:2],
        *([WHOLE[2]] * 2),
    ]


@over_datasets
def test_two_shuffled_iterators_have_an_order_each(loader_class, dataset):
    torch.manual_seed(0)
    loader = make(loader_class, dataset, 0, shuffle=True)
    pairs = list(zip(loader, loader, strict=True))
    orders = [[sample for pair in pairs for sample in values(pair[side])] for side in (0, 1)]
    assert [sorted(order) for order in orders] == [list(range(SAMPLES))] * 2
    assert orders[0] != orders[1]


@over_datasets
def test_persistent_workers_serve_one_iterator_at_a_time(loader_class, dataset):
    loader = loader_class(dataset, batch_size=4, num_workers=2, persistent_workers=True)
    one = iter(loader)
    next(one)
    two = iter(loader)
    if loader_class is DataLoader:
        assert two is one
    assert [values(batch) for batch in two] == WHOLE


@over_datasets
def test_loaders_with_and_without_workers_run_side_by_side(loader_class, dataset):
    iterators = [iter(make(loader_class, dataset, num_workers)) for num_workers in (0, 1, 2)]
    assert [[values(next(iterator)) for iterator in iterators] for _ in WHOLE] == [[batch] * 3 for batch in WHOLE]


def test_a_dataset_may_iterate_a_loader_of_its_own(loader_class):
    class Outer:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            inner = loader_class([index, index + 10], batch_size=2, num_workers=0)
            return sum(batch.sum() for batch in inner)

    loader = loader_class(Outer(), num_workers=0)
    assert [batch.tolist() for batch in loader] == [[10], [12]]


@over_datasets
@with_and_without_workers
def test_an_iterator_that_is_through_stays_so(loader_class, dataset, num_workers):
    iterator = iter(make(loader_class, dataset, num_workers))
    assert iter(iterator) is iterator
    assert len(list(iterator)) == 3
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(iterator)


@over_datasets
@with_and_without_workers
def test_an_iterator_has_the_length_of_its_epoch(loader_class, dataset, num_workers):
    iterator = iter(make(loader_class, dataset, num_workers))
    assert len(iterator) == 3
    next(iterator)
    assert len(iterator) == 3


@over_datasets
@with_and_without_workers
def test_a_loader_can_be_iterated_in_another_thread(loader_class, dataset, num_workers):
    found = []
    loader = make(loader_class, dataset, num_workers)
    thread = threading.Thread(target=lambda: found.extend(values(batch) for batch in loader))
    thread.start()
    thread.join(60)
    assert found == WHOLE
    assert [values(batch) for batch in loader] == WHOLE
