"""What is ready before it is asked for: as the loader says, or as it is seen from how quickly batches come."""

from __future__ import annotations

import random
import threading

import pytest
import torch

from pytest_loaderperf.measurement import side as module
from pytest_loaderperf.measurement.prefetched import Ready, ready_at_first
from pytest_loaderperf.measurement.side import Side
from pytest_loaderperf.measurement.watchdog import Watchdog

X = torch.zeros(4, 8)
READY_NS, WAIT_NS = 10_000, 1_000_000


class Loader:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


@pytest.mark.parametrize(
    "waits_ns, ready",
    [
        ([], 0),
        ([1], 0),
        ([5] * 100, 0),
        ([1] * 32 + [10] * 60, 32),
        ([3, 1] * 16 + [20, 0] * 40, 32),  # two batches of each volume: the second one is always ready
        ([6] * 32 + [10] * 60, 0),  # quicker, as of a cache, but not ready
        ([1] * 85 + [10] * 15, 76),  # no more than three quarters of what was seen; the next trial sees farther
        (([1] * 9 + [41]) * 32, 9),  # bursts: so many are ready at once
    ],
)
def test_what_comes_far_more_quickly_at_first_was_ready(waits_ns, ready):
    assert ready_at_first([1_000_000 * wait for wait in waits_ns]) == ready


def test_a_disturbance_or_two_are_not_taken_for_waits():
    draw = random.Random(2)  # noqa: S311 a series that is the same each time
    for _ in range(200):
        waits_ns = [20_000] * 600
        for place in (draw.randrange(600), draw.randrange(450)):
            waits_ns[place] = 30_000_000
        assert ready_at_first(waits_ns) == 0


def test_what_shortens_a_trial_by_less_than_can_be_noticed_is_left():
    assert ready_at_first([1_000] * 50 + [50_000] * 50) == 0
    assert ready_at_first([1_000] * 200 + [50_000] * 200) == 200


def test_noise_around_the_pace_is_not_taken_for_batches_that_were_ready():
    draw = random.Random(1)  # noqa: S311 a series that is the same each time
    for _ in range(200):
        assert ready_at_first([round(draw.lognormvariate(13, 0.5)) for _ in range(60)]) <= 8


@pytest.mark.parametrize(
    "loader, works_aside, said, unknown",
    [
        (Loader(), False, 0, False),
        (Loader(), True, 16, True),
        (Loader(num_workers=2, prefetch_factor=3), True, 6, False),
        (Loader(num_workers=2), True, 16, True),
        (Loader(num_workers=0), False, 0, False),
        (Loader(num_workers=0), True, 0, True),  # workers inside its dataset
        (Loader(prefetch_depth=7), True, 7, False),
        ([X], True, 0, False),
    ],
)
def test_what_a_loader_says_is_believed_unless_it_denies_what_is_seen(loader, works_aside, said, unknown):
    ready = Ready()
    ready.ask(loader, works_aside=works_aside)
    assert (ready.said, ready.unknown, ready.batches(None)) == (said, unknown, said)


def test_what_was_seen_leaves_half_of_an_epoch_to_time():
    for loader, expected in ((Loader(), [128, 128, 60, 16, 16]), (Loader(num_workers=0), [128, 128, 60, 10, 2])):
        ready = Ready()
        ready.ask(loader, works_aside=True)
        ready.note([READY_NS] * 100 + [WAIT_NS] * 120)
        assert [ready.batches(epoch) for epoch in (None, 1000, 120, 20, 6)] == expected


def test_a_loader_that_is_always_ahead_is_searched_thrice_and_not_for_ever():
    ready = Ready()
    ready.ask(Loader(), works_aside=True)
    assert not ready.more([1] * 1024)
    assert not ready.more([60_000_000] * 2)
    for _ in range(3):
        assert ready.more([READY_NS] * 100)
        ready.note([READY_NS] * 200)
    assert not ready.more([READY_NS] * 16)
    assert ready.batches(None) == 16


class Hidden:
    """Has ``depth`` batches ready after each pause, by a clock of its own; says that it has no workers."""

    num_workers = 0

    def __init__(self, depth):
        self.depth = depth
        self.now_ns = 0
        self.stop = threading.Event()
        self.pause()

    def pause(self):
        self.ready = self.depth

    def __iter__(self):
        thread = threading.Thread(target=self.stop.wait, daemon=True)
        thread.start()
        while True:
            self.now_ns += READY_NS if self.ready > 0 else WAIT_NS
            self.ready -= 1
            yield X


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("depth", [8, 32, 300])
def test_no_trial_is_flattered_by_what_hidden_workers_had_ready(monkeypatch, depth, slow):
    loader, watchdog = Hidden(depth), Watchdog(60, pytest.fail)
    monkeypatch.setattr(module, "_clock", lambda: loader.now_ns)
    side = Side("loader", lambda: loader, watchdog, count=None, deliver=None)
    try:
        side.start()
        side.slow = slow
        for _ in range(6):
            loader.pause()
            assert side.steady(64).latencies_ns == (WAIT_NS,) * 64
        assert depth <= side.warmup_batches < 2 * depth
    finally:
        loader.stop.set()
        watchdog.close()
