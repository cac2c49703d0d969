"""Whether threads are worth it, decided from simulated costs of a call."""

from __future__ import annotations

import random

import pytest

from pytest_loaderperf.data.execution.worth import WINDOW_NS, Worth

MS = 1_000_000


def spend(worth, handed_ms, alone_ms, *, seconds, noise=None):
    """Call until so much of the caller's time is spent: the average cost of a piece in ms, and the ways taken."""
    spent, done, ways = 0, 0, []
    while spent < seconds * 1000 * MS:
        ways.append(worth.hands_over)
        size = 2 if worth.hands_over else 1  # pieces need not be alike
        cost = int(size * (handed_ms if worth.hands_over else alone_ms) * MS * (noise() if noise else 1))
        worth.note(cost, size)
        spent, done = spent + cost, done + size
    return spent / done / MS, ways


@pytest.mark.parametrize(
    ("handed_ms", "alone_ms"), [(1.0, 0.3), (0.4, 0.3), (10.0, 0.2), (0.3, 0.5), (0.3, 0.3), (40.0, 60.0)]
)
def test_the_faster_way_is_taken_and_the_other_one_costs_little(handed_ms, alone_ms):
    worth = Worth()
    spend(worth, handed_ms, alone_ms, seconds=1)
    cost_ms, _ = spend(worth, handed_ms, alone_ms, seconds=20)
    assert cost_ms <= 1.05 * min(handed_ms, alone_ms)


def test_the_first_second_with_threads_that_pay():
    cost_ms, _ = spend(Worth(), 0.3, 0.5, seconds=1)
    assert cost_ms <= 1.05 * 0.3


def test_calls_that_cost_nothing_bring_no_comparison():
    worth = Worth()
    for _ in range(10_000):
        worth.note(100, 1)  # a training step gives the threads time enough
        assert worth.hands_over


def test_when_the_cores_are_free_again_the_threads_come_back():
    worth = Worth()
    spend(worth, 2.0, 0.3, seconds=5)
    assert not worth.hands_over
    spend(worth, 0.2, 0.3, seconds=3)
    cost_ms, ways = spend(worth, 0.2, 0.3, seconds=3)
    assert sum(ways) > 0.9 * len(ways)
    assert cost_ms < 0.21


@pytest.mark.parametrize(("handed_ms", "alone_ms"), [(1.0, 0.5), (0.3, 0.5)])
def test_costs_that_vary_fivefold_decide_rightly_most_of_the_time(handed_ms, alone_ms):
    draw = random.Random(0)  # noqa: S311 not for secrets
    worth = Worth()
    _, ways = spend(worth, handed_ms, alone_ms, seconds=60, noise=lambda: 5 ** draw.uniform(-1, 1))
    assert (sum(ways) / len(ways) > 0.9) is (handed_ms < alone_ms)


def test_ways_that_are_alike_are_not_changed():
    worth = Worth()
    _, ways = spend(worth, 0.300, 0.295, seconds=20)
    assert sum(ways) > 0.9 * len(ways)


def test_the_first_comparison_is_after_16_windows():
    worth = Worth()
    for _ in range(16):
        worth.note(WINDOW_NS // 2, 1)
        worth.note(WINDOW_NS // 2, 1)
        assert worth.hands_over
    worth.note(WINDOW_NS, 1)
    assert not worth.hands_over
