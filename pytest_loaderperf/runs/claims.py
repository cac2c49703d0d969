"""Which test decides which comparison, what a round adds to it, and the verdict made from its ruling."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pytest_loaderperf.judge import (
    SLICES,
    WORK,
    ExactTest,
    PairTest,
    PercentileTest,
    RatioTest,
    Ruling,
    SequentialTest,
    SignTest,
    SkewTest,
    Verdict,
    seconds_to_settle,
)
from pytest_loaderperf.measurement import Key, Kind, Refilled, Round, Work
from pytest_loaderperf.measurement.record import EpochRecord, Record, SteadyRecord
from pytest_loaderperf.runs.metric import NS, Metric
from pytest_loaderperf.runs.ranked import SKEW, rank_times
from pytest_loaderperf.units import ONE, Quantity

if TYPE_CHECKING:
    from pytest_loaderperf.runs.settling import Settled

Records = Mapping[Key, Record]
_FEWEST_SLICES = 3  # from which on a median says more than the sum
_BUSY = 0.75  # of the time a process must run, or wait for a CPU: then the loader waits for CPU time
_HOLDS = 0.5  # of the CPU time of trials at least: one batch in 50 may take as long as 25
_WHOLE_EPOCHS = ("epoch", "epoch_throughput")
CPU, REFILLS = "cpu", "refills"
LATER = "later"  # rounds that walk through the epoch


class Evidence:
    """What rounds add to the test of a claim.

    ``keys``: what a round of the loaders observes. ``aside``: additional evidence for a claim about throughputs, the
    workers' work, done again, or refills; ``aside_keys`` is what a round of that observes. Without it, and without
    slices, the CPU time of a sample counts as well as the time by the clock, if some process is always busy. In rounds
    that ``walks`` far into an epoch the sums count, because an occasional slow batch is in no typical slice.
    """

    def __init__(
        self,
        left: Metric,
        right: Metric | Quantity,
        *,
        at_least: bool,
        aside: Kind | None = None,
        margin: float = 0.0,
        walks: bool = False,
    ) -> None:
        self._left, self._right = left, right
        self.keys = list(dict.fromkeys(metric.key for metric in (left, right) if isinstance(metric, Metric)))
        self.names = list(dict.fromkeys(key.side for key in self.keys))
        self.test = _sequential_test(left, right, at_least=at_least, aside=aside, margin=margin)
        self.aside, self._walks, self._in_turns = aside, walks, False
        self._efforts: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)  # of trials, by side
        self.refills = 0  # rounds of refills that counted
        self.aside_keys = [] if aside is None else [Key(name, aside) for name in self.names]

    def add(self, records: Records) -> None:
        """Add a round, if it contains what this claim needs."""
        test = self.test
        if self.aside_keys and isinstance(test, RatioTest) and all(key in records for key in self.aside_keys):
            observed = [records[key] for key in self.aside_keys]
            if isinstance(self.aside, Refilled):
                self._add_refilled(test, *observed)
                return
            of_sums, of_slices, seconds = _throughput_ratios(*observed)
            test.add_work(of_sums if of_slices is None or self._walks else of_slices, seconds)
        if not self.holds(records):
            return
        if isinstance(test, RatioTest):
            for key in self.keys:
                self._note_effort(key.side, records[key])
            of_sums, of_slices, seconds = _throughput_ratios(*(records[key] for key in self.keys))
            self._in_turns = self._in_turns or of_slices is not None
            if not (self._in_turns or self.aside):
                of_slices = _cpu_ratio(*(records[key] for key in self.keys))
            test.add(of_sums, of_slices, seconds)
        elif isinstance(test, PercentileTest):
            test.add_all([ns * NS for ns in records[self._left.key].latencies_ns])  # type: ignore[union-attr]
        elif isinstance(test, SkewTest):
            test.add_times(rank_times(records[self._left.key]))
        elif isinstance(test, PairTest):
            test.add(self._value(records), self._epoch_seconds(records))
        else:
            assert isinstance(test, (SignTest, ExactTest))
            test.add(self._value(records))

    def _add_refilled(self, test: RatioTest, left: Record, right: Record) -> None:
        assert isinstance(left, SteadyRecord)
        assert isinstance(right, SteadyRecord)
        by_clock = _typical(left.slices_ns, right.slices_ns)
        of_cpu = _typical(left.cpu_slices_ns, right.cpu_slices_ns)
        hold = all(self._holds_the_work(name, record) for name, record in zip(self.names, (left, right), strict=True))
        if hold and by_clock and of_cpu:
            self.refills += 1
            test.add_refilled(by_clock, of_cpu)

    def _note_effort(self, side: str, record: Record) -> None:
        assert isinstance(record, SteadyRecord)
        if record.effort is not None and record.samples:
            self._efforts[side].append((record.effort.cpu_ns / record.samples, record.effort.busiest))

    def _holds_the_work(self, side: str, record: SteadyRecord) -> bool:
        """Whether a loader waits for CPU time in its trials, and uses about as much in a typical turn of refills.

        A turn that ends while the loader waits, or is between two bursts of work, has almost none.
        """
        of_turns = [ns for ns in record.cpu_slices_ns if ns > 0]
        if not of_turns or not self._efforts[side]:
            return False
        of_trials, busiest = map(statistics.median, zip(*self._efforts[side], strict=True))
        part = float(statistics.median(of_turns) / max(of_trials, 1))
        return bool(busiest >= _BUSY and _HOLDS <= part <= 1 / _HOLDS)

    def follow(self, other: Evidence) -> None:
        """Take over what ``other`` knows of the CPU time of trials."""
        self._efforts = other._efforts

    def _value(self, records: Records) -> float:
        mine = self._left.definition.of(records[self._left.key])
        if not isinstance(self._right, Metric):
            return mine
        return _divided(mine, self._right.definition.of(records[self._right.key]))

    def _epoch_seconds(self, records: Records) -> float:
        """Seconds of the longer side's epoch, where the claim is on whole epochs; else 0."""
        if self._left.definition.name not in _WHOLE_EPOCHS:
            return 0.0
        return max(record.epoch_ns for key in self.keys if isinstance(record := records[key], EpochRecord)) * NS

    def holds(self, records: Records) -> bool:
        """Whether a round measured the loaders of the claim."""
        return all(key in records for key in self.keys)

    def by(self, alpha: float) -> str:
        """Which evidence decides, or is strongest: sums, slices, work, refills, CPU; "" for other metrics."""
        return self.ruling(alpha, 0).by

    def ruling(self, alpha: float, n_affordable: int) -> Ruling:
        """That of the test."""
        ruling = self.test.ruling(alpha, n_affordable)
        if ruling.by == SLICES and not self._in_turns:
            return replace(ruling, by=REFILLS if isinstance(self.aside, Refilled) else CPU)
        return ruling


