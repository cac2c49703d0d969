"""Rounds: each side once, in random order, the collector off, loaders rebuilt now and then."""

from __future__ import annotations

import gc
import itertools
import random
import threading
import time
from dataclasses import dataclass, field
from itertools import repeat

import pytest
import torch

from pytest_loaderperf.errors import LoaderError, MeasureError
from pytest_loaderperf.measurement import Key, Refilled, Rounds, Side, Steady, Watchdog, rounds, standing
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.observations import Work
from pytest_loaderperf.measurement.record import StartRecord

X = torch.zeros(4, 8)


@dataclass(frozen=True)
class Noting:
    """A kind that notes what it sees and takes no time."""

    seen: list[tuple[str, int, bool]] = field(default_factory=list, hash=False, compare=False)

    def observe(self, side, batches):
        self.seen.append((side.name, batches, gc.isenabled()))
        return StartRecord(1)


@pytest.fixture
def make_rounds(monkeypatch):
    monkeypatch.setattr(rounds, "wait_until_idle", lambda children, patience_s: True)
    watchdog = Watchdog(60, pytest.fail)
    made = []

    def make(**sources):
        sides = {name: Side(name, source, watchdog, count=None, deliver=None) for name, source in sources.items()}
        made.append(Rounds(sides, Conditions.now()))
        return made[-1]

    yield make
    for one in made:
        one.close()
        one.close()
    watchdog.close()


def pace_of(measured, batch_seconds, *names):
    for name in names or measured.sides:
        measured._standings[name].batch_seconds = batch_seconds


def test_each_side_is_observed_once_a_round_and_the_order_is_drawn(make_rounds):
    measured, kind = make_rounds(a=[X] * 12, b=[X] * 12), Noting()
    keys = [Key("a", kind), Key("b", kind)]
    orders = set()
    for _ in range(64):
        kind.seen.clear()
        assert set(measured.observe(keys).records) == set(keys)
        orders.add("".join(name for name, _, _ in kind.seen))
    assert orders == {"ab", "ba"}
    assert len(measured.done) == 64
    assert measured.seconds == pytest.approx(sum(seen.seconds for seen in measured.done))


@pytest.mark.parametrize("was_on", [True, False])
def test_the_collector_is_off_during_a_trial_and_as_before_after_it(make_rounds, was_on):
    measured, kind = make_rounds(a=[X] * 12), Noting()
    (gc.enable if was_on else gc.disable)()
    try:
        measured.observe([Key("a", kind)])
        assert gc.isenabled() is was_on
    finally:
        gc.enable()
    assert [on for _, _, on in kind.seen] == [False]


def test_the_collector_comes_back_after_an_error(make_rounds):
    class Broken:
        def observe(self, side, batches):
            raise OSError

    measured = make_rounds(a=[X] * 12)
    with pytest.raises(OSError):
        measured.observe([Key("a", Broken())])
    assert gc.isenabled()


def test_sides_are_rebuilt_from_their_factories_every_few_rounds(make_rounds, monkeypatch):
    monkeypatch.setattr(rounds, "_REBUILD_SHARE", 1e9)
    built = []

    def factory():
        built.append(1)
        return [X] * 12

    measured, kind = make_rounds(a=factory), Noting()
    for _ in range(3 * rounds.REBUILD_ROUNDS + 1):
        measured.observe([Key("a", kind)])
    assert len(built) == 4


def test_the_order_in_which_sides_are_rebuilt_is_drawn(make_rounds):
    built = []

    def factory(name):
        def make():
            built.append(name)
            return [X] * 12

        return make

    measured = make_rounds(a=factory("a"), b=factory("b"))
    orders = set()
    for _ in range(64):
        built.clear()
        measured.rebuild(["a", "b"])
        orders.add("".join(built))
    assert orders == {"ab", "ba"}


def test_a_side_that_is_dear_to_build_is_not_rebuilt(make_rounds):
    measured, kind = make_rounds(a=lambda: [X] * 12), Noting()
    side = measured.sides["a"]
    side.build_seconds = 1e9
    loader = side.loader
    for _ in range(3 * rounds.REBUILD_ROUNDS):
        measured.observe([Key("a", kind)])
    assert side.loader is loader


