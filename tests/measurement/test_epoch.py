"""A whole epoch: where it begins, what belongs to it, and that one without an end is told."""

from __future__ import annotations

import contextlib
import gc
import itertools
import re
import time

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Sampler, TensorDataset

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement import Epoch, Side, epoch
from pytest_loaderperf.measurement.activity import child_pids
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.epoch import Patience, Tally, endless_part
from pytest_loaderperf.measurement.observations import Resources
from pytest_loaderperf.measurement.record import EpochRecord
from pytest_loaderperf.measurement.watchdog import Watchdog

X = torch.zeros(4, 8)
CONDITIONS = Conditions.now()


@pytest.fixture
def make_side():
    watchdogs, sides = [], []

    def make(source, timeout_s=60, **reading):
        watchdogs.append(Watchdog(timeout_s, pytest.fail))
        sides.append(Side("loader", source, watchdogs[-1], **{"count": None, "deliver": None} | reading))
        return sides[-1]

    yield make
    for side in sides:
        side.close()
    for watchdog in watchdogs:
        watchdog.close()


class Sleeps:
    """Sleeps at the start of an epoch, before each batch, once inside and at its end."""

    START_S, BATCH_S, STALL_S, EXIT_S, BATCHES = 0.02, 0.001, 0.03, 0.04, 12

    def __init__(self):
        self.begun = 0

    def __iter__(self):
        self.begun += 1
        time.sleep(self.START_S)
        try:
            for number in range(self.BATCHES):
                time.sleep(self.STALL_S if number == 7 else self.BATCH_S)
                yield X
        finally:
            time.sleep(self.EXIT_S)


def test_an_epoch_is_timed_from_iter_to_release_with_what_goes_by_at_either_end(make_side):
    side = make_side(Sleeps)
    record = side.observe(Epoch(), 4, CONDITIONS)
    assert record.first_batch_ns >= 0.021e9
    assert record.longest_ns >= 0.03e9
    assert record.exit_ns >= 0.04e9
    assert record.epoch_ns >= 0.1e9 == (0.02 + 11 * 0.001 + 0.03 + 0.04 - 0.001) * 1e9
    assert record.epoch_ns == record.first_batch_ns + record.waits_ns + record.exit_ns
    assert (record.batches, record.samples, record.whole) == (12, 48, True)
    assert side.epochs == [record]


def test_the_rest_of_a_running_epoch_is_no_whole_one(make_side):
    side = make_side(lambda: [X] * 12)
    side.steady(4)
    side.finish_epoch()
    assert [(record.batches, record.whole) for record in side.epochs] == [(12, False)]
    side.observe(Epoch(), 4, CONDITIONS)
    assert [(record.batches, record.whole) for record in side.epochs] == [(12, False), (12, True)]


class GoesOn:
    """A loader whose iterators go on where the last one was left, until its epoch has ended."""

    def __init__(self):
        self.left = iter([X] * 12)

    def __iter__(self):
        yield from self.left
        self.left = iter([X] * 12)


class Shared(IterableDataset):
    def __init__(self):
        self.loader = GoesOn()

    def __iter__(self):
        return iter(self.loader)


@pytest.mark.parametrize(
    "source",
    [
        GoesOn,
        GoesOn(),
        lambda: DataLoader(Shared(), batch_size=None, collate_fn=lambda batch: batch),
        lambda: (X for _ in range(12)),
        lambda: DataLoader(TensorDataset(torch.zeros(48, 8)), 4),
        [X] * 12,
    ],
    ids=["factory", "object", "iterable dataset", "generator", "map-style", "list"],
)
def test_an_epoch_left_in_the_middle_takes_nothing_from_the_next(make_side, source):
    side = make_side(source, count=len)
    side.start()
    side.take(5)
    records = [side.observe(Epoch(), 4, CONDITIONS) for _ in range(2)]
    assert [(record.batches, record.whole) for record in records] == [(12, True)] * 2


def test_a_loader_that_gives_one_epoch_in_its_life_is_built_for_each(make_side):
    built = []

    class Once:
        def __init__(self):
            built.append(1)
            self.left = iter([X] * 12)

        def __iter__(self):
            return self.left

    side = make_side(Once)
    assert [side.observe(Epoch(), 4, CONDITIONS).batches for _ in range(3)] == [12] * 3
    assert len(built) == 3


