"""Claims and their verdicts: pure functions of what was observed."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn, Protocol

import numpy as np

from pytest_loaderperf.defaults import DEFAULT_POLICY
from pytest_loaderperf.errors import MeasureError
from pytest_loaderperf.judge.betting import Betting, chance_revealed
from pytest_loaderperf.judge.course import Course
from pytest_loaderperf.judge.evidence import log_evidence_above, log_evidence_below
from pytest_loaderperf.judge.interval import quantile_interval
from pytest_loaderperf.judge.power import POWER, detectable_shift


class Outcome(StrEnum):
    """The result of a claim."""

    PASS = "PASS"  # noqa: S105 a verdict, not a password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


CONFIRM_ALPHA = 0.05  # at which new evidence must repeat a FAIL, which already had evidence at the claim's own share


def claim_alpha(alpha: float, index: int) -> float:
    """The share of the run's false-alarm budget for its ``index``-th claim (from 0).

    alpha / ((index + 1) (index + 2)) adds up to alpha over any number of claims, so it need not be known beforehand.
    """
    return alpha / ((index + 1) * (index + 2))


@dataclass(frozen=True, slots=True)
class Ruling:
    """The result of the evidence so far; ``estimate``, ``needed``, and the 95 % interval are in the claim's unit.

    ``by`` names the deciding evidence if there are several kinds: "sums", "slices" or "work".
    """

    outcome: Outcome
    estimate: float
    low: float
    high: float
    needed: float
    n: int
    mde: float | None
    exact: bool = False
    by: str = ""


class SequentialTest(Protocol):
    """A sequential test: add observations, look at any time."""

    @property
    def n(self) -> int:
        """Observations so far."""
        ...

    def outcome(self, alpha: float) -> Outcome:
        """The outcome at ``alpha`` so far."""
        ...

    def ruling(self, alpha: float, n_affordable: int) -> Ruling:
        """Outcome, estimate and interval; the minimum detectable effect is that of ``n_affordable`` observations."""
        ...

    def course(self, alpha: float) -> Course | None:
        """The observations so far, and the evidence after each; None if there is no evidence to weigh."""
        ...


def settled(for_claim: float, against_claim: float, alpha: float) -> Outcome:
    """The outcome at ``alpha`` for these logs of e-values for and against a claim."""
    enough = -math.log(alpha)
    if against_claim >= enough:
        return Outcome.FAIL
    return Outcome.PASS if for_claim >= enough else Outcome.INCONCLUSIVE


def refuse(value: float, expected: str) -> NoReturn:
    """Raise MeasureError for a value that cannot be a measurement."""
    raise MeasureError(
        f"expected a {expected} measured value, got {value}. A duration of zero or a broken clock "
        "gives such values: use more work in a batch, or another machine."
    )


@dataclass(slots=True)
class SignTest:
    """The claim that the median of positive ``values`` is at least (or, with ``at_least=False``, at most) ``needed``.

    A value is a ratio of a pair, or a single measurement. Only whether it is above or below ``needed`` counts; one
    equal to ``needed`` is evidence for neither. Raises MeasureError for one that is not positive and finite.
    """

    needed: float
    at_least: bool
    _values: list[float] = field(default_factory=list)
    _above: int = 0
    _below: int = 0

    @property
    def n(self) -> int:
        return len(self._values)

    def add(self, value: float) -> None:
        """Add one observation."""
        if not (math.isfinite(value) and value > 0):
            refuse(value, "positive, finite")
        self._values.append(value)
        self._above += value > self.needed
        self._below += value < self.needed

    def outcome(self, alpha: float) -> Outcome:
        # There can only be evidence for the side with more values.
        hits = max(self._above, self._below)
        settled = float(log_evidence_above(hits, len(self._values), 0.5)) >= -math.log(alpha)
        return self.leaning if settled else Outcome.INCONCLUSIVE

    @property
    def leaning(self) -> Outcome:
        """The outcome that more values support, with or without enough evidence; INCONCLUSIVE if equal."""
        if self._above == self._below:
            return Outcome.INCONCLUSIVE
        return Outcome.PASS if (self._above > self._below) == self.at_least else Outcome.FAIL

    def ruling(self, alpha: float, n_affordable: int) -> Ruling:
        n = len(self._values)
        estimate = statistics.median(self._values) if n else math.nan
        low, high = quantile_interval(self._values, 0.5)
        toward_breach = 1 if self.at_least else -1
        shift = detectable_shift([toward_breach * math.log(v) for v in self._values], max(n, n_affordable), alpha)
        mde = None if shift is None else toward_breach * -math.expm1(-toward_breach * shift)
        return Ruling(self.outcome(alpha), estimate, max(0.0, low), high, self.needed, n, mde)

    def course(self, alpha: float) -> Course:
        values = np.array(self._values)
        n = np.arange(1, len(values) + 1)
        above = log_evidence_above(np.cumsum(values > self.needed), n, 0.5)
        below = log_evidence_above(np.cumsum(values < self.needed), n, 0.5)
        return Course(values, *((above, below) if self.at_least else (below, above)), -math.log(alpha))


class PercentileTest:
    """The claim that the ``q``-quantile of ``values`` is at most (or at least) ``needed``, by counting those beyond it.

    For PASS each value counts. For FAIL each trial counts once, by its share of values beyond the limit: slow batches
    come in bursts, and a burst has one cause. The MDE is a share of values beyond the limit, of which ``1 - q`` (for an
    at-least claim, ``q``) are allowed. Raises MeasureError for a value that is negative or not finite.
    """

    def __init__(self, needed: float, q: float, at_least: bool) -> None:  # noqa: FBT001 as SignTest
        self.needed, self.q, self.at_least = needed, q, at_least
        self._allowed = q if at_least else 1 - q
        self._values: list[float] = []
        self._beyond = self._on_limit = 0
        self._sizes: list[int] = []  # of trials
        self._betting = Betting(self._allowed)

    @property
    def n(self) -> int:
        return len(self._values)

    def add_all(self, values: Sequence[float]) -> None:
        """Add one trial's observations."""
        for value in values:
            if not (math.isfinite(value) and value >= 0):
                refuse(value, "finite, non-negative")
        beyond = self._count_beyond(values)
        self._values.extend(values)
        self._beyond += beyond
        self._on_limit += sum(v == self.needed for v in values)
        self._sizes.append(len(values))
        self._betting.add(beyond / len(values))

    def _count_beyond(self, values: Sequence[float]) -> int:
        return sum((v < self.needed) if self.at_least else (v > self.needed) for v in values)

    def outcome(self, alpha: float) -> Outcome:
        return settled(self._log_evidence_for, self._betting.log_evidence, alpha)

    @property
    def _log_evidence_for(self) -> float:
        # The claim is true if, and only if, at most the allowed share is beyond the limit. A tie is evidence for
        # neither.
        return float(log_evidence_below(self._beyond + self._on_limit, self.n, self._allowed))

    def ruling(self, alpha: float, n_affordable: int) -> Ruling:
        low, high = quantile_interval(self._values, self.q)
        estimate = quantile(self._values, self.q) if self._values else math.nan
        mde = None
        if self.n:
            size = round(self.n / len(self._sizes))
            trials = max(self.n, n_affordable) // size
            mde = chance_revealed(trials, size, self._allowed, -math.log(alpha), POWER)
        return Ruling(self.outcome(alpha), estimate, max(0.0, low), high, self.needed, self.n, mde)

    def course(self, alpha: float) -> Course:
        again = PercentileTest(self.needed, self.q, self.at_least)
        typical, holds, fails = [], [], []
        ends = np.cumsum(self._sizes).tolist()
        for size, end in zip(self._sizes, ends, strict=True):
            trial = self._values[end - size : end]
            again.add_all(trial)
            typical.append(quantile(trial, self.q))
            holds.append(again._log_evidence_for)
            fails.append(again._betting.log_evidence)
        return Course(np.array(typical), np.array(holds), np.array(fails), -math.log(alpha))


