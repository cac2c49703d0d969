"""Three rules for the same recordings: ours, pytest-benchmark's ``--benchmark-compare-fail``, and Welch's t-test."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from pytest_loaderperf.judge import CONFIRM_ALPHA, Outcome
from pytest_loaderperf.measurement import Key, Steady
from pytest_loaderperf.measurement.record import SteadyRecord
from pytest_loaderperf.runs.claims import Evidence, Records
from pytest_loaderperf.runs.metric import DEFINITIONS, Metric
from pytest_loaderperf.runs.sides import AGAINST, LOADER

ALPHA = 0.001
PERCENT = 5
THRESHOLDS = (0.97, 0.952)  # the option of pytest-benchmark allows 1 / 1.05 of the throughput
OURS, WELCH, WELCH_INTERLEAVED = "ours", "Welch's t-test, two runs", "Welch's t-test, one interleaved run"
STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": statistics.fmean,
    "median": statistics.median,
    "min": min,
}


@dataclass(frozen=True, slots=True)
class Recording:
    """Rounds in which the loader and the other side took turns."""

    rounds: Sequence[Records]

    def ns_a_sample(self, side: str) -> list[float]:
        """Of each of that side's trials."""
        trials = [seen[Key(side, Steady())] for seen in self.rounds]
        return [trial.wall_ns / trial.samples for trial in trials if isinstance(trial, SteadyRecord)]


def _throughput(side: str) -> Metric:
    unasked: Any = None  # a metric only uses its run if it is compared by an operator
    return Metric(unasked, side, "", DEFINITIONS["throughput"])


def ours_fails(recording: Recording, threshold: float, alpha: float = ALPHA) -> bool:
    """Whether ``throughput >= threshold x against.throughput`` fails, checked after every round, and is confirmed."""
    rounds = iter(recording.rounds)
    for share in (alpha, max(alpha, CONFIRM_ALPHA)):
        evidence = Evidence(_throughput(LOADER), threshold * _throughput(AGAINST), at_least=True)
        test = evidence.test
        outcome = Outcome.INCONCLUSIVE
        while outcome is Outcome.INCONCLUSIVE:
            seen = next(rounds, None)
            if seen is None:
                return False
            evidence.add(seen)
            outcome = Outcome.FAIL if test.outcome(share) is Outcome.FAIL else test.outcome(alpha)
        if outcome is Outcome.PASS:
            return False
    return True


def compare_fails(statistic: str, saved: Sequence[float], new: Sequence[float], percent: float = PERCENT) -> bool:
    """pytest-benchmark's ``--benchmark-compare-fail=statistic:percent%`` on the times of two runs."""
    of = STATISTICS[statistic]
    return of(new) / of(saved) * 100 - 100 > percent


def welch_fails(saved: Sequence[float], new: Sequence[float], alpha: float = ALPHA) -> bool:
    """Whether the new times are longer on average by Welch's t-test, one-sided."""
    return bool(stats.ttest_ind(new, saved, equal_var=False, alternative="greater").pvalue < alpha)


def judged(recording: Recording, later: Recording) -> dict[str, bool]:
    """Which rules say FAIL. Rules that compare two runs get ``recording``'s other side, and ``later``'s loader."""
    saved, new, at_once = recording.ns_a_sample(AGAINST), later.ns_a_sample(LOADER), recording.ns_a_sample(LOADER)
    return {
        **{f"{OURS}, throughput >= {limit:g} x": ours_fails(recording, limit) for limit in THRESHOLDS},
        **{f"compare-fail={name}:{PERCENT}%": compare_fails(name, saved, new) for name in STATISTICS},
        WELCH: welch_fails(saved, new),
        WELCH_INTERLEAVED: welch_fails(saved, at_once),
    }


def table(outcomes: Mapping[float, Sequence[Mapping[str, bool]]]) -> str:
    """In Markdown: a row for each rule, a column for each slowdown, with the share of claims that FAIL."""
    slowdowns = sorted(outcomes)
    names = [f"{100 * slowdown:g} % slower" if slowdown else "same work" for slowdown in slowdowns]
    lines = ["| FAIL by | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for rule in outcomes[slowdowns[0]][0]:
        shares = [statistics.fmean(claim[rule] for claim in outcomes[slowdown]) for slowdown in slowdowns]
        lines.append(f"| {rule} | " + " | ".join(f"{100 * share:.3g} %" for share in shares) + " |")
    return "\n".join(lines)
