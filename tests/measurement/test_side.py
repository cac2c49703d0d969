"""A side: which batches are timed, which are not, and when the loader is built anew."""

from __future__ import annotations

import threading

import pytest
import torch

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement import side as module
from pytest_loaderperf.measurement.side import ShortEpochError, Side
from pytest_loaderperf.measurement.watchdog import Watchdog

X = torch.zeros(4, 8)


class Ticking:
    """A loader whose ``i``-th batch (from 1, over all epochs) takes ``i`` ns of a clock of its own."""

    def __init__(self, length=100, **attributes):
        self.length = length
        self.now_ns = 0
        self.taken = 0
        self.__dict__.update(attributes)

    def __len__(self):
        return self.length

    def __iter__(self):
        for _ in range(self.length):
            self.taken += 1
            self.now_ns += self.taken
            yield X


@pytest.fixture
def make_side(monkeypatch):
    watchdog = Watchdog(60, pytest.fail)

    def make(source, count=None, deliver=None):
        if isinstance(source, Ticking):
            monkeypatch.setattr(module, "_clock", lambda: source.now_ns)
        return Side("loader", source, watchdog, count=count, deliver=deliver)

    yield make
    watchdog.close()


@pytest.mark.parametrize(
    "attributes, untimed",
    [
        ({}, 1),
        ({"prefetch_depth": 7}, 7),
        ({"prefetch_depth": 0}, 1),
        ({"num_workers": 2, "prefetch_factor": 3}, 6),
        ({"num_workers": 0, "prefetch_factor": None}, 1),
        ({"num_workers": 2}, 1),
    ],
)
def test_as_many_batches_as_may_be_prefetched_are_taken_untimed_before_each_trial(make_side, attributes, untimed):
    loader = Ticking(**attributes)
    side = make_side(loader)
    first, second = side.steady(5), side.steady(5)
    assert first.latencies_ns == tuple(range(untimed + 1, untimed + 6))
    assert second.latencies_ns == tuple(range(2 * untimed + 6, 2 * untimed + 11))
    assert (first.wall_ns, first.samples, first.nbytes) == (sum(first.latencies_ns), 20, 5 * 128)
    assert loader.taken == 2 * (untimed + 5)


def test_a_loader_with_threads_that_does_not_say_how_far_it_runs_ahead_is_given_sixteen(make_side):
    stop = threading.Event()

    def endless():
        threading.Thread(target=stop.wait, daemon=True).start()
        while True:
            yield X

    side = make_side(endless)
    side.start()
    stop.set()
    assert side.warmup_batches == 16


def test_a_loader_without_threads_or_processes_can_have_nothing_ready(make_side):
    def endless():
        while True:
            yield X

    side = make_side(endless)
    side.start()
    assert side.warmup_batches == 1


def test_a_slow_loader_needs_no_batch_to_warm_the_caches(make_side):
    side = make_side(Ticking())
    side.start()
    side.slow = True
    assert side.warmup_batches == 0
    assert len(side.steady(1).latencies_ns) == 1


def test_a_trial_that_the_epoch_cannot_hold_starts_a_new_one(make_side):
    loader = Ticking(length=10)
    side = make_side(loader)
    for _ in range(6):
        assert len(side.steady(6).latencies_ns) == 6
    assert side.epoch_batches == 10


def test_an_epoch_that_is_too_short_says_what_a_trial_needs(make_side):
    words = (
        "the loader gives 5 batches an epoch, but a trial needs at least 7: 3 untimed, as many as it may "
        "prefetch, and 4 timed. Use more samples, a smaller batch_size, or fewer workers."
    )
    side = make_side(Ticking(length=5, prefetch_depth=3))
    with pytest.raises(ShortEpochError, match=words):
        side.steady(4)


def test_the_first_batch_and_the_end_of_an_epoch_are_timed(make_side):
    side = make_side(Ticking(length=8))
    assert side.start().first_batch_ns == 1
    assert side.finish_epoch().exit_ns >= 0
    assert side.epoch_batches == 8
    assert len(side.starts) == len(side.exits) == 1


def test_delivery_is_part_of_a_batchs_latency(make_side):
    loader = Ticking()

    def deliver(batch):
        loader.now_ns += 1000
        return batch

    side = make_side(loader, deliver=deliver)
    assert side.start().first_batch_ns == 1001
    assert side.take(2).latencies_ns == (1002, 1003)


def test_counting_is_not_part_of_a_batchs_latency(make_side):
    loader = Ticking()

    def count(batch):
        loader.now_ns += 1000
        return 4

    side = make_side(loader, count=count)
    side.start()
    record = side.take(3)
    assert record.latencies_ns == (2, 3, 4)
    assert record.samples == 12


def test_a_factory_is_called_for_every_build_and_an_object_is_kept(make_side):
    made = []

    def factory():
        made.append(Ticking())
        return made[-1]

    side = make_side(factory)
    side.build()
    assert (side.rebuildable, len(made), side.loader) == (True, 2, made[1])
    kept = Ticking()
    side = make_side(kept)
    side.build()
    assert (side.rebuildable, side.loader) == (False, kept)


def test_a_class_of_loaders_is_a_factory(make_side):
    assert make_side(Ticking).rebuildable


def test_an_object_that_gives_one_epoch_only_is_refused_when_it_ends(make_side):
    class Once:
        left = iter([X] * 6)

        def __iter__(self):
            return self.left

    side = make_side(Once())
    side.finish_epoch()
    with pytest.raises(LoaderError, match=r"gave no batch after an epoch of 6. Expected at least one: .* factory"):
        side.start()


def test_closing_releases_the_loader_and_may_be_repeated(make_side):
    side = make_side(Ticking)
    side.start()
    side.close()
    side.close()
    assert (side.loader, side.iterator) == (None, None)