def test_workers_that_persist_are_those_of_the_epoch_before(make_side):
    def loader(*, persistent):
        return DataLoader(TensorDataset(torch.zeros(48, 8)), 4, num_workers=1, persistent_workers=persistent)

    for persistent in (True, False):
        others = set(child_pids())
        side = make_side(lambda persistent=persistent: loader(persistent=persistent))
        started = set()
        for _ in range(2):
            side.observe(Epoch(), 4, CONDITIONS)
            started |= set(side.children) - others
        side.close()
        assert len(started) == (1 if persistent else 2)


def test_an_epoch_after_a_start_of_persistent_workers_does_not_pay_for_starting_them(make_side):
    begun = []

    class Persists(DataLoader):
        def __iter__(self):
            begun.append(1)
            return super().__iter__()

    side = make_side(lambda: Persists(TensorDataset(torch.zeros(48, 8)), 4, num_workers=1, persistent_workers=True))
    side.observe(Epoch(), 4, CONDITIONS)
    assert len(begun) == 2
    side.observe(Epoch(), 4, CONDITIONS)
    assert len(begun) == 3


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_on_during_a_whole_epoch_and_as_before_after_it(make_side, was_on):
    seen = []

    def notes():
        for _ in range(12):
            seen.append(gc.isenabled())
            yield X

    side = make_side(notes)
    (gc.enable if was_on else gc.disable)()
    try:
        side.observe(Epoch(), 4, CONDITIONS)
        assert gc.isenabled() is was_on
    finally:
        gc.enable()
    assert seen == [True] * 12


def test_leaving_an_epoch_is_timed_before_its_end_and_at_its_end(make_side):
    side = make_side(Sleeps)
    side.start()
    side.drop_epoch()
    assert side.release_seconds >= 0.04
    side.release_seconds = 0.0
    side.drop_epoch()  # nothing to leave
    assert side.release_seconds == 0.0
    side.finish_epoch()
    assert side.release_seconds >= 0.04


class Silent:
    """Nothing tells that it has no end."""

    def __iter__(self):
        return self

    def __next__(self):
        return X


@pytest.mark.parametrize("kind", ["epoch", "rest"])
def test_a_loader_without_an_end_is_an_error_within_the_time_out(make_side, kind):
    side = make_side(Silent, timeout_s=0.3)
    words = (
        r"^the loader: expected an epoch that ends, got [\d,]+ batches in \d\.\d s and no end\. A loader without an "
        r"end has no epoch, epoch_throughput or epoch_exit: compare throughput and first_batch, or measure a part of "
        r"it, such as itertools\.islice\(loader, 1000\)\. If the epoch is only long, give the loader a length "
        r"\(__len__\), or set loaderperf_timeout \(seconds\) higher\.$"
    )
    with pytest.raises(LoaderError, match=words):
        side.observe(Epoch(), 4, CONDITIONS) if kind == "epoch" else side.finish_epoch()


def around_and_around(items=(X,)):
    while True:
        yield from items


def by_way_of_another():
    yield X
    yield from around_and_around()


def until_it_is_told():
    with contextlib.suppress(KeyError):
        while True:
            yield X


def until_a_number():
    number = 0
    while True:
        if number == 9:
            return
        number += 1
        yield X


class Stream(IterableDataset):
    def __iter__(self):
        while True:
            try:
                yield X
            finally:
                gc.isenabled()


class Indices(Sampler):
    def __iter__(self):
        return around_and_around([0, 1])


class EndlessIndices(Sampler):
    def __iter__(self):
        while True:
            yield 0


class Cut(DataLoader):
    def __iter__(self):
        return itertools.islice(super().__iter__(), 9)


class Batches:
    def __iter__(self):
        return itertools.cycle([X])


