"""Which test settles which comparison."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from pytest_loaderperf.judge import ExactTest, PercentileTest, SignTest, Test
from pytest_loaderperf.measurement import Key
from pytest_loaderperf.measurement.record import Record
from pytest_loaderperf.metric import NS, Metric
from pytest_loaderperf.units import Quantity

Records = Mapping[Key, Record]


def test_of(left: Metric, right: Metric | Quantity, *, at_least: bool) -> tuple[Test, Callable[[Records], None]]:
    """The test of a claim, and how a round adds to it."""
    if isinstance(right, Metric):
        needed = right.factor / left.factor
        exact = left.definition.exact and right.definition.exact
        test: SignTest | ExactTest = ExactTest(needed, at_least) if exact else SignTest(needed, at_least)
        mine, theirs = left.definition.of, right.definition.of
        return test, lambda seen: test.add(_divided(mine(seen[left.key]), theirs(seen[right.key])))
    needed = right.value / left.factor
    if left.definition.q is not None:
        percentile = PercentileTest(needed, left.definition.q, at_least)
        return percentile, lambda seen: percentile.add_all([ns * NS for ns in seen[left.key].latencies_ns])
    single: SignTest | ExactTest = ExactTest(needed, at_least) if left.definition.exact else SignTest(needed, at_least)
    return single, lambda seen: single.add(left.definition.of(seen[left.key]))


def _divided(value: float, by: float) -> float:
    """The ratio of two memories, where nothing against nothing is even."""
    return value / by if by else (math.inf if value else 1.0)
