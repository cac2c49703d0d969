"""The claim about the ratio of a pair, from how far each pair is beyond the needed ratio."""

from __future__ import annotations

import math
import statistics
import sys
from dataclasses import dataclass, field

import numpy as np

from pytest_loaderperf.judge import pair_bets
from pytest_loaderperf.judge.claim import Outcome, Ruling, refuse, settled
from pytest_loaderperf.judge.course import Course
from pytest_loaderperf.judge.interval import quantile_interval

_BETS = len(pair_bets.BET)
_LARGEST = math.log(sys.float_info.max)
_STEEPNESS = np.stack([pair_bets.STEEPNESS, -pair_bets.STEEPNESS])  # a row bets on ratios above, a row on those below


_LOG_SHARES = np.tile(np.log(np.concatenate([pair_bets.SHARE, pair_bets.OBVIOUS_SHARE])), (2, 1))


def _exp(log: float) -> float:
    return math.exp(log) if log < _LARGEST else math.inf


@dataclass(slots=True)
class PairTest:
    """The claim that the median ratio of a pair is at least (or, with ``at_least=False``, at most) ``needed``.

    Noise may have any size and shape, and change, but must be symmetric in the log of the ratio, as it is if the order
    in a pair is random. A ratio equal to ``needed`` is evidence for neither. In long trials, a ratio that differs by a
    factor of two or more counts for more than symmetry allows: see ``pair_bets``. Raises MeasureError for a ratio that
    is not positive and finite.
    """

    needed: float
    at_least: bool
    _logs: list[float] = field(default_factory=list)
    _long: list[bool] = field(default_factory=list)
    _above: int = 0
    _below: int = 0
    _log_needed: float = field(init=False)
    _scale: float = field(init=False)
    _rescale_at: int = 1
    _log_wealth: np.ndarray = field(init=False)  # (above or below, bets)

    def __post_init__(self) -> None:
        self._log_needed = math.log(self.needed) if self.needed > 0 else -math.inf
        self._scale = pair_bets.scale_of(())
        self._log_wealth = _LOG_SHARES.copy()

    @property
    def n(self) -> int:
        return len(self._logs)

    def add(self, value: float, seconds: float = 0.0) -> None:
        """Add one pair's ratio; ``seconds`` is how long its longer trial took."""
        if not (math.isfinite(value) and value > 0):
            refuse(value, "positive, finite")
        self._add_log(math.log(value), long=seconds >= pair_bets.OBVIOUS_SECONDS)

    def _add_log(self, log_ratio: float, *, long: bool) -> None:
        x = log_ratio - self._log_needed
        self._above += x > 0
        self._below += x < 0
        self._log_wealth[:, :_BETS] += np.log1p(pair_bets.BET * np.tanh(_STEEPNESS * (x / self._scale)))
        if long:
            self._add_obvious(x)
        self._logs.append(log_ratio)
        self._long.append(long)
        if len(self._logs) == self._rescale_at:
            self._scale = pair_bets.scale_of(self._logs)
            self._rescale_at = pair_bets.rescaled_after(self._rescale_at)

    def against(self, needed: float) -> PairTest:
        """The same pairs, compared with another needed ratio."""
        other = PairTest(needed, self.at_least)
        for log_ratio, long in zip(self._logs, self._long, strict=True):
            other._add_log(log_ratio, long=long)
        return other

    def _add_obvious(self, x: float) -> None:
        self._log_wealth[:, _BETS:] += pair_bets.OBVIOUS_MISS
        if abs(x) >= pair_bets.OBVIOUS_LOG[0]:
            beyond = abs(x) >= np.maximum(pair_bets.OBVIOUS_LOG, pair_bets.OBVIOUS_SCALES * self._scale)
            gained = pair_bets.OBVIOUS_HIT - pair_bets.OBVIOUS_MISS
            self._log_wealth[0 if x > 0 else 1, _BETS:] += np.where(beyond, gained, 0.0)

    def log_evidence(self, outcome: Outcome) -> float:
        """The natural log of the e-value for PASS, or for FAIL."""
        if outcome is Outcome.INCONCLUSIVE:
            raise ValueError(f"expected PASS or FAIL, got {outcome}: there is no evidence for being undecided")
        above, below = np.logaddexp.reduce(self._log_wealth, axis=1)
        return float(above if (outcome is Outcome.PASS) == self.at_least else below)

    def outcome(self, alpha: float) -> Outcome:
        above, below = np.logaddexp.reduce(self._log_wealth, axis=1).tolist()
        return settled(*((above, below) if self.at_least else (below, above)), alpha)

    @property
    def in_long_trials(self) -> bool:
        """Whether there are pairs, and each had a trial of half a second or more."""
        return bool(self._long) and all(self._long)

    @property
    def obvious(self) -> bool:
        """Whether all trials are long, and a typical ratio differs by more than noise is assumed to cause."""
        return self.in_long_trials and self._is_far()

    @property
    def all_far(self) -> bool:
        """Whether all pairs, of whatever length, are on one side, and a typical one as far off as obvious ones are."""
        return bool(self.n) and not self._above * self._below and self._is_far()

    def _is_far(self) -> bool:
        return abs(statistics.median(self._logs) - self._log_needed) > float(pair_bets.OBVIOUS_LOG[0])

    @property
    def leaning(self) -> Outcome:
        """The outcome that the median supports, with or without enough evidence; INCONCLUSIVE for neither."""
        if self._above == self._below:
            return Outcome.INCONCLUSIVE
        return Outcome.PASS if (self._above > self._below) == self.at_least else Outcome.FAIL

    def ruling(self, alpha: float, n_affordable: int) -> Ruling:
        n = len(self._logs)
        estimate = _exp(statistics.median(self._logs)) if n else math.nan
        low, high = map(_exp, self._interval())
        shift = pair_bets.detectable_shift(self._logs, max(n, n_affordable), alpha, obvious=all(self._long))
        mde = None
        if shift is not None and shift < _LARGEST:
            mde = -math.expm1(-shift) if self.at_least else math.expm1(shift)
        return Ruling(self.outcome(alpha), estimate, low, high, self.needed, n, mde)

    def course(self, alpha: float) -> Course:
        """The ratios so far, and the evidence for PASS and for FAIL after each."""
        again = PairTest(self.needed, self.at_least)
        wealth = np.empty((len(self._logs), 2))
        for i, (log_ratio, long) in enumerate(zip(self._logs, self._long, strict=True)):
            again._add_log(log_ratio, long=long)
            wealth[i] = np.logaddexp.reduce(again._log_wealth, axis=1)
        above, below = wealth.T
        return Course(np.exp(self._logs), *((above, below) if self.at_least else (below, above)), -math.log(alpha))

    def _interval(self) -> tuple[float, float]:
        """Of the log of the median ratio."""
        low, high = quantile_interval(self._logs, 0.5)
        if not all(self._long) or math.isfinite(low):
            return low, high
        return pair_bets.obvious_interval(self._logs)