@dataclass(slots=True)
class ExactTest:
    """A claim about one number that does not vary: no statistics. Of several, the worst for the claim counts."""

    needed: float
    at_least: bool
    value: float = math.nan
    _seen: int = 0

    @property
    def n(self) -> int:
        return self._seen

    def add(self, value: float) -> None:
        """Add an observation."""
        if not value >= 0:
            refuse(value, "non-negative")
        worst = min if self.at_least else max
        self.value = value if self.n == 0 else worst(self.value, value)
        self._seen += 1

    def outcome(self, alpha: float) -> Outcome:
        if self.n == 0:
            return Outcome.INCONCLUSIVE
        holds = self.value >= self.needed if self.at_least else self.value <= self.needed
        return Outcome.PASS if holds else Outcome.FAIL

    def ruling(self, alpha: float, n_affordable: int) -> Ruling:
        return Ruling(self.outcome(alpha), self.value, self.value, self.value, self.needed, self.n, 0.0, exact=True)

    def course(self, alpha: float) -> None:
        """None: there is nothing to weigh."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A claim and its result: true unless it failed, or is INCONCLUSIVE and its policy counts this as a failure.

    ``claim`` is its text, ``unit`` that of the ruling's figures ("1": a ratio), ``left`` and ``right`` are the measured
    values of its metrics (``right`` None: a limit), ``counted`` names the observations, ``seconds`` is the time
    measured. ``unconfirmed`` is a verdict from the beginning of the epoch that later batches do not confirm. ``policy``
    is what an INCONCLUSIVE counts as: "pass", "fail", or "leaning": a failure if the 95 % interval is on the wrong side
    of the threshold. ``settles_in_seconds`` of measuring would probably settle it; None: it is settled, or an hour is
    too short. ``course``: its observations, and the evidence after each, if there is any to weigh.
    """

    claim: str
    ruling: Ruling
    unit: str
    at_least: bool
    left: float
    left_unit: str
    right: float | None
    counted: str
    seconds: float
    alpha: float
    unconfirmed: Outcome | None = None
    words: str = ""
    policy: str = DEFAULT_POLICY
    settles_in_seconds: float | None = None
    course: Course | None = field(default=None, repr=False, compare=False)

    def __repr__(self) -> str:
        return self.words or f"{self.ruling.outcome}: {self.claim}"

    def __bool__(self) -> bool:
        if self.ruling.outcome is not Outcome.INCONCLUSIVE:
            return self.ruling.outcome is Outcome.PASS
        return self.policy == "pass" or (self.policy == "leaning" and self.leaning is not Outcome.FAIL)

    def __eq__(self, other: object) -> bool:
        return (bool(self) if isinstance(other, bool) else self) is other

    __hash__ = object.__hash__

    def __and__(self, other: object) -> object:
        return self and other

    def __or__(self, other: object) -> object:
        return self or other

    @property
    def leaning(self) -> Outcome:
        """The outcome by the 95 % interval: FAIL or PASS if it does not contain the threshold, else INCONCLUSIVE."""
        return beyond(self.ruling, at_least=self.at_least)


def beyond(ruling: Ruling, *, at_least: bool) -> Outcome:
    """FAIL if the 95 % interval is on the wrong side of the threshold, PASS if on the right one, else INCONCLUSIVE.

    An interval that touches the threshold contains it.
    """
    if ruling.low <= ruling.needed <= ruling.high or math.isnan(ruling.estimate):
        return Outcome.INCONCLUSIVE
    return Outcome.PASS if (ruling.low > ruling.needed) == at_least else Outcome.FAIL


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value with at least a share ``q`` of all values at or below it."""
    return float(np.quantile(values, q, method="inverted_cdf"))
