"""Which test settles which comparison, and the verdict that is made of its ruling."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_loaderperf.judge import ExactTest, PercentileTest, RatioTest, SignTest, Test, Verdict, seconds_to_settle
from pytest_loaderperf.measurement import Key, Round
from pytest_loaderperf.measurement.record import Record, SteadyRecord
from pytest_loaderperf.metric import NS, Metric
from pytest_loaderperf.units import ONE, Quantity

if TYPE_CHECKING:
    from pytest_loaderperf.settling import Settled

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
        test: SignTest | ExactTest = ExactTest(needed, at_least) if exact else SignTest(needed, at_least)
        mine, theirs = left.definition.of, right.definition.of
        return test, lambda seen: test.add(_divided(mine(seen[left.key]), theirs(seen[right.key])))
    needed = right.value / left.factor
    if left.definition.q is not None:
        percentile = PercentileTest(needed, left.definition.q, at_least)
        return percentile, lambda seen: percentile.add_all([ns * NS for ns in seen[left.key].latencies_ns])
    single: SignTest | ExactTest = ExactTest(needed, at_least) if left.definition.exact else SignTest(needed, at_least)
    return single, lambda seen: single.add(left.definition.of(seen[left.key]))


def _throughput_ratios(left: Record, right: Record) -> tuple[float, float | None]:
    """Of the sums, and the median of the slices', if there are several."""
    assert isinstance(left, SteadyRecord)
    assert isinstance(right, SteadyRecord)
    of_sums = (left.samples / left.wall_ns) / (right.samples / right.wall_ns)
    if min(len(left.slices_ns), len(right.slices_ns)) < _FEWEST_SLICES:
        return of_sums, None
    pairs = zip(left.slices_ns, right.slices_ns, strict=True)
    return of_sums, statistics.median(theirs / mine for mine, theirs in pairs)


def _divided(value: float, by: float) -> float:
    """The ratio of two memories, where nothing against nothing is even."""
    return value / by if by else (math.inf if value else 1.0)


def verdict_of(
    left: Metric,
    right: Metric | Quantity,
    settled: Settled,
    *,
    claim: str,
    at_least: bool,
    alpha: float,
    policy: str,
    rounds: Sequence[Round],
) -> Verdict:
    """The verdict on a claim, without its words; ``rounds`` are all that were measured."""
    ruling, settles_in_seconds = settled.ruling, None
    if settled.unconfirmed is None:  # else the epoch is not alike throughout, and more of the same tells no more
        settles_in_seconds = seconds_to_settle(ruling, alpha, _seconds_each(left, right, ruling.n, rounds))
    paired = isinstance(right, Metric)
    return Verdict(
        claim=claim,
        ruling=ruling,
        unit=ONE if paired else left.unit,
        at_least=at_least,
        left=left.value / left.factor,
        left_unit=left.unit,
        right=right.value / right.factor if isinstance(right, Metric) else None,
        counted="pairs" if paired else left.definition.counted,
        seconds=settled.seconds,
        alpha=alpha,
        unconfirmed=settled.unconfirmed,
        policy=policy,
        settles_in_seconds=settles_in_seconds,
    )


def _seconds_each(left: Metric, right: Metric | Quantity, n: int, rounds: Sequence[Round]) -> float:
    """Seconds that one of a claim's ``n`` observations took, on average over all rounds that hold its metrics."""
    keys = [metric.key for metric in (left, right) if isinstance(metric, Metric)]
    seconds = [seen.seconds for seen in rounds if all(key in seen.records for key in keys)]
    return sum(seconds) / max(n, len(seconds), 1)