def test_both_sides_are_asked_for_the_same_number_of_batches(make_rounds):
    measured, kind = make_rounds(a=[X] * 12, b=[X] * 30), Noting()
    measured.observe([Key("a", kind), Key("b", kind)])
    assert {batches for _, batches, _ in kind.seen} == {11}


def test_a_side_that_is_never_idle_is_noted(make_rounds, monkeypatch):
    monkeypatch.setattr(Side, "inline", False)
    measured, kind = make_rounds(a=[X] * 12, b=[X] * 12), Noting()
    monkeypatch.setattr(rounds, "wait_until_idle", lambda children, patience_s: False)
    measured.observe([Key("a", kind), Key("b", kind)])
    assert measured.never_idle == {kind.seen[0][0]}


@pytest.mark.parametrize("batches", [1, 2, 3, 4])
def test_an_epoch_shorter_than_a_trial_is_refused(make_rounds, batches):
    words = f"the a loader gives {batches} batch(es)? an epoch, but a trial needs at least 5"
    with pytest.raises(LoaderError, match=words):
        make_rounds(a=[X] * batches).observe([Key("a", Steady())])


def test_the_overhead_of_a_trial_in_one_piece_is_what_its_batches_do_not_take(make_rounds):
    measured = make_rounds(a=lambda: (time.sleep(0.001) or X for _ in range(500)))
    seen = measured.observe([Key("a", Steady())])
    batches_s = seen.records[Key("a", Steady())].wall_ns * 1e-9
    assert 0 < measured._standings["a"]._overheads[-1] < seen.seconds - batches_s


def test_the_shortest_epoch_that_holds_a_trial_is_measured(make_rounds):
    record = make_rounds(a=[X] * 5).observe([Key("a", Steady())]).records[Key("a", Steady())]
    assert len(record.latencies_ns) == 4


def test_the_machine_is_read_around_what_is_watched_and_in_between_now_and_then(make_rounds, monkeypatch):
    measured, kind = make_rounds(a=[X] * 12), Noting()
    readings = iter([{"stolen_ns": 5}, {"stolen_ns": 7}, {"stolen_ns": 100}, {"stolen_ns": 101, "busy_ns": 1}])
    log = measured._log
    monkeypatch.setattr(log.machine, "read", lambda: next(readings))
    with measured.watched():
        for _ in range(3):
            measured.observe([Key("a", kind)])
    log.spans += log.spans
    with measured.watched():
        measured.observe([Key("a", kind)])
    assert [counters for _, counters in log.spans] == [{"stolen_ns": 2}, {"stolen_ns": 2}, {"stolen_ns": 1}]
    monkeypatch.setattr(log.machine, "read", lambda: {"stolen_ns": 1})
    log.begin()
    log.tick(time.perf_counter() + 1)
    log.end()
    assert len(log.spans) == 5


@pytest.fixture
def taken_in(monkeypatch):
    """The order in which sides are asked for batches, and how many."""
    asked = []
    taking = Side.slice
    monkeypatch.setattr(
        Side, "slice", lambda side, batches, into: (asked.append((side.name, batches)), taking(side, batches, into))[1]
    )
    return asked


def test_sides_without_helpers_take_turns_within_a_trial_in_an_order_that_is_drawn(make_rounds, taken_in):
    def slowly():
        for _ in range(500):
            time.sleep(0.001)
            yield X

    measured = make_rounds(a=slowly, b=slowly)
    keys, orders = [Key("a", Steady()), Key("b", Steady())], set()
    for _ in range(16):
        taken_in.clear()
        records = measured.observe(keys).records
        turns = taken_in[2:] if taken_in[0][1] == taken_in[1][1] == 1 and len(taken_in) % 2 == 0 else taken_in
        orders |= {"".join(name for name, _ in turns[i : i + 2]) for i in range(0, len(turns), 2)}
        for key in keys:
            assert len(records[key].latencies_ns) == records[key].samples / 4
            assert records[key].wall_ns >= sum(records[key].latencies_ns)
    assert orders == {"ab", "ba"}


