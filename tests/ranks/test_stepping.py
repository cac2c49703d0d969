"""A training loop on several ranks: its barriers, and what counts as waiting."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_loaderperf.measurement.record import SteadyRecord
from pytest_loaderperf.ranks.stepping import Loop

WAIT_NS = 2_000_000


def side(batches):
    left = iter(range(batches))

    def take(count):
        assert count == 1
        return None if next(left, None) is None else SteadyRecord((WAIT_NS,), WAIT_NS, 4, 0)

    return SimpleNamespace(take=take)


@pytest.mark.parametrize(
    "gate_s, every, gates", [(0.0, 1, 3 + 5), (0.0004, 1, 3 + 5), (0.001, 2, 2 + 3), (0.01, 20, 1 + 1)]
)
def test_a_barrier_comes_after_each_step_or_as_often_as_its_cost_allows(gate_s, every, gates):
    passed = []
    loop = Loop(0.001, 3, 5, gate_s)
    record = loop.observe(side(8), lambda: passed.append(None))
    assert (loop.every, loop.gates, len(passed)) == (every, gates, gates)
    assert record.wait_ns == 5 * WAIT_NS == sum(record.waits_ns)
    assert len(record.waits_ns) == -(-5 // every)


def test_a_step_takes_as_long_as_it_should_with_its_barrier():
    record = Loop(0.01, 0, 5, 0.004).observe(side(5), lambda: None)
    assert 50_000_000 <= record.total_ns - record.wait_ns < 500_000_000


@pytest.mark.parametrize("batches", [0, 2, 7])
def test_an_epoch_that_ends_before_gives_nothing(batches):
    assert Loop(0.0001, 3, 5, 0.0).observe(side(batches), lambda: None) is None
