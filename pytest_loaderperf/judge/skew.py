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
        ratios = np.array(self._ratios)
        above, below = map(float, self._evidence(ratios > self.needed, ratios < self.needed, last=True))
        return settled(*((above, below) if self.at_least else (below, above)), alpha)

    @staticmethod
    def _evidence(above: np.ndarray, below: np.ndarray, *, last: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """The logs of the e-values for "some rank is above" and for "none is", after each trial or after the last."""
        n = np.arange(1, len(above) + 1)[:, None]
        hits = [on_side.sum(axis=0)[None] if last else on_side.cumsum(axis=0) for on_side in (above, below)]
        of_above, of_below = (log_evidence_above(counts, n[-1:] if last else n, 0.5) for counts in hits)
        some, none = np.logaddexp.reduce(of_above, axis=1) - math.log(above.shape[1]), of_below.min(axis=1)
        return (some[-1], none[-1]) if last else (some, none)

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
        ratios = np.array(self._ratios)
        above, below = self._evidence(ratios > self.needed, ratios < self.needed)
        return Course(ratios.max(axis=1), *((above, below) if self.at_least else (below, above)), -math.log(alpha))
