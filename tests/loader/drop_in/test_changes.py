"""Indices that arrays do not have, and datasets that are others in the next epoch."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, RandomSampler, SequentialSampler, Subset, TensorDataset, get_worker_info

SAMPLES = 5
with_and_without_workers = pytest.mark.parametrize("num_workers", [0, 1])
over_datasets = pytest.mark.parametrize(
    "make",
    [torch.arange, np.arange, lambda n: TensorDataset(torch.arange(n)), lambda n: list(range(n))],
    ids=["tensor", "array", "TensorDataset", "list"],
)
DRAWN = {
    "sequential": lambda: SequentialSampler(range(9)),
    "a little too long": lambda: SequentialSampler(range(SAMPLES + 1)),
    "random": lambda: RandomSampler(range(9), generator=torch.Generator().manual_seed(1)),
    "with replacement": lambda: RandomSampler(range(99), replacement=True, num_samples=50),
    "subset": lambda: SequentialSampler(Subset(range(9), range(7))),
    "own": lambda: [0, 1, 2, 3, 4, 5, 6],
    "negative": lambda: [0, 1, -6],
}


def joined(batches):
    return list(chain.from_iterable(batches))


def flat(batch):
    return flat(batch[0]) if isinstance(batch, list) else batch.tolist()


def batches_until_error(loader):
    came, batches = [], iter(loader)
    with pytest.raises(IndexError):
        came.extend(map(flat, batches))
    return came


@over_datasets
@pytest.mark.parametrize(
    "name, size, num_workers", [*((name, 3, 0) for name in DRAWN), ("sequential", 1, 0), ("own", 3, 1)]
)
def test_a_sampler_of_more_than_the_dataset_raises_in_its_place(loader_class, make, name, size, num_workers):
    make_sampler = DRAWN[name]
    indices = list(make_sampler()) if not isinstance(make_sampler(), RandomSampler) else None
    came = batches_until_error(
        loader_class(make(SAMPLES), batch_size=size, sampler=make_sampler(), num_workers=num_workers)
    )
    for batch in came:
        assert all(0 <= row < SAMPLES for row in batch)
    if indices is not None:
        assert joined(came) == indices[: len(came) * size]


@over_datasets
def test_after_an_index_beyond_the_dataset_the_next_batch_comes(loader_class, make):
    batches = iter(loader_class(make(SAMPLES), batch_size=2, sampler=[0, 1, 9, 2, 3, 4], num_workers=0))
    assert flat(next(batches)) == [0, 1]
    with pytest.raises(IndexError):
        next(batches)
    assert list(map(flat, batches)) == [[3, 4]]


def replaced(dataset):
    dataset.tensors = (torch.arange(8) + 100,)


def shrunk(dataset):
    dataset.tensors = (torch.arange(2) + 50,)


def of_the_same_length(dataset):
    dataset.tensors = (torch.arange(4) + 20,)


def of_another_dtype(dataset):
    dataset.tensors = (torch.arange(4) + 0.5,)


def of_another_shape(dataset):
    dataset.tensors = (torch.arange(8).reshape(4, 2),)


def more_fields(dataset):
    dataset.tensors = (torch.arange(6), torch.arange(6) * 2)


def written_to(dataset):
    dataset.tensors[0].add_(7)


def resized(dataset):
    dataset.tensors[0].data = torch.arange(6) + 30


CHANGES = [replaced, shrunk, of_the_same_length, of_another_dtype, of_another_shape, more_fields, written_to, resized]


def with_gradients(dataset):
    dataset.tensors = (torch.arange(4.0, requires_grad=True),)


@pytest.mark.parametrize(
    "change, drop_last, num_workers",
    [
        *((change, False, 0) for change in CHANGES),
        *((change, True, 0) for change in (replaced, shrunk)),
        *((change, False, 1) for change in (replaced, of_another_dtype, written_to, resized)),
        (shrunk, True, 1),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_tensor_dataset_may_be_changed_between_epochs(loader_class, change, drop_last, num_workers):
    dataset = TensorDataset(torch.arange(4))
    loader = loader_class(dataset, batch_size=3, drop_last=drop_last, num_workers=num_workers)
    list(loader)
    change(dataset)
    came = list(loader)
    size, count = 3, len(dataset)
    starts = range(0, count - (size - 1 if drop_last else 0), size)
    assert len(loader) == len(came) == len(starts)
    for start, batch in zip(starts, came, strict=True):
        for rows, tensor in zip(batch, dataset.tensors, strict=True):
            assert rows.dtype is tensor.dtype
            assert torch.equal(rows, tensor[start : start + size])


def test_tensors_that_require_gradients_may_replace_others(loader_class):
    dataset = TensorDataset(torch.arange(4.0))
    loader = loader_class(dataset, batch_size=2, num_workers=0)
    list(loader)
    with_gradients(dataset)
    (batch,) = next(iter(loader))
    assert batch.requires_grad


@with_and_without_workers
def test_a_shuffled_dataset_that_grows_is_served_whole(loader_class, num_workers):
    dataset = TensorDataset(torch.arange(4))
    loader = loader_class(dataset, batch_size=2, shuffle=True, num_workers=num_workers)
    list(loader)
    replaced(dataset)
    assert sorted(joined(map(flat, loader))) == list(range(100, 108))


@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize(
    "change", [lambda items: items.extend([7, 8]), lambda items: items.pop(0)], ids=["grows", "shrinks"]
)
def test_a_list_may_change_between_epochs(loader_class, num_workers, change):
    items = list(range(4))
    loader = loader_class(items, batch_size=2, num_workers=num_workers)
    list(loader)
    change(items)
    assert joined(map(flat, loader)) == items


class Curriculum(Dataset):
    epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return 100 * self.epoch + index


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_what_a_dataset_is_told_between_epochs_reaches_workers(loader_class, num_workers):
    dataset = Curriculum()
    loader = loader_class(dataset, batch_size=2, num_workers=num_workers)
    assert loader.persistent_workers is False
    for epoch in range(3):
        dataset.set_epoch(epoch)
        assert joined(map(flat, loader)) == [100 * epoch + index for index in range(4)]


def dataset_is_the_users(worker_id):
    assert get_worker_info().dataset.tensors[0].tolist() == [0, 1, 2, 3]


def tensors_are_replaced(worker_id):
    get_worker_info().dataset.tensors = (torch.arange(4) + 40,)


def test_a_worker_sees_the_tensor_dataset_itself(loader_class):
    dataset = TensorDataset(torch.arange(4))
    loader = loader_class(dataset, batch_size=2, num_workers=2, worker_init_fn=dataset_is_the_users)
    assert list(map(flat, loader)) == [[0, 1], [2, 3]]


def test_a_worker_may_replace_what_its_dataset_holds(loader_class):
    dataset = TensorDataset(torch.arange(4))
    loader = loader_class(dataset, batch_size=2, num_workers=2, worker_init_fn=tensors_are_replaced)
    assert list(map(flat, loader)) == [[40, 41], [42, 43]]


class Boxes(torch.Tensor):
    pass


@pytest.mark.parametrize("num_workers, samples", [(0, 4), (1, 4), (0, 20_000)])
def test_the_subclass_of_a_tensor_in_a_dataset_stays(loader_class, num_workers, samples):
    boxes = torch.ones(samples, 2).as_subclass(Boxes)
    for dataset, of in ((TensorDataset(boxes), lambda batch: batch[0]), (boxes, lambda batch: batch)):
        for batch in loader_class(dataset, batch_size=samples, num_workers=num_workers):
            assert type(of(batch)) is Boxes


@with_and_without_workers
@pytest.mark.parametrize("dtype", ["U3", "S3", object])
def test_an_array_of_strings_is_a_dataset_of_strings(loader_class, num_workers, dtype):
    strings = np.array(["a", "bc", "def"], dtype)
    assert list(loader_class(strings, batch_size=2, num_workers=num_workers)) == [
        [*strings[:2].tolist()],
        [*strings[2:].tolist()],
    ]


@with_and_without_workers
@pytest.mark.parametrize("dataset", [TensorDataset(torch.arange(6)), torch.arange(6), np.arange(6)], ids=type)
def test_arrays_are_indexed_by_whatever_the_sampler_gives(loader_class, num_workers, dataset):
    def came(**arguments):
        return [flat(batch) for batch in loader_class(dataset, num_workers=num_workers, **arguments)]

    assert came(batch_size=2, sampler=[[0, 1], [2, 3]]) == [[[0, 1], [2, 3]]]
    assert came(batch_size=1, sampler=[slice(0, 2), slice(3, 6)]) == [[[0, 1]], [[3, 4, 5]]]
    assert came(batch_sampler=[{0, 1}, [4], (5, -1), np.array([2, 3]), range(2)]) == [
        [0, 1],
        [4],
        [5, 5],
        [2, 3],
        [0, 1],
    ]
    assert came(batch_sampler=[[torch.tensor(3), np.int64(1)]]) == [[3, 1]]


class Alone:
    """Gives batches, and no single samples."""

    def __len__(self):
        return 4

    def __getitems__(self, indices):
        return [10 * index for index in indices]


@with_and_without_workers
def test_a_dataset_may_have_getitems_alone(loader_class, num_workers):
    assert list(map(flat, loader_class(Alone(), batch_size=3, num_workers=num_workers))) == [[0, 10, 20], [30]]


@with_and_without_workers
def test_a_dict_of_whole_numbers_is_a_dataset_of_its_items(loader_class, num_workers):
    items = {index: torch.full((2,), index) for index in range(3)}
    assert list(map(flat, loader_class(items, batch_size=2, num_workers=num_workers))) == [[[0, 0], [1, 1]], [[2, 2]]]


@with_and_without_workers
def test_a_tuple_without_arrays_is_a_dataset_of_its_items(loader_class, num_workers):
    assert list(map(flat, loader_class((1, 2, 3), batch_size=2, num_workers=num_workers))) == [[1, 2], [3]]
    assert list(loader_class((b"ab", b"c"), batch_size=2, num_workers=num_workers)) == [[b"ab", b"c"]]


class Table(dict):
    """Fields by name, also nested ones, and rows by their numbers."""

    def __len__(self):
        return 4

    def __getitems__(self, indices):
        return {name: value[indices] for name, value in self.items() if not isinstance(value, Table)}


def as_it_is(batch):
    return batch


@with_and_without_workers
def test_a_mapping_that_gives_batches_is_asked_for_them(loader_class, num_workers):
    table = Table(x=torch.arange(4), next=Table(x=torch.arange(4)))
    loader = loader_class(table, batch_size=2, num_workers=num_workers, collate_fn=as_it_is)
    assert [{name: rows.tolist() for name, rows in batch.items()} for batch in loader] == [{"x": [0, 1]}, {"x": [2, 3]}]


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_the_number_of_workers_may_be_numpys(loader_class, kind):
    assert list(map(flat, loader_class([1, 2, 3], batch_size=2, num_workers=kind(1)))) == [[1, 2], [3]]