def test_a_slower_side_times_fewer_batches_once_it_is_far_slower(make_rounds):
    measured = make_rounds(a=lambda: repeat(X), b=lambda: repeat(X))
    pace_of(measured, 0.0005, "a")
    pace_of(measured, 0.02, "b")
    records = measured.observe([Key("a", Steady()), Key("b", Steady())]).records
    assert len(records[Key("a", Steady())].latencies_ns) >= 2
    assert len(records[Key("b", Steady())].latencies_ns) == 1


def test_a_side_with_helpers_is_measured_in_one_piece(make_rounds, monkeypatch, taken_in):
    monkeypatch.setattr(Side, "inline", False)
    measured = make_rounds(a=lambda: repeat(X), b=lambda: repeat(X))
    taken_in.clear()
    measured.observe([Key("a", Steady()), Key("b", Steady())])
    names = [name for name, _ in taken_in]
    assert names in (["a", "a", "b", "b"], ["b", "b", "a", "a"])


def test_sides_that_run_ahead_take_turns_of_refills_until_one_never_rests(make_rounds, monkeypatch):
    def never_rests(*_):
        raise MeasureError("a never rests")

    monkeypatch.setattr(Side, "inline", False)
    monkeypatch.setattr(rounds, "in_refills", never_rests)
    measured = make_rounds(a=lambda: repeat(X), b=lambda: repeat(X))
    pace_of(measured, 0.004)
    assert measured.refillable(["a", "b"])
    assert not measured.refillable(["a"])
    assert measured.observe([Key("a", Refilled()), Key("b", Refilled())]).records == {}
    assert not measured.refillable(["a", "b"])


def test_sides_wait_for_their_workers_if_each_does_in_its_trials_so_far(make_rounds, monkeypatch):
    measured, asked = make_rounds(a=lambda: repeat(X), b=lambda: repeat(X)), []
    trials = {name: [measured.observe([Key(name, Steady())]).records[Key(name, Steady())]] for name in "ab"}
    measured.observe([Key("a", Noting())])  # is no trial

    def waited_for(name, records):
        asked.append((name, records))
        return name == "a"

    monkeypatch.setattr(measured.replays, "waited_for", waited_for)
    assert measured.waits_for_work(["a"])
    assert not measured.waits_for_work(["a", "b"])
    assert asked[1:] == [("a", trials["a"]), ("b", trials["b"])]


def test_work_is_what_the_replays_of_the_sides_do(make_rounds, monkeypatch):
    measured, replayed = make_rounds(a=lambda: repeat(X), b=lambda: repeat(X)), []

    def attempt(sides, observe):
        replayed.extend(sides)
        return observe(dict(sides))

    monkeypatch.setattr(measured.replays, "attempt", attempt)
    monkeypatch.setattr(measured.replays, "standings", measured._standings)
    keys = [Key("a", Work()), Key("b", Work())]
    assert set(measured.observe(keys).records) == set(keys)
    assert replayed == ["a", "b"]


def test_an_epoch_that_turns_out_shorter_is_measured_in_shorter_slices(make_rounds):
    lengths = iter([60, 30, 12, *[9] * 50])

    class Shrinking:
        def __iter__(self):
            return iter([X] * next(lengths))

    measured = make_rounds(a=Shrinking, b=lambda: [X] * 40)
    record = measured.observe([Key("a", Steady()), Key("b", Steady())]).records[Key("a", Steady())]
    assert 4 <= len(record.latencies_ns) <= 58


def test_sides_are_rebuilt_together_or_not_at_all(make_rounds, monkeypatch):
    monkeypatch.setattr(rounds, "_REBUILD_SHARE", 1e9)
    built = []

    def factory(name):
        built.append(name)
        return [X] * 12

    measured, kind = make_rounds(a=lambda: factory("a"), b=lambda: factory("b")), Noting()
    measured.observe([Key("a", kind)])
    for _ in range(3 * rounds.REBUILD_ROUNDS):
        built.clear()
        measured.observe([Key("a", kind), Key("b", kind)])
        assert sorted(built) in ([], ["a", "b"])
    monkeypatch.setattr(rounds, "_REBUILD_SHARE", 0.25)
    for dear in (lambda: setattr(measured.sides["b"], "build_seconds", 1e9), replays_are_dear(measured)):
        dear()
        built.clear()
        for _ in range(3 * rounds.REBUILD_ROUNDS):
            measured.observe([Key("a", kind), Key("b", kind)])
        assert built == []
        measured.sides["b"].build_seconds = 0.0


