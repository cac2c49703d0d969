"""Which test settles which comparison."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping

from pytest_loaderperf.judge import ExactTest, PairTest, PercentileTest, RatioTest, SignTest, Test
from pytest_loaderperf.measurement import Key
from pytest_loaderperf.measurement.record import Record, SteadyRecord
from pytest_loaderperf.metric import NS, Metric
from pytest_loaderperf.units import Quantity

Records = Mapping[Key, Record]
_FEWEST_SLICES = 3  # of which a median says more than their sum


def test_of(left: Metric, right: Metric | Quantity, *, at_least: bool) -> tuple[Test, Callable[[Records], None]]:
    """The test of a claim, and how a round adds to it."""
    if isinstance(right, Metric):
        needed = right.factor / left.factor
        if left.definition.name == right.definition.name == "throughput":
            ratio = RatioTest(needed, at_least)
            return ratio, lambda seen: ratio.add(*_throughput_ratios(seen[left.key], seen[right.key]))
        exact = left.definition.exact and right.definition.exact
        test: PairTest | ExactTest = ExactTest(needed, at_least) if exact else PairTest(needed, at_least)
        mine, theirs = left.definition.of, right.definition.of
        return test, lambda seen: test.add(_divided(mine(seen[left.key]), theirs(seen[right.key])))
    needed = right.value / left.factor
    if left.definition.q is not None:
        percentile = PercentileTest(needed, left.definition.q, at_least)
        return percentile, lambda seen: percentile.add_all([ns * NS for ns in seen[left.key].latencies_ns])
    single: SignTest | ExactTest = ExactTest(needed, at_least) if left.definition.exact else SignTest(needed, at_least)
    return single, lambda seen: single.add(left.definition.of(seen[left.key]))


def _throughput_ratios(left: Record, right: Record) -> tuple[float, float | None, float]:
    """Of the sums, and the median of the slices', if there are several; and the seconds of the longer side."""
    assert isinstance(left, SteadyRecord)
    assert isinstance(right, SteadyRecord)
    of_sums = (left.samples / left.wall_ns) / (right.samples / right.wall_ns)
    seconds = max(left.wall_ns, right.wall_ns) * NS
    if min(len(left.slices_ns), len(right.slices_ns)) < _FEWEST_SLICES:
        return of_sums, None, seconds
    pairs = zip(left.slices_ns, right.slices_ns, strict=True)
    return of_sums, statistics.median(theirs / mine for mine, theirs in pairs), seconds


def _divided(value: float, by: float) -> float:
    """The ratio of two memories, where nothing against nothing is even."""
    return value / by if by else (math.inf if value else 1.0)
