"""Rounds: each side once, in random order, the collector off, loaders rebuilt now and then."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field

import pytest
import torch

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement import Key, Rounds, Side, Steady, Watchdog, rounds
from pytest_loaderperf.measurement.conditions import Conditions
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
    for _ in range(3 * rounds._REBUILD_ROUNDS + 1):
        measured.observe([Key("a", kind)])
    assert len(built) == 4


def test_a_side_that_is_dear_to_build_is_not_rebuilt(make_rounds):
    measured, kind = make_rounds(a=lambda: [X] * 12), Noting()
    side = measured.sides["a"]
    side.build_seconds = 1e9
    loader = side.loader
    for _ in range(3 * rounds._REBUILD_ROUNDS):
        measured.observe([Key("a", kind)])
    assert side.loader is loader


def test_both_sides_are_asked_for_the_same_number_of_batches(make_rounds):
    measured, kind = make_rounds(a=[X] * 12, b=[X] * 30), Noting()
    measured.observe([Key("a", kind), Key("b", kind)])
    assert {batches for _, batches, _ in kind.seen} == {11}


def test_a_side_that_is_never_idle_is_noted(make_rounds, monkeypatch):
    measured, kind = make_rounds(a=[X] * 12, b=[X] * 12), Noting()
    monkeypatch.setattr(rounds, "wait_until_idle", lambda children, patience_s: False)
    measured.observe([Key("a", kind), Key("b", kind)])
    assert measured.never_idle == {kind.seen[0][0]}


@pytest.mark.parametrize("batches", [1, 2, 3, 4])
def test_an_epoch_shorter_than_a_trial_is_refused(make_rounds, batches):
    words = f"the a loader gives {batches} batch(es)? an epoch, but a trial needs at least 5"
    with pytest.raises(LoaderError, match=words):
        make_rounds(a=[X] * batches).observe([Key("a", Steady())])


def test_the_shortest_epoch_that_holds_a_trial_is_measured(make_rounds):
    record = make_rounds(a=[X] * 5).observe([Key("a", Steady())]).records[Key("a", Steady())]
    assert len(record.latencies_ns) == 4


def test_each_round_keeps_what_the_machine_did_meanwhile(make_rounds, monkeypatch):
    measured, kind = make_rounds(a=[X] * 12), Noting()
    readings = iter([{"stolen_ns": 5}, {"stolen_ns": 7}, {"stolen_ns": 100}, {"stolen_ns": 100, "busy_ns": 1}])
    monkeypatch.setattr(measured.machine, "read", lambda: next(readings))
    for _ in range(2):
        measured.observe([Key("a", kind)])
    assert [seen.counters for seen in measured.done] == [{"stolen_ns": 2}, {"stolen_ns": 0}]