def replays_are_dear(measured):
    return lambda: setattr(measured.replays, "cost", lambda names: 1e9)


def test_where_leaving_an_epoch_turns_out_dear_one_side_is_left_and_catches_up_with_the_others(
    make_rounds, monkeypatch
):
    drop, left = Side.drop_epoch, []

    def dear(side):
        if side.iterator is not None:
            left.append(side.name)
            drop(side)
            side.release_seconds = 1e6

    monkeypatch.setattr(Side, "drop_epoch", dear)
    monkeypatch.setattr(rounds, "_REBUILD_SHARE", 1e3)
    measured, keys = make_rounds(a=Positions, b=Positions), [Key("a", Steady()), Key("b", Steady())]
    measured.sides["a"].take(7)
    for _ in range(3 * rounds.REBUILD_ROUNDS):
        pace_of(measured, 1e-4)
        measured.observe(keys)
        assert len(left) <= 1
    assert len(left) == 1
    taken = {name: side.taken for name, side in measured.sides.items()}
    assert taken["a"] == taken["b"] == measured.sides["a"].loader.at == measured.sides["b"].loader.at
    for name in "ab":
        measured.observe([Key(name, Steady())])
    assert len(left) == 1  # of the other it is presumed


def test_what_lies_farther_than_leaving_costs_is_not_caught_up_with(make_rounds, monkeypatch):
    monkeypatch.setattr(rounds, "_REBUILD_SHARE", 1e3)
    measured, keys = make_rounds(a=Positions, b=Positions), [Key("a", Steady()), Key("b", Steady())]
    loaders = [side.loader for side in measured.sides.values()]
    measured.observe(keys)
    pace_of(measured, 1e6)
    build = Side.build

    def dear(side):
        build(side)
        side.release_seconds = 1e5

    monkeypatch.setattr(Side, "build", dear)
    measured.observe(keys)
    assert not any(side.loader is loader for side, loader in zip(measured.sides.values(), loaders, strict=True))


class Positions:
    """A loader object whose every batch tells how far its epoch is."""

    def __init__(self):
        self.at = 0

    def __iter__(self):
        self.at = 0
        while True:
            self.at += 1
            yield X


def test_loaders_without_a_factory_go_on_in_step_so_that_neither_warms_a_shared_cache_for_the_other(
    make_rounds, monkeypatch
):
    monkeypatch.setattr(rounds, "_REBUILD_SHARE", 1e9)
    probe = standing._probe

    def probe_one_farther(side):
        if side.name == "a":
            side.take(7)
        return probe(side)

    monkeypatch.setattr(standing, "_probe", probe_one_farther)
    sides = {"a": Positions(), "b": Positions()}
    measured, kind = make_rounds(**sides), Steady()
    keys = [Key("a", kind), Key("b", kind)]
    for _ in range(8):
        assert sides["a"].at == sides["b"].at
        pace_of(measured, 1e-4)  # a busy machine may probe one side as far slower
        measured.observe(keys)
    measured.sides["a"].take(7)
    measured.rebuild(["a", "b"])
    measured.observe(keys)
    assert sides["a"].at == sides["b"].at


def test_a_side_whose_caches_were_cold_when_it_was_probed_is_soon_given_as_many_batches(make_rounds):
    measured, keys = make_rounds(a=[X] * 4000, b=[X] * 4000), [Key("a", Steady()), Key("b", Steady())]
    pace_of(measured, 1.0, "a")
    measured.sides["a"].slow = True
    records = [measured.observe(keys).records for _ in range(30)]
    assert [len(records[0][key].latencies_ns) > 1 for key in keys] == [False, True]
    assert len(records[-1][keys[0]].latencies_ns) > 1
    assert not measured.sides["a"].slow


