"""Loaders whose work is known."""

from __future__ import annotations

import pickle
import threading
from itertools import islice

import numpy as np
import pytest
from torch.utils.data import DataLoader

from pytest_loaderperf.runs import known_work
from pytest_loaderperf.runs.known_work import (
    BATCHES,
    BURST_COST,
    BURST_EVERY,
    HandedOver,
    KnownSamples,
    Work,
    make_loader,
)


@pytest.fixture
def spent(monkeypatch):
    """Operations are counted, not done."""
    done = []

    def spend(operations, *, releases_gil=False):
        done.append(operations)

    monkeypatch.setattr(known_work, "spend", spend)
    return done


def helpers():
    return [thread for thread in threading.enumerate() if thread.name == "known-work"]


@pytest.mark.parametrize("kind", [{}, {"threads": 1}])
def test_the_work_of_a_batch_is_what_was_asked_for(spent, kind):
    loader = Work(7, **kind).loader()
    assert len(list(loader)) == len(loader) == BATCHES
    assert spent == [7] * BATCHES


def test_the_samples_of_a_batch_of_workers_share_its_work(spent):
    work = Work(8, workers=1)
    loader = work.loader()
    assert isinstance(loader, DataLoader)
    assert (loader.num_workers, loader.batch_size, len(loader)) == (1, 4, BATCHES)
    assert [loader.dataset[index] for index in range(4)] == [0, 1, 2, 3]
    assert spent == [2] * 4


@pytest.mark.parametrize("kind", [{}, {"threads": 2}, {"workers": 1}])
def test_bursts_are_every_50th_batch_and_grow_with_the_work(kind):
    work = Work(10, bursts=True, **kind)
    costs = [work.operations_of(number) for number in range(BATCHES)]
    assert [number for number, cost in enumerate(costs) if cost != 10] == [
        *range(BURST_EVERY - 1, BATCHES, BURST_EVERY)
    ]
    assert max(costs) == 10 * BURST_COST
    slower = work.times(1.5)
    assert [slower.operations_of(number) for number in range(BATCHES)] == [1.5 * cost for cost in costs]


def test_each_worker_has_bursts_of_its_own():
    work = Work(10, workers=2, bursts=True)
    costs = [work.operations_of(number) for number in range(BATCHES)]
    for worker in range(2):
        assert costs[worker::2].count(10 * BURST_COST) == BATCHES // 2 // BURST_EVERY


def test_work_lasts_as_long_as_asked_for_on_a_machine_that_is_measured(monkeypatch):
    asked = []
    monkeypatch.setattr(known_work, "operations_a_second", lambda *, releases_gil: asked.append(releases_gil) or 1e6)
    assert Work(1, workers=2).lasting(3) == Work(3_000, workers=2)
    assert Work(1, threads=2).lasting(0.12) == Work(120, threads=2)
    assert asked == [False, True]


@pytest.mark.parametrize("releases_gil", [False, True])
def test_operations_a_second_are_counted_at_the_quickest(monkeypatch, releases_gil):
    clock, took_s = [0.0], iter([0.5, 0.25, *[1.0] * 18])

    def spend(operations, *, releases_gil):
        clock[0] += next(took_s)

    monkeypatch.setattr(known_work, "spend", spend)
    monkeypatch.setattr(known_work.time, "perf_counter", lambda: clock[0])
    assert known_work.operations_a_second(releases_gil=releases_gil) == 20_000 / 0.25


@pytest.mark.parametrize("releases_gil", [False, True])
def test_the_unit_of_work_is_done_as_often_as_asked(monkeypatch, releases_gil):
    done = []
    monkeypatch.setattr(known_work, "deque", lambda steps, maxlen: done.append(len(list(steps))))
    monkeypatch.setattr(known_work.hashlib, "pbkdf2_hmac", lambda name, password, salt, n: done.append(n))
    known_work.spend(9, releases_gil=releases_gil)
    assert done == [9]


def test_a_batch_is_an_array_of_samples_from_a_worker_and_through_a_dear_hand_over(spent):
    for work in (Work(4, workers=1), Work(4, workers=1, handover=11)):
        assert [batch.tolist() for batch in islice(make_loader(**vars_of(work)), 2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert spent == [11] * len(spent)
    assert len(spent) >= 2


def vars_of(work):
    return {name: getattr(work, name) for name in work.__slots__}


def test_a_hand_over_is_paid_by_whoever_unpickles_the_batch(spent):
    sent = pickle.dumps(HandedOver(11)([5, 6]))
    assert spent == []
    received = pickle.loads(sent)  # noqa: S301 our own
    assert spent == [11]
    assert np.array_equal(received, [5, 6])


def test_threads_end_with_the_epoch_and_with_one_that_is_left(spent):
    loader = Work(1, threads=3).loader()
    running = iter(loader)
    assert next(running).shape == (1,)
    assert len(helpers()) == 3
    running.close()
    assert helpers() == []
    assert len(list(loader)) == BATCHES
    assert helpers() == []
    assert len(KnownSamples(Work(1))) == 4 * BATCHES
