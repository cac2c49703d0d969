"""The claim about the skew of ranks: whether one of them is lastingly slower than the others."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pytest_loaderperf.judge.claim import Outcome, Ruling, refuse, settled
from pytest_loaderperf.judge.course import Course
from pytest_loaderperf.judge.evidence import log_evidence_above
from pytest_loaderperf.judge.interval import quantile_interval
from pytest_loaderperf.judge.power import detectable_shift


def beside_others(times: Sequence[float]) -> list[float]:
    """The time of each rank over the median of the other ranks' times. Raises MeasureError for one not positive."""
    for time in times:
        if not (math.isfinite(time) and time > 0):
            refuse(time, "positive, finite")
    return [time / statistics.median([*times[:rank], *times[rank + 1 :]]) for rank, time in enumerate(times)]


@dataclass(slots=True)
class SkewTest:
    """The claim that no rank's median ratio, of its time to the median of the others', is above ``needed``.

    With ``at_least=True``: that some rank's is. In each trial some rank is the slowest, by chance; the median over
    trials is what lasts. Only whether a ratio is above or below ``needed`` counts, so a rank that other programs slow
    down now and then does not count as slow, however long they take.

    Evidence that some rank is above: the mean of the e-values of all ranks, which is an e-value against "none is".
    Evidence that none is: the smallest of their e-values, as each must be shown to be below.
    """

    needed: float
    at_least: bool
    _ratios: list[list[float]] = field(default_factory=list)  # of each trial, by rank

    @property
    def n(self) -> int:
        return len(self._ratios)

    def add_times(self, times: Sequence[float]) -> None:
        """Add one trial: how long each rank took for the same number of batches."""
        self._ratios.append(beside_others(times))

    @property
    def medians(self) -> list[float]:
        """The median ratio of each rank; the claim is about the largest."""
        return [statistics.median(ratios) for ratios in zip(*self._ratios, strict=True)]

    def outcome(self, alpha: float) -> Outcome:
        if not self._ratios:
            return Outcome.INCONCLUSIVE
        above, below = (float(logs[-1]) for logs in self._evidence())
        return settled(*((above, below) if self.at_least else (below, above)), alpha)

    def _evidence(self) -> tuple[np.ndarray, np.ndarray]:
        """After each trial, the logs of the e-values for "some rank is above" and for "none is"."""
        ratios = np.array(self._ratios)
        n = np.arange(1, len(ratios) + 1)[:, None]
        above = log_evidence_above(np.cumsum(ratios > self.needed, axis=0), n, 0.5)
        below = log_evidence_above(np.cumsum(ratios < self.needed, axis=0), n, 0.5)
        return np.logaddexp.reduce(above, axis=1) - math.log(ratios.shape[1]), below.min(axis=1)

    def ruling(self, alpha: float, n_affordable: int) -> Ruling:
        n = self.n
        if not n:
            return Ruling(Outcome.INCONCLUSIVE, math.nan, 0.0, math.inf, self.needed, 0, None)
        medians = self.medians
        slowest = medians.index(max(medians))
        ratios = [of_trial[slowest] for of_trial in self._ratios]
        low, high = quantile_interval(ratios, 0.5)
        toward_breach = 1 if self.at_least else -1
        logs = [toward_breach * math.log(ratio) for ratio in ratios]
        shift = detectable_shift(logs, max(n, n_affordable), alpha / len(medians))
        mde = None if shift is None else toward_breach * -math.expm1(-toward_breach * shift)
        return Ruling(self.outcome(alpha), medians[slowest], max(0.0, low), high, self.needed, n, mde)

    def course(self, alpha: float) -> Course | None:
        if not self._ratios:
            return None
        above, below = self._evidence()
        values = np.array(self._ratios).max(axis=1)
        return Course(values, *((above, below) if self.at_least else (below, above)), -math.log(alpha))
