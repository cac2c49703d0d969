"""Iterable-style datasets: batches, replicas in workers, lengths, and the warning of a length that is wrong."""

from __future__ import annotations

import warnings
from itertools import count, islice

import pytest
from torch.utils.data import IterableDataset, get_worker_info

with_and_without_workers = pytest.mark.parametrize("num_workers", [0, 2])


class Counting(IterableDataset):
    """0 to ``samples - 1``, in each worker anew."""

    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        return iter(range(self.samples))

    def __len__(self):
        return self.samples

    def __repr__(self):
        return f"Counting({self.samples})"


class Sharded(Counting):
    """Each worker takes every so manieth sample."""

    def __iter__(self):
        info = get_worker_info()
        return iter(range(self.samples)[info.id :: info.num_workers] if info else range(self.samples))


class Uneven(Counting):
    """As many samples as ``samples`` says for the worker, from 10 times its id on."""

    def __iter__(self):
        info = get_worker_info()
        return iter(range(10 * info.id, 10 * info.id + self.samples[info.id]))

    def __len__(self):
        return sum(self.samples)


class Unsized(IterableDataset):
    def __iter__(self):
        return iter(range(5))


class Failing(IterableDataset):
    def __iter__(self):
        raise RuntimeError("no samples today")


def batches_of(loader):
    return [batch.tolist() for batch in loader]


@pytest.mark.parametrize(
    "batch_size, drop_last, expected, num_workers",
    [
        (3, False, [[0, 1, 2], [3, 4, 5], [6, 7]], 0),
        (3, False, [[0, 1, 2], [3, 4, 5], [6, 7]], 1),
        (3, True, [[0, 1, 2], [3, 4, 5]], 0),
        (4, True, [[0, 1, 2, 3], [4, 5, 6, 7]], 0),
        (1, False, [[i] for i in range(8)], 0),
        (9, False, [list(range(8))], 0),
        (9, True, [], 0),
        (9, True, [], 1),
    ],
)
def test_samples_are_batched_as_they_come(loader_class, batch_size, drop_last, expected, num_workers):
    loader = loader_class(Counting(8), batch_size=batch_size, drop_last=drop_last, num_workers=num_workers)
    assert batches_of(loader) == batches_of(loader) == expected
    assert len(loader) == len(expected)


@with_and_without_workers
def test_without_a_batch_size_samples_come_as_they_are(loader_class, num_workers):
    samples = list(loader_class(Sharded(6), batch_size=None, num_workers=num_workers))
    assert samples == list(range(6))
    assert {type(sample) for sample in samples} == {int}


@with_and_without_workers
def test_an_empty_dataset_gives_no_batch(loader_class, num_workers):
    loader = loader_class(Counting(0), batch_size=2, num_workers=num_workers)
    assert (list(loader), len(loader)) == ([], 0)


def test_every_worker_gives_the_whole_dataset_unless_it_is_sharded(loader_class):
    loader = loader_class(Counting(5), batch_size=2, num_workers=2)
    assert batches_of(loader) == [[0, 1], [0, 1], [2, 3], [2, 3], [4], [4]]


def test_get_worker_info_shards_a_dataset(loader_class):
    loader = loader_class(Sharded(10), batch_size=2, num_workers=2)
    assert batches_of(loader) == [[0, 2], [1, 3], [4, 6], [5, 7], [8], [9]]


def test_worker_init_fn_shards_a_dataset(loader_class):
    def half(worker_id):
        get_worker_info().dataset.samples = 2 + worker_id

    loader = loader_class(Counting(10), batch_size=None, num_workers=2, worker_init_fn=half)
    assert list(loader) == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("persistent_workers", [False, True])
@pytest.mark.parametrize(
    "drop_last, expected",
    [(False, [[0, 1, 2], [10], [3, 4, 5], [6]]), (True, [[0, 1, 2], [3, 4, 5]])],
)
def test_workers_may_end_at_different_times(loader_class, persistent_workers, drop_last, expected):
    """drop_last drops the short batch of every worker."""
    loader = loader_class(
        Uneven([7, 1]), batch_size=3, drop_last=drop_last, num_workers=2, persistent_workers=persistent_workers
    )
    for _ in range(3):
        assert batches_of(loader) == expected


def test_a_worker_may_have_nothing(loader_class):
    assert batches_of(loader_class(Uneven([0, 4]), batch_size=3, num_workers=2)) == [[10, 11, 12], [13]]


@pytest.mark.parametrize("prefetch_factor", [1, 2, 5])
def test_prefetching_does_not_change_what_comes(loader_class, prefetch_factor):
    loader = loader_class(Sharded(9), batch_size=2, num_workers=2, prefetch_factor=prefetch_factor)
    assert batches_of(loader) == [[0, 2], [1, 3], [4, 6], [5, 7], [8]]


