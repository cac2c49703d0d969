"""A side: which batches are timed, which are not, and when the loader is built anew."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import subprocess
import sys
import threading
import time

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from pytest_loaderperf.errors import LoaderError, ShortEpochError
from pytest_loaderperf.measurement import side as module
from pytest_loaderperf.measurement.side import Side
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


@pytest.mark.parametrize("late_ms", [1, 40])
def test_a_ready_batch_that_comes_a_little_late_does_not_end_the_untimed_ones_of_a_slow_loader(make_side, late_ms):
    class Two(Ticking):
        """Two workers make a batch each in 10 s; after a rest four are ready."""

        def __iter__(self):
            for ms in itertools.cycle([10_000, 1, 10_000, 1, 1, late_ms, 1, 1]):
                self.now_ns += ms * 1_000_000
                yield X

    side = make_side(Two(prefetch_depth=4))
    side.start()
    side.slow = True
    side.take(3)
    assert side.steady(2).latencies_ns == (10_000_000_000, 1_000_000)


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
    assert len(side.starts) == len(side.epochs) == 1


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


@pytest.fixture
def helper():
    """Starts a thread, which ends with the test."""
    stop = threading.Event()
    threads = []

    def start():
        threads.append(threading.Thread(target=stop.wait))
        threads[-1].start()

    yield start
    stop.set()
    for thread in threads:
        thread.join()


def test_a_loader_that_starts_a_thread_late_in_an_epoch_is_given_sixteen_from_then_on(make_side, helper):
    class Late(Ticking):
        def __iter__(self):
            for number, batch in enumerate(super().__iter__()):
                if number == 9:
                    helper()
                yield batch

    side = make_side(Late())
    side.start()
    side.take(8)
    assert (side.inline, side.warmup_batches) == (True, 1)
    side.take(2)
    assert (side.inline, side.warmup_batches) == (False, 16)


def test_a_loader_that_starts_a_process_late_is_waited_for_with_it(make_side):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as others:
        started = []

        def late():
            yield from [X] * 4
            started.append(subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE))
            yield from [X] * 4

        side = make_side(late)
        side.start()
        assert side.inline
        side.take(5)
        started[0].communicate(b"\n")
        others.communicate(b"\n")
    assert not side.inline
    assert started[0].pid in side.children


@pytest.mark.parametrize("late_build, late_epoch", [(1, 2), (2, 1)], ids=["second epoch", "second build"])
def test_helpers_that_begin_in_a_later_epoch_or_build_are_noticed(make_side, helper, late_build, late_epoch):
    builds = []

    class Late:
        def __init__(self):
            builds.append(1)
            self.epochs = 0

        def __iter__(self):
            self.epochs += 1
            if (len(builds), self.epochs) == (late_build, late_epoch):
                helper()
            return iter([X] * 4)

    side = make_side(Late)
    side.start()
    assert side.inline
    if late_build == 2:
        side.build()
    side.start()
    assert (side.inline, side.warmup_batches) == (False, 16)


def test_helpers_that_others_have_started_meanwhile_are_not_its_own(make_side, helper):
    side = make_side(lambda: [X] * 12)
    helper()
    side.start()
    helper()
    side.take(4)
    helper()
    side.build()
    side.start()
    assert side.inline


def test_epochs_that_vary_count_as_the_shortest_of_late_and_the_error_says_so(make_side):
    lengths = iter([9, 3, 7])

    class Varying:
        def __iter__(self):
            return iter([X] * next(lengths))

    side = make_side(Varying)
    for _ in range(2):
        side.finish_epoch()
    assert side.epoch_batches == 3
    assert "the loader gives 3 to 9 batches an epoch, but a trial needs" in str(side.short_epoch_error())


def test_a_loader_that_turns_the_collector_off_or_on_leaves_it_as_it_was(make_side):
    class Toggles:
        def __init__(self):
            gc.disable()

        def __iter__(self):
            gc.disable()
            return iter([X] * 4)

    try:
        make_side(Toggles).start()
        assert gc.isenabled()
    finally:
        gc.enable()


class Stamps(Dataset):
    """Each sample says when it was made, by the machine's clock, and counts itself in ``made``."""

    def __init__(self, made):
        self.made = made

    def __len__(self):
        return 400

    def __getitem__(self, index):
        made_ns = time.monotonic_ns()
        with self.made:
            self.made.value += 1
        return made_ns


@pytest.mark.skipif(sys.platform != "linux", reason="needs one clock for all processes, and fork")
@pytest.mark.filterwarnings("ignore:This DataLoader will create 8 worker processes")
def test_no_timed_batch_was_made_before_its_trial_with_eight_workers_that_prefetch_two_each(make_side):
    workers, factor = 8, 2
    made, taken = multiprocessing.Value("q", 0), []

    def count(stamps):
        taken.append(int(stamps.min()))
        return len(stamps)

    side = make_side(
        lambda: DataLoader(
            Stamps(made), 1, num_workers=workers, prefetch_factor=factor, multiprocessing_context="fork"
        ),
        count=count,
    )
    side.start()
    for batches in (16, 40):
        deadline_s = time.monotonic() + 60
        while made.value < side.taken + workers * factor:  # all that they may make unasked lies ready
            assert time.monotonic() < deadline_s
            time.sleep(0.01)
        taken.clear()
        began_ns = time.monotonic_ns()
        side.steady(batches)
        untimed, timed = taken[:-batches], taken[-batches:]
        assert len(untimed) == workers * factor
        assert max(untimed) < began_ns < min(timed)


@pytest.mark.parametrize(
    "late, count, words",
    [
        (
            [],
            None,
            "list inside an epoch: IndexError: list index out of range. Expected what the first batch's structure",
        ),
        (None, None, "NoneType inside an epoch: TypeError: 'NoneType' object is not subscriptable. Expected what the"),
        (
            [],
            lambda batch: next(iter(batch)).shape[0],
            "list inside an epoch: StopIteration. Expected what count= takes",
        ),
    ],
)
def test_a_batch_that_cannot_be_counted_is_told_from_an_end_and_from_a_fault_of_the_loader(
    make_side, late, count, words
):
    side = make_side(lambda: [[X, 3]] * 6 + [late] + [[X, 3]] * 6, count=count)
    with pytest.raises(LoaderError) as caught:
        side.steady(8)
    assert str(caught.value).startswith(f"the loader: cannot count the samples of a {words}")


def test_an_empty_batch_inside_an_epoch_counts_as_none(make_side):
    side = make_side(lambda: [X] * 4 + [X[:0]] + [X] * 4)
    assert side.finish_epoch().samples == 32