def test_what_one_side_changes_does_not_strike_the_next_slice_of_another(make_rounds):
    before = torch.get_num_threads()
    seen = []

    def changes():
        while True:
            gc.enable()
            torch.set_num_threads(before + 1)
            yield X

    def notes():
        while True:
            seen.append((gc.isenabled(), torch.get_num_threads()))
            yield X

    measured = make_rounds(a=changes, b=notes)
    pace_of(measured, 1e-4)  # several slices a trial
    seen.clear()
    measured.observe([Key("a", Steady()), Key("b", Steady())])
    assert set(seen) == {(False, before)}


def test_a_side_that_begins_to_run_ahead_within_a_round_is_measured_anew_in_one_piece(make_rounds, taken_in):
    stop = threading.Event()
    threads = []
    left, armed = iter(range(10**9)), []

    def late():
        while True:
            if armed and next(left) == 50:
                threads.append(threading.Thread(target=stop.wait))
                threads[-1].start()
            yield X

    try:
        measured = make_rounds(a=late, b=lambda: [X] * 4000)
        keys = [Key("a", Steady()), Key("b", Steady())]
        armed.append(True)
        while measured.sides["a"].inline:
            taken_in.clear()
            records = measured.observe(keys).records
        assert not measured.sides["a"].inline
        assert not measured.sides["b"].inline  # whose they are is not known
        assert ("a", 16) in taken_in  # untimed, before the trial that counts
        assert len(records[keys[0]].latencies_ns) >= 16
    finally:
        stop.set()
        threads[0].join()


@pytest.mark.parametrize("begun", ["thread", "side"])
def test_who_begins_between_two_claims_works_for_no_side(make_rounds, begun):
    stop = threading.Event()
    working = threading.Thread(target=stop.wait)
    measured = make_rounds(a=lambda: [X] * 4000, b=lambda: [X] * 4000)
    keys = [Key("a", Steady()), Key("b", Steady())]
    with measured.watched():
        measured.observe(keys)
    working.start()  # the user's own, or that of a base which is measured from now on
    try:
        if begun == "side":
            measured.add(Side("c", lambda: [X] * 4000, measured.sides["a"]._watchdog, count=None, deliver=None))
            keys.append(Key("c", Steady()))
        for standing in measured._standings.values():
            standing.rounds_since_build = 0  # as where building is dear
        with measured.watched():
            measured.observe(keys)
        assert all(side.inline for side in measured.sides.values())
    finally:
        stop.set()
        working.join()


@pytest.mark.parametrize("step", [1, 7, -3])
def test_epochs_that_grow_or_shrink_all_the_time_are_measured(make_rounds, step):
    lengths = itertools.count(300, step)

    class Changing:
        def __iter__(self):
            return iter([X] * next(lengths))

    measured = make_rounds(a=Changing, b=lambda: [X] * 400)
    pace_of(measured, 1e-5)
    for _ in range(12):
        assert len(measured.observe([Key("a", Steady()), Key("b", Steady())]).records) == 2


def test_epochs_of_random_length_are_measured(make_rounds):
    lengths = random.Random(1)  # noqa: S311 no secret depends on it

    class Random:
        def __iter__(self):
            return iter([X] * lengths.randint(5, 60))

    measured = make_rounds(a=Random, b=Random)
    for _ in range(50):
        seen = measured.observe([Key("a", Steady()), Key("b", Steady())])
        assert all(1 <= len(record.latencies_ns) <= 60 for record in seen.records.values())


def test_an_epoch_that_has_shrunk_below_a_trial_is_refused_with_the_lengths_that_came(make_rounds):
    lengths = iter([40, 20, *[3] * 1000])

    class Shrinking:
        def __iter__(self):
            return iter([X] * next(lengths))

    measured = make_rounds(a=Shrinking)

    def observe_long():
        for _ in range(20):
            measured.observe([Key("a", Steady())])

    words = r"the a loader gives 3 to \d+ batches an epoch, but a trial needs at least 5"
    with pytest.raises(LoaderError, match=words):
        observe_long()