@with_and_without_workers
def test_an_endless_dataset_is_fetched_as_far_as_asked_for(loader_class, num_workers):
    class Endless(IterableDataset):
        def __iter__(self):
            return count()

    loader = loader_class(Endless(), batch_size=2, num_workers=num_workers)
    assert batches_of(islice(loader, 4)) == (
        [[0, 1], [0, 1], [2, 3], [2, 3]] if num_workers else [[0, 1], [2, 3], [4, 5], [6, 7]]
    )


def test_without_workers_a_dataset_that_is_its_own_iterator_is_used_up(loader_class):
    class Once(IterableDataset):
        samples = iter(range(3))

        def __iter__(self):
            return self

        def __next__(self):
            return next(self.samples)

    loader = loader_class(Once(), batch_size=2, num_workers=0)
    assert batches_of(loader) == [[0, 1], [2]]
    assert batches_of(loader) == []


@pytest.mark.parametrize(
    "batch_size, drop_last, length",
    [(1, False, 10), (1, True, 10), (2, False, 5), (3, False, 4), (3, True, 3), (11, True, 0), (None, False, 10)],
)
@with_and_without_workers
def test_the_length_is_worked_out_from_the_datasets(loader_class, num_workers, batch_size, drop_last, length):
    assert len(loader_class(Counting(10), batch_size, drop_last=drop_last, num_workers=num_workers)) == length


@with_and_without_workers
def test_a_dataset_without_a_length_gives_a_loader_without_one(loader_class, num_workers):
    loader = loader_class(Unsized(), batch_size=2, num_workers=num_workers)
    with pytest.raises(TypeError, match=r"^object of type 'Unsized' has no len\(\)$"):
        len(loader)
    assert len(list(loader)) == (6 if num_workers else 3)


class Understated(Counting):
    def __len__(self):
        return 2


def test_more_samples_than_the_length_said_are_warned_of(loader_class):
    loader = loader_class(Understated(4), batch_size=None, num_workers=0)
    assert list(loader) == [0, 1, 2, 3]  # no warning: nobody has asked for the length
    assert len(loader) == 2
    iterator = iter(loader)
    assert [next(iterator), next(iterator)] == [0, 1]
    for fetched in (3, 4):
        with pytest.warns(UserWarning, match="^Length of IterableDataset") as caught:
            next(iterator)
        expected = (
            "Length of IterableDataset Counting(4) was reported to be 2(when accessing len(dataloader)), "
            f"but {fetched} samples have been fetched. "
        )
        assert [str(warning.message) for warning in caught] == [expected]


def test_replicas_that_give_more_than_the_length_are_warned_of_with_the_cause(loader_class):
    loader = loader_class(Counting(2), num_workers=2, persistent_workers=False)
    assert len(list(loader)) == 4
    assert len(loader) == 2
    iterator = iter(loader)
    next(iterator)
    next(iterator)
    with pytest.warns(UserWarning, match="^Length of IterableDataset") as caught:
        next(iterator)
    expected = (
        "Length of IterableDataset Counting(2) was reported to be 2(when accessing len(dataloader)), but 3 samples "
        "have been fetched. For multiprocessing data-loading, this could be caused by not properly configuring the "
        "IterableDataset replica at each worker. Please see "
        "https://pytorch.org/docs/stable/data.html#torch.utils.data.IterableDataset for examples."
    )
    assert [str(warning.message) for warning in caught] == [expected]


def test_a_length_asked_for_in_mid_epoch_counts_from_the_next(loader_class):
    loader = loader_class(Understated(4), batch_size=None, num_workers=0)
    iterator = iter(loader)
    assert len(loader) == 2
    assert list(iterator) == [0, 1, 2, 3]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(loader)
    assert len(caught) == 2


@with_and_without_workers
def test_an_error_of_iter_comes_out(loader_class, raised, num_workers):
    error = raised(lambda: list(loader_class(Failing(), num_workers=num_workers, persistent_workers=False)))
    assert type(error) is RuntimeError
    assert "no samples today" in str(error)


@with_and_without_workers
def test_an_error_in_mid_epoch_comes_after_the_batches_before_it(loader_class, raised, num_workers):
    class Breaking(IterableDataset):
        def __iter__(self):
            yield from range(3)
            raise ValueError("the stream broke")

    got = []
    loader = loader_class(Breaking(), batch_size=2, num_workers=num_workers, persistent_workers=False)
    error = raised(lambda: got.extend(batch.tolist() for batch in loader))
    assert type(error) is ValueError
    assert "the stream broke" in str(error)
    assert got == [[0, 1]] * max(1, num_workers)