@pytest.mark.parametrize(
    "factory, got",
    [
        (lambda: itertools.cycle([X]), "a cycle"),
        (Batches, "a cycle"),
        (lambda: itertools.repeat(X), "a repeat without a number of times"),
        (around_and_around, "the generator around_and_around(), which has no way out of its loop"),
        (by_way_of_another, "the generator around_and_around(), which has no way out of its loop"),
        (lambda: DataLoader(Stream(), 4), "the generator Stream.__iter__(), which has no way out of its loop"),
        (
            lambda: DataLoader(TensorDataset(X), 4, sampler=EndlessIndices()),
            "the generator EndlessIndices.__iter__(), which has no way out of its loop",
        ),
    ],
)
def test_what_is_known_to_be_endless_is_an_error_at_once(make_side, factory, got):
    side = make_side(factory)
    side.start()
    side.take(3)
    words = f"the loader: expected an epoch that ends, got {got}. A loader without an end has no epoch, epoch_through"
    with pytest.raises(LoaderError, match=f"^{re.escape(words)}"):
        side.finish_epoch()
    assert side.taken == 4  # no batch was asked for to find out


@pytest.mark.parametrize(
    "factory",
    [
        until_a_number,
        lambda: itertools.repeat(X, 9),
        lambda: Cut(Stream(), 4),
        lambda: DataLoader(TensorDataset(X), 4),
        lambda: (X for _ in range(9)),
    ],
)
def test_what_may_have_an_end_is_run_to_it(make_side, factory):
    assert make_side(factory).finish_epoch().batches in (1, 9)


@pytest.mark.parametrize(
    "part", [until_it_is_told(), Silent(), object(), DataLoader(TensorDataset(X), sampler=Indices())]
)
def test_what_is_not_known_to_be_endless_is_not_called_so(part):
    assert endless_part(part, None) == ""


@pytest.fixture
def clock(monkeypatch):
    """Its ``now_s`` is the time."""

    class Clock:
        now_s = 0.0

    monkeypatch.setattr(epoch.time, "monotonic", lambda: Clock.now_s)
    return Clock


class Long:
    def __len__(self):
        return 1_000_000


@pytest.mark.parametrize(
    "loader, ends, seconds, batches",
    [
        (Silent(), False, 9, 1_000_000),
        (Silent(), False, 11, 10_000),
        (Silent(), True, 10**6, 10**6),
        (Long(), False, 10**6, 1_000_000),
    ],
)
def test_patience_lasts_while_a_length_or_an_earlier_epoch_promises_an_end(clock, loader, ends, seconds, batches):
    patience = Patience("the loader", loader, 60, ends=ends)
    clock.now_s = seconds
    patience.check(batches)


@pytest.mark.parametrize(
    "loader, seconds, batches", [(Silent(), 11, 10_001), (Silent(), 61, 100), (Long(), 61, 1_000_001)]
)
def test_patience_ends_where_nothing_promises_an_end(clock, loader, seconds, batches):
    patience = Patience("the loader", loader, 60, ends=False)
    clock.now_s = seconds
    with pytest.raises(LoaderError, match=f"got {batches:,} batches in {seconds}.0 s and no end"):
        patience.check(batches)


def test_the_clock_is_looked_at_less_and_less_but_a_few_times_a_second(clock):
    patience = Patience("the loader", [X], 60, ends=True)
    asked = []
    for _ in range(20):
        clock.now_s += patience.batches * 0.001
        asked.append(patience.batches)
        patience.check(1)
    assert asked[:4] == [16, 32, 64, 128]
    assert 0.25 <= max(asked) * 0.001 < 0.6


def test_a_tally_adds_up_what_an_epoch_gave():
    tally = Tally(100, 4)
    tally.add([10, 30], 8)
    tally.add([], 0)
    tally.add([20], 3)
    assert tally.ended(7, whole=True) == EpochRecord(100, 60, 30, 7, 4, 15, whole=True)


class Burns(torch.utils.data.Dataset):
    """Each sample takes 2 ms of CPU time."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        began_s = time.thread_time()
        while time.thread_time() - began_s < 0.002:
            pass
        return X[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_cpu_time_of_workers_that_end_with_the_epoch_counts(make_side, workers):
    side = make_side(lambda: DataLoader(Burns(), 4, num_workers=workers))
    record = side.observe(Resources(), 4, CONDITIONS)
    assert record.samples == 40
    assert record.cpu_ns >= 40 * 0.002e9 * 0.9  # the system counts in ticks
