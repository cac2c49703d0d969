"""Whether loaders wait for what their workers do, as far as a replay can do it again."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement.record import Effort, StartRecord, SteadyRecord
from pytest_loaderperf.measurement.replays import Replays
from pytest_loaderperf.measurement.standing import Standing

MS = 1_000_000
WORKERS = 2


def waits(work_ms, *efforts_ms, in_threads=False):
    """Of a side whose batch takes ``work_ms`` in a replay, after trials of (workers' CPU, own CPU) a batch."""
    replays = Replays(lambda side, seed: None, random.Random(0))  # noqa: S311 no secret depends on it
    replays._made["it"] = SimpleNamespace(workers=WORKERS, in_threads=in_threads)
    replays.standings["it"] = Standing(work_ms * 1e-3)
    trials = [
        SteadyRecord((MS,) * 10, 10 * MS, 10, 0, effort=Effort(int(own * 10 * MS), int(children * 10 * MS), 1.0))
        for children, own in efforts_ms
    ]
    return replays.waited_for("it", trials)


@pytest.mark.parametrize(
    "efforts_ms, answer",
    [
        ([], False),
        ([(3.0, 0.2)], True),
        ([(3.0, 1.6)], False),  # a batch takes its consumer longer than two workers take from one to the next
        ([(7.0, 0.2)], False),  # workers do something else besides
        ([(7.0, 0.2), (3.3, 0.2)], True),  # a neighbour on the same cores doubles CPU time for a while
        ([(3.0, 1.9), (3.3, 0.4)], True),
        ([(7.0, 0.2), (7.0, 0.2)], False),
    ],
)
def test_the_trial_that_took_the_least_tells_what_a_loader_waits_for(efforts_ms, answer):
    assert waits(3.0, *efforts_ms) is answer


@pytest.mark.parametrize("own_ms, answer", [(3.2, True), (4.4, True), (4.6, False), (2.9, True), (6.5, False)], ids=str)
def test_threads_are_told_apart_from_their_consumer_by_what_they_do(own_ms, answer):
    assert waits(3.0, (0.0, own_ms), in_threads=True) is answer


def test_a_side_without_a_replay_waits_for_nothing_that_is_known():
    replays = Replays(lambda side, seed: None, random.Random(0))  # noqa: S311 no secret depends on it
    replays._made["it"] = None
    assert replays.waited_for("it", [SteadyRecord((MS,), MS, 1, 0, effort=Effort(0, MS, 1.0))]) is False


class Fake:
    """A replay that was made with ``seed``."""

    inline, in_threads, workers, iterator = True, False, 2, "runs"

    def __init__(self, side, seed):
        self.name, self.seed, self.closed = side.name, seed, False
        self.starts = [StartRecord(MS)]

    def take(self, batches):
        return SteadyRecord((MS,), MS, 1, 0)

    def look_ahead(self, batch_seconds):
        pass

    def close(self):
        self.closed = True


@pytest.fixture
def replays():
    return Replays(lambda side, seed: None if side.name == "none" else Fake(side, seed), random.Random(0))  # noqa: S311 no secret depends on it


def playing(replays, *names):
    return list(replays.playing({name: SimpleNamespace(name=name, inline=False) for name in names}).values())


def seeds(replays, *names):
    return [replay.seed for replay in playing(replays, *names)]


def test_sides_that_are_compared_are_replayed_from_the_same_moment_on_with_the_same_seed(replays):
    loader, other = playing(replays, "loader", "other")
    assert playing(replays, "loader", "other") == [loader, other]
    assert loader.seed == other.seed
    anew, third = playing(replays, "loader", "third")
    assert anew.seed == third.seed == loader.seed + 1
    assert (loader.closed, other.closed) == (True, False)
    assert seeds(replays, "loader", "other") == [anew.seed + 1] * 2
    assert (anew.closed, other.closed) == (True, True)


def test_replays_that_are_made_anew_have_the_next_seed(replays):
    (first,) = set(seeds(replays, "loader", "other"))
    replays.renew(["loader", "other"])
    assert seeds(replays, "loader", "other") == [first + 1] * 2


def test_what_a_replay_costs_is_known_while_there_is_one(replays):
    assert replays.cost(["loader", "other"]) == 0
    playing(replays, "loader", "other")
    assert replays.cost(["loader", "other"]) > replays.cost(["loader"]) > 0
    replays.renew(["loader", "other"])
    assert replays.cost(["loader", "other"]) == 0


def test_a_side_that_cannot_be_replayed_ends_no_replay_of_others(replays):
    before = playing(replays, "loader", "other")
    for _ in range(2):
        assert playing(replays, "loader", "none") == []
        assert playing(replays, "none", "other") == []
    after = playing(replays, "loader", "other")
    assert len({replay.seed for replay in after}) == 1
    assert playing(replays, "loader", "none") == []
    assert playing(replays, "loader", "other") == after
    assert before[0].closed


def test_a_failure_gives_up_the_sides_that_it_struck(replays):
    def fails(playing):
        raise LoaderError("no")

    before = playing(replays, "loader", "other")
    sides = {name: SimpleNamespace(name=name, inline=False) for name in ("loader", "other")}
    assert replays.attempt(sides, fails) == {}
    assert all(replay.closed for replay in before)
    assert playing(replays, "loader", "other") == []
