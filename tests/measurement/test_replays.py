"""Whether loaders wait for what their workers do, as far as a replay can do it again."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from pytest_loaderperf.measurement.record import Effort, SteadyRecord
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
