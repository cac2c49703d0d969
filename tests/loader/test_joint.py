"""The first and the last batch of an epoch, of which each thread makes a part."""

from __future__ import annotations

import threading
from contextlib import suppress

import numpy as np
import pytest
import torch

from pytest_loaderperf.data.execution.job import Job
from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader
from pytest_loaderperf.loader.fetch import Joint

BATCH_SIZE = 8
SAMPLES = 4 * BATCH_SIZE
LARGE = 5_000  # int64 of a sample: such are written row by row once their fields are known


class Noting:
    """Notes which thread made which sample; ``fails`` raise. With ``both``, the threads wait for each other."""

    def __init__(self, size=1, fails=(), both=()):
        self.size, self.fails, self.both = size, fails, both
        self.threads = {}
        self.barrier = threading.Barrier(2, timeout=30)

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        if index in self.both:
            self.barrier.wait()
        self.threads[index] = threading.get_ident()
        if index in self.fails:
            raise ValueError(f"sample {index} is damaged")
        return torch.full((self.size,), index), index


def loader_of(dataset, **arguments):
    return ReferenceLoader(dataset, BATCH_SIZE, num_workers=2, worker_kind="threads", **arguments)


@pytest.mark.parametrize("size", [1, LARGE])
@pytest.mark.parametrize("first_of_batch", [0, SAMPLES - BATCH_SIZE], ids=["first", "last"])
def test_two_threads_make_it_at_once(first_of_batch, size):
    both = {first_of_batch, first_of_batch + BATCH_SIZE // 2}  # one in each half: a single thread would wait for ever
    dataset = Noting(size, both=both)
    with loader_of(dataset) as loader:
        for _epoch in range(2):
            assert [numbers.tolist() for _, numbers in loader] == np.arange(SAMPLES).reshape(4, -1).tolist()
            assert len({dataset.threads[index] for index in both}) == 2


@pytest.mark.parametrize("size", [1, LARGE])
@pytest.mark.parametrize(
    ("fails", "lost"), [({2}, 0), ({6}, 0), ({6, 2, 3}, 0), ({10}, 1), ({SAMPLES - 1}, 3), ({SAMPLES - 8, 30}, 3)]
)
def test_the_first_sample_that_fails_is_that_of_the_batch_and_the_others_come(fails, lost, size):
    dataset = Noting(size)
    with loader_of(dataset) as loader:
        assert len(list(loader)) == 4
        dataset.fails = fails
        came, iterator = [], iter(loader)
        for number in range(4):
            if number == lost:
                with pytest.raises(ValueError, match=f"sample {min(fails)} is damaged") as caught:
                    next(iterator)
                assert caught.value.__notes__ == [f"raised in stage fetch, for sample {min(fails)}"]
            else:
                came.append(next(iterator)[1][0].item() // BATCH_SIZE)
        assert came == [number for number in range(4) if number != lost]
        with pytest.raises(StopIteration):
            next(iterator)
        dataset.fails = ()
        assert len(list(loader)) == 4


def test_an_order_of_unknown_length_has_a_first_batch_of_two_threads_only():
    dataset = Noting(both={0, BATCH_SIZE // 2})
    with loader_of(dataset, sampler=list(range(SAMPLES))) as loader:
        assert [numbers[0].item() for _, numbers in loader] == [0, 8, 16, 24]
        dataset.both = {0, BATCH_SIZE // 2}
        iterator = iter(loader)
        next(iterator)
        assert len({dataset.threads[0], dataset.threads[BATCH_SIZE // 2]}) == 2


@pytest.mark.parametrize("writes", [False, True])
@pytest.mark.parametrize(
    "odd",
    [
        lambda pixels, index: [pixels, index],
        lambda pixels, index: (pixels, float(index)),
        lambda pixels, index: (pixels.float(), index),
        lambda pixels, index: (pixels, index, index),
        lambda pixels, index: (pixels[:-1], index),
        lambda pixels, _index: (pixels, 1 << 70),
    ],
    ids=["a list", "a float", "another dtype", "one more", "another shape", "no int64"],
)
@pytest.mark.parametrize("at", [{0}, {3}, {4}, {7}, {4, 5, 6, 7}], ids=str)
def test_samples_unlike_those_before_make_the_batch_or_the_error_that_one_thread_makes(at, odd, writes):
    class Odd(Noting):
        is_odd = False

        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return odd(*sample) if self.is_odd and index % BATCH_SIZE in at else sample

        def into(self, index, out):
            sample = self[index]
            if type(sample) is tuple and len(sample) == 2 and sample[0].shape == out[0].shape:
                out[0].copy_(sample[0])
                return (out[0], *sample[1:]) if sample[0].dtype == out[0].dtype else sample
            return sample

    if writes:
        Odd.__getitem_into__ = Odd.into

    def outcome(workers):
        dataset = Odd(LARGE)
        with ReferenceLoader(dataset, BATCH_SIZE, num_workers=workers, worker_kind="threads") as loader:
            assert len(list(loader)) == 4
            dataset.is_odd = True
            try:
                return [(type(batch), [part.sum().item() for part in batch]) for batch in loader]
            except Exception as error:  # noqa: BLE001 whatever it is, it is the same
                return type(error), str(error), error.__notes__

    assert outcome(2) == outcome(0)


def test_all_samples_of_another_kind_are_a_batch_of_that_kind():
    class Changing(Noting):
        kind = tuple

        def __getitem__(self, index):
            return self.kind(super().__getitem__(index))

    dataset = Changing(LARGE)
    with loader_of(dataset, collate_fn=None) as loader:
        list(loader)
        dataset.kind = list
        assert [numbers.tolist() for _, numbers in loader] == np.arange(SAMPLES).reshape(4, -1).tolist()


@pytest.mark.parametrize("size", [1, LARGE])
@pytest.mark.parametrize("batches", [[[]], [[0, 1], []]])
def test_a_batch_without_samples_is_an_error(batches, size):
    with loader_of_batches([[0, 1, 2], [3]], size) as loader:
        assert [numbers.tolist() for _, numbers in loader] == [[0, 1, 2], [3]]
        loader.batch_sampler[:] = batches
        with pytest.raises(DataError, match="the batch has no samples"):
            list(loader)


def loader_of_batches(batches, size):
    return ReferenceLoader(Noting(size), batch_sampler=list(batches), num_workers=2, worker_kind="threads")


def test_a_batch_smaller_than_the_threads_is_made_whole():
    with ReferenceLoader(Noting(), 2, num_workers=5, worker_kind="threads") as loader:
        assert [numbers.tolist() for _, numbers in loader] == np.arange(SAMPLES).reshape(-1, 2).tolist()


def test_a_timeout_is_that_of_the_first_batch_as_well():
    finish = threading.Event()

    def collate(samples):
        assert finish.wait(60)
        return samples

    with loader_of(Noting(), collate_fn=collate, timeout=0.1) as loader:
        iterator = iter(loader)
        with pytest.raises(RuntimeError, match=r"timed out after 0\.1 seconds"):
            next(iterator)
        finish.set()


def test_the_consumer_neither_fetches_nor_collates():
    dataset, collated_by = Noting(LARGE), []

    def collate(samples):
        collated_by.append(threading.get_ident())
        return samples

    with loader_of(dataset, collate_fn=collate) as loader:
        assert len(list(loader)) == len(collated_by) == 4
    with loader_of(dataset) as loader:
        for size in (LARGE, LARGE + 1):  # the second epoch begins with another shape than its rows have
            dataset.size = size
            assert [pixels.shape[1] for pixels, _ in loader] == [size] * 4
    assert threading.get_ident() not in {*dataset.threads.values(), *collated_by}


def test_an_interrupt_of_the_consumer_loses_neither_the_first_nor_the_last_batch(monkeypatch):
    wait, interrupts = Job.wait, []

    def interrupted(job, timeout_s):
        wait(job, timeout_s)
        if threading.current_thread() is not threading.main_thread():
            return
        interrupts.append(job)
        if interrupts.count(job) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Job, "wait", interrupted)
    with loader_of(Noting(LARGE)) as loader:
        for _epoch in range(2):
            came, iterator = [], iter(loader)
            while len(came) < 4:
                with suppress(KeyboardInterrupt):
                    came.append(next(iterator)[1].tolist())
                assert loader.state_dict()["batches"] == len(came) % 4
            assert came == np.arange(SAMPLES).reshape(4, -1).tolist()
            with pytest.raises(StopIteration):
                next(iterator)


@pytest.mark.parametrize("ends", [[5, [0, 1], [2, 3]], [[0, 1], 5, [2, 3]]])
def test_batches_after_one_that_is_no_list_still_come(ends):
    with ReferenceLoader(Noting(), batch_sampler=ends, num_workers=2, worker_kind="threads") as loader:
        came, iterator = [], iter(loader)
        for _batch in ends:
            try:
                came.append(next(iterator)[1].tolist())
            except TypeError:
                came.append(5)
        assert came == ends
        with pytest.raises(StopIteration):
            next(iterator)


def test_a_part_that_an_interrupt_has_kept_from_its_thread_is_made_with_the_last_one():
    with loader_of(Noting()) as loader:
        fetch = loader._engine
        *_lost, last = Joint(fetch, list(range(BATCH_SIZE))).tasks()
        (_, numbers), _slab = last()
        assert numbers.tolist() == list(range(BATCH_SIZE))