def _sequential_test(
    left: Metric, right: Metric | Quantity, *, at_least: bool, aside: Kind | None, margin: float
) -> SequentialTest:
    if isinstance(right, Metric):
        needed = right.factor / left.factor
        if left.definition.name == right.definition.name == "throughput":
            refilled = isinstance(aside, Refilled)
            worked = aside is not None and not refilled
            return RatioTest(needed, at_least, refilled=refilled, expects_work=worked, work_margin=margin)
        if left.definition.exact and right.definition.exact:
            return ExactTest(needed, at_least)
        return PairTest(needed, at_least)
    needed = right.value / left.factor
    if left.definition is SKEW:
        return SkewTest(needed, at_least)
    if left.definition.q is not None:
        return PercentileTest(needed, left.definition.q, at_least)
    return ExactTest(needed, at_least) if left.definition.exact else SignTest(needed, at_least)


def _throughput_ratios(left: Record, right: Record) -> tuple[float, float | None, float]:
    """The ratio of the sums, the median of the slices' if there are several, and the seconds of the longer side."""
    assert isinstance(left, SteadyRecord)
    assert isinstance(right, SteadyRecord)
    of_sums = (left.samples / left.wall_ns) / (right.samples / right.wall_ns)
    seconds = max(left.wall_ns, right.wall_ns) * NS
    if min(len(left.slices_ns), len(right.slices_ns)) < _FEWEST_SLICES:
        return of_sums, None, seconds
    # A slice of empty batches gives NaN, and is left out.
    ratios = [theirs / mine for mine, theirs in zip(left.slices_ns, right.slices_ns, strict=True)]
    ratios = [ratio for ratio in ratios if math.isfinite(ratio)]
    return of_sums, statistics.median(ratios) if len(ratios) >= _FEWEST_SLICES else None, seconds


def ratio_of_totals(rounds: Sequence[Records], keys: Sequence[Key]) -> float:
    """The ratio of two sides' throughputs over all these rounds together; NaN if there are none."""

    def throughput(key: Key) -> float:
        records = [record for seen in rounds if isinstance(record := seen[key], SteadyRecord)]
        return sum(record.samples for record in records) / sum(record.wall_ns for record in records)

    if not rounds:
        return math.nan
    left, right = map(throughput, keys)
    return left / right


def _cpu_ratio(left: Record, right: Record) -> float | None:
    """How much less CPU time a sample takes on the left; None if the loaders do not wait for CPU time."""
    efforts = [record.effort for record in (left, right) if isinstance(record, SteadyRecord)]
    known = [effort for effort in efforts if effort is not None and effort.busiest >= _BUSY and effort.cpu_ns > 0]
    if len(known) < len(efforts):
        return None
    mine, theirs = known
    return (theirs.cpu_ns / right.samples) / (mine.cpu_ns / left.samples)  # type: ignore[union-attr]


def _typical(mine: Sequence[float], theirs: Sequence[float]) -> float | None:
    """The median ratio of a turn; None if all batches were empty."""
    ratios = [other / one for one, other in zip(mine, theirs, strict=True) if one > 0 and other > 0]
    return statistics.median(ratios) if ratios else None


def _divided(value: float, by: float) -> float:
    """The ratio of two amounts of memory; 0 / 0 counts as 1."""
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
    """The verdict on a claim, without its text; ``rounds`` are all that were measured."""
    ruling, settles_in_seconds = settled.ruling, None
    if settled.unconfirmed is None:  # else later batches differ, and more rounds of the first ones would not help
        settles_in_seconds = seconds_to_settle(ruling, alpha, _seconds_each(left, right, ruling.n, ruling.by, rounds))
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
        course=settled.course,
    )


def _seconds_each(left: Metric, right: Metric | Quantity, n: int, by: str, rounds: Sequence[Round]) -> float:
    """Seconds that one of a claim's ``n`` observations took, on average over all rounds with its metrics."""
    keys = [metric.key for metric in (left, right) if isinstance(metric, Metric)]
    if by in (WORK, REFILLS):
        keys = [Key(key.side, Work() if by == WORK else Refilled()) for key in keys]
    seconds = [seen.seconds for seen in rounds if all(key in seen.records for key in keys)]
    return sum(seconds) / max(n, len(seconds), 1)
