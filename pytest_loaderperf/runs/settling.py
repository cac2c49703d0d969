"""Measuring until a claim is settled, that is, decided: settle, confirm, walk on through the epoch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pytest_loaderperf.judge import (
    AGREE_ALPHA,
    CONFIRM_ALPHA,
    SLICES,
    WORK,
    Course,
    ExactTest,
    Outcome,
    PairTest,
    RatioTest,
    Ruling,
    SkewTest,
    beyond,
)
from pytest_loaderperf.measurement import Key, Kind, Refilled, Rounds, Work
from pytest_loaderperf.runs.claims import LATER, REFILLS, Evidence, ratio_of_totals
from pytest_loaderperf.runs.metric import Metric
from pytest_loaderperf.units import Quantity

_WALK_ROUNDS, _WALK_SHARE = 8, 0.1  # times as long, farther into an epoch; of the budget, for a PASS of a longer one
_FEWEST_LOOKS = 5  # that show whether loaders wait for work: other programs disturb some of them
_REFILLS_LOOKS = 3  # rounds that show how long a batch takes, and whether loaders wait for CPU time
_KINDS = 2  # of evidence with work: work and the sums
# Equal work takes 1 to 2 % longer in one process than in another as long as both run, by the place of their memory.
_ELSEWHERE_MARGIN = 0.03
_PLACEMENT = 1.5  # times as long, which no placement of memory makes the same work take
_OBVIOUS_ROUNDS = 4  # decide an obvious claim, if each differs by more than a factor of two
_DEAR_SECONDS = 4.0  # a round; the first batches of new loaders take as long again
_ONE_ROUND = 1e-6  # seconds: enough to start one
_PAUSE_SECONDS = 1.0  # most short slowdowns of a machine are over by then


@dataclass(frozen=True, slots=True)
class Settled:
    """The result of a claim, the seconds it took, and its course; ``unconfirmed``: of the first batches alone."""

    ruling: Ruling
    seconds: float
    course: Course | None = None
    unconfirmed: Outcome | None = None


@dataclass(slots=True)
class Settling:
    """One claim, its share ``alpha`` of the false-alarm budget, and ``budget_seconds`` to settle it.

    If the interval does not contain the threshold by then, it continues, up to ``max_budget_seconds``.
    """

    rounds: Rounds
    left: Metric
    right: Metric | Quantity
    at_least: bool
    alpha: float
    budget_seconds: float
    max_budget_seconds: float
    progress: Callable[[str], None]
    _spent_s: float = field(default=0.0, init=False)

    def settle(self) -> Settled:
        """Measure until the claim is settled, a FAIL confirmed by new evidence, or the budget is spent."""
        began_s = time.perf_counter()
        evidence = self._evidence(aside=self._aside())
        self._spent_s = time.perf_counter() - began_s
        for seen in self.rounds.done:
            evidence.add(seen.records)
        outcome, most_s = self._within_budget(evidence)
        if outcome is Outcome.FAIL and not isinstance(evidence.test, ExactTest):
            outcome, evidence = self._confirm(evidence, most_s)
        near, mde = outcome, None
        if outcome is not Outcome.INCONCLUSIVE and self._was_short(evidence):
            outcome, later = self._walk_on(evidence, outcome, most_s)
            if near is Outcome.PASS and outcome is Outcome.FAIL:
                if self._fails_again_later(most_s):
                    ruling = replace(later.ruling(self.alpha, later.n), by=LATER)
                    return Settled(ruling, self._spent_s, later.course(self.alpha))
                outcome = Outcome.INCONCLUSIVE
            mde = later.ruling(AGREE_ALPHA, later.n).mde
        ruling = evidence.ruling(self.alpha, self._affordable(evidence))
        course = evidence.test.course(self.alpha)
        if outcome is near:
            return Settled(replace(ruling, outcome=outcome), self._spent_s, course)
        return Settled(replace(ruling, outcome=outcome, mde=mde), self._spent_s, course, unconfirmed=near)

    def _evidence(self, *, aside: Kind | None = None, walks: bool = False) -> Evidence:
        names = [metric.side for metric in (self.left, self.right) if isinstance(metric, Metric)]
        margin = _ELSEWHERE_MARGIN if any(self.rounds.sides[name].elsewhere for name in names) else 0.0
        return Evidence(self.left, self.right, at_least=self.at_least, aside=aside, margin=margin, walks=walks)

    def _aside(self) -> Kind | None:
        """What to observe besides trials: the workers' work, done again, if it is waited for; else refills, or None."""
        evidence = self._evidence()
        names = evidence.names
        for seen in self.rounds.done:
            evidence.add(seen.records)
        if not isinstance(evidence.test, RatioTest) or _is_obvious(evidence):  # which a few trials settle sooner
            return None
        looks = evidence.test.n
        while self.rounds.replayed(names):
            if self.rounds.waits_for_work(names):
                return Work()
            if looks >= _FEWEST_LOOKS:
                break
            self.rounds.observe(evidence.keys)
            looks += 1
        return Refilled() if self._refills_count(evidence.keys, looks) else None

    def _refills_count(self, keys: Sequence[Key], looks: int) -> bool:
        """Whether these loaders come to rest with all their work done, and wait only for CPU time.

        ``looks``: rounds of trials so far. The first few only show how long a batch takes.
        """
        evidence = self._evidence(aside=Refilled())
        if any(self.rounds.sides[name].inline for name in evidence.names):
            return False
        for _ in range(looks, _REFILLS_LOOKS):
            self.rounds.observe(keys)
        for seen in self.rounds.done:
            evidence.add(seen.records)
        for _ in range(_REFILLS_LOOKS):
            if evidence.refills or not self.rounds.refillable(evidence.names):
                break
            evidence.add(self.rounds.observe(evidence.aside_keys).records)
        return evidence.refills > 0

    def _within_budget(self, evidence: Evidence) -> tuple[Outcome, float]:
        """The outcome, and the seconds that were allowed: the budget, or more if a verdict seems near."""

        def settled() -> Outcome:
            return evidence.test.outcome(self.alpha)

        outcome = self._measure([evidence], self._next_keys(evidence), self.budget_seconds, settled)
        seems = beyond(evidence.ruling(self.alpha, 0), at_least=self.at_least)
        obvious = _is_obvious(evidence)  # of too few pairs for an interval
        near = obvious or seems is not Outcome.INCONCLUSIVE or _fails_by_far(evidence)
        if outcome is not Outcome.INCONCLUSIVE or not near:
            return outcome, self.budget_seconds
        most_s = max(self.budget_seconds, self.max_budget_seconds)
        keys = self._next_keys(evidence)
        outcome = self._measure([evidence], keys, most_s, settled)
        for _ in range(_OBVIOUS_ROUNDS):  # a very slow commit must not pass because these rounds take minutes
            if outcome is Outcome.INCONCLUSIVE and _is_obvious(evidence):
                outcome = self._measure([evidence], keys, self._spent_s + _ONE_ROUND, settled)
        return outcome, max(most_s, self._spent_s)

    def _next_keys(self, evidence: Evidence) -> Callable[[], Sequence[Key]]:
        """What to observe next: trials, alternating with the other evidence while that may help."""
        test = evidence.test
        share_s = {False: sum(seen.seconds for seen in self.rounds.done if evidence.holds(seen.records)), True: 0.0}
        looked = len(self.rounds.done)

        def choose() -> Sequence[Key]:
            if not isinstance(test, RatioTest) or not self._aside_goes_on(evidence):
                return evidence.keys
            if len(self.rounds.done) > looked:
                last = self.rounds.done[-1]
                share_s[evidence.aside_keys[0] in last.records] += last.seconds
            settled = test.work_outcome(self.alpha / _KINDS) is not Outcome.INCONCLUSIVE
            sums_first = settled or not test.enough_sums or share_s[True] > share_s[False]
            return evidence.keys if sums_first else evidence.aside_keys

        return choose

    def _aside_goes_on(self, evidence: Evidence) -> bool:
        """Whether the other evidence can still be observed: it may have failed meanwhile."""
        if isinstance(evidence.aside, Work):
            return self.rounds.replayed(evidence.names)
        return evidence.aside is not None and self.rounds.refillable(evidence.names)

    def _confirm(self, found: Evidence, most_s: float) -> tuple[Outcome, Evidence]:
        """Whether rounds of rebuilt sides alone give a FAIL again, and their evidence."""
        by, fail_alpha = found.by(self.alpha), max(self.alpha, CONFIRM_ALPHA)
        by_work, aside = by == WORK, by in (WORK, REFILLS)
        sums = found.test.sums if isinstance(found.test, RatioTest) else found.test
        obvious = isinstance(sums, PairTest) and sums.obvious
        # In one piece, a short slowdown may affect one side only; in a trial it affects all ranks.
        if not (by == SLICES or aside or obvious or isinstance(found.test, SkewTest)):
            time.sleep(_PAUSE_SECONDS)
            fail_alpha = self.alpha
        if not ((by_work and self._is_far(found)) or (obvious and self.rounds.done[-1].seconds >= _DEAR_SECONDS)):
            self.rounds.rebuild(found.names)  # memory placement may explain it
        fresh = self._evidence(aside=found.aside if aside else None)
        fresh.follow(found)
        test = fresh.test
        of_work = test if by_work and isinstance(test, RatioTest) else None
        outcome_at = of_work.work_outcome if of_work else test.outcome

        def repeated() -> Outcome:
            lenient = fail_alpha if not aside or self._aside_goes_on(fresh) else self.alpha
            return Outcome.FAIL if outcome_at(lenient) is Outcome.FAIL else outcome_at(self.alpha)

        def keys() -> Sequence[Key]:
            return fresh.aside_keys if aside and self._aside_goes_on(fresh) else fresh.keys

        outcome = self._measure([fresh, found], keys, self._more(most_s), repeated)
        seen = (of_work.work if of_work else test).ruling(self.alpha, 0)
        holds = (seen.estimate > seen.needed) if self.at_least else (seen.estimate < seen.needed)
        if outcome is Outcome.INCONCLUSIVE and not holds:  # or there is no estimate yet
            outcome = self._measure([fresh, found], keys, self.max_budget_seconds, repeated)
        if aside:  # these are not rounds of the loaders themselves
            return (outcome if outcome is Outcome.FAIL else Outcome.INCONCLUSIVE), found
        return outcome, found if outcome is Outcome.FAIL else fresh

    def _is_far(self, evidence: Evidence) -> bool:
        """Whether the interval lies farther beyond the threshold than memory placement can explain."""
        ruling = evidence.ruling(self.alpha, 0)
        far = replace(ruling, needed=ruling.needed * _PLACEMENT ** (-1 if self.at_least else 1))
        return beyond(far, at_least=self.at_least) is Outcome.FAIL

    def _was_short(self, evidence: Evidence) -> bool:
        """Whether the deciding rounds only covered the first milliseconds of an epoch."""
        by, test = evidence.by(self.alpha), evidence.test
        if by not in (SLICES, WORK) or not isinstance(test, RatioTest):
            return False
        return not (test.work if by == WORK else test.sums).in_long_trials

    def _walk_on(self, evidence: Evidence, wanted: Outcome, most_s: float) -> tuple[Outcome, PairTest]:
        """``wanted`` if the sums of rounds later in an epoch support it, too; else INCONCLUSIVE; and these sums.

        Short rounds miss what is slow later in an epoch, or only now and then. So where PASS was wanted, these rounds
        reach the epoch's end, or take their share of the budget, and hold all together; and it is FAIL if their sums
        are evidence of that at the claim's own share.
        """
        by_work = evidence.by(self.alpha) == WORK
        farther = self._evidence(aside=evidence.aside if by_work else None, walks=True)
        keys = farther.aside_keys if by_work else farther.keys
        assert isinstance(farther.test, RatioTest)
        test = farther.test.work if by_work else farther.test.sums
        may_fail = wanted is Outcome.PASS and not by_work
        first, starts = len(self.rounds.done), [self.rounds.sides[name].starts for name in farther.names]
        begun = [len(of_side) for of_side in starts]

        def covers() -> bool:
            walked = self.rounds.done[first:]
            ended = all(len(of_side) > before for of_side, before in zip(starts, begun, strict=True))
            if not ended and sum(seen.seconds for seen in walked) < _WALK_SHARE * self.budget_seconds:
                return False
            ratio = ratio_of_totals([seen.records for seen in walked], keys)
            return ratio >= test.needed if self.at_least else ratio <= test.needed

        def confirmed() -> Outcome:
            if may_fail and test.outcome(self.alpha) is Outcome.FAIL:
                return Outcome.FAIL
            agreed = test.outcome(AGREE_ALPHA) is wanted and (not may_fail or covers())
            return wanted if agreed else Outcome.INCONCLUSIVE

        def walk(until_s: float) -> Outcome:
            return self._measure([farther], lambda: keys, until_s, confirmed, longer=_WALK_ROUNDS)

        outcome = walk(self._more(most_s))
        seems = beyond(test.ruling(self.alpha, 0), at_least=self.at_least)
        if may_fail and outcome is Outcome.INCONCLUSIVE and seems is Outcome.FAIL:
            outcome = walk(self.max_budget_seconds)
        return outcome, test

    def _fails_again_later(self, most_s: float) -> bool:
        """Whether the sums of rebuilt sides, through the epoch, give a FAIL again."""
        fresh = self._evidence(walks=True)
        assert isinstance(fresh.test, RatioTest)
        test = fresh.test.sums
        self.rounds.rebuild(fresh.names)

        def repeated() -> Outcome:
            lenient = test.outcome(max(self.alpha, CONFIRM_ALPHA))
            return lenient if lenient is Outcome.FAIL else test.outcome(self.alpha)

        until_s = max(self._more(most_s), self.max_budget_seconds)
        return self._measure([fresh], lambda: fresh.keys, until_s, repeated, longer=_WALK_ROUNDS) is Outcome.FAIL

    def _more(self, most_s: float) -> float:
        """Seconds for the second look: what was allowed, and at least as long as it took so far."""
        return max(most_s, 2 * self._spent_s)

    def _affordable(self, evidence: Evidence) -> int:
        """Observations that the whole budget has time for."""
        seconds = sum(seen.seconds for seen in self.rounds.done if evidence.holds(seen.records))
        left_s = max(0.0, self.budget_seconds - self._spent_s)
        return round(evidence.test.n * (1 + left_s / seconds)) if seconds else evidence.test.n

    def _measure(
        self,
        gathering: Sequence[Evidence],
        next_keys: Callable[[], Sequence[Key]],
        most_s: float,
        settled: Callable[[], Outcome],
        longer: int = 1,
    ) -> Outcome:
        """Measure rounds until it is settled, or until the next one might end after ``most_s`` of this claim."""
        began_s, before_s = time.perf_counter(), self._spent_s
        longest_s, rounds = 0.0, 0
        with self.rounds.watched():
            while (outcome := settled()) is Outcome.INCONCLUSIVE and self._spent_s + longest_s < most_s:
                more = f" of up to {most_s:.0f} s: a verdict is near" if most_s > self.budget_seconds else ""
                self.progress(f"{rounds} {'long ' if longer > 1 else ''}rounds, {self._spent_s:.0f} s{more}")
                seen = self.rounds.observe(next_keys(), longer)
                for evidence in gathering:
                    evidence.add(seen.records)
                rounds += 1
                longest_s = max(longest_s, seen.seconds)
                self._spent_s = before_s + time.perf_counter() - began_s
        return outcome


def _is_obvious(evidence: Evidence) -> bool:
    return isinstance(evidence.test, (RatioTest, PairTest)) and evidence.test.obvious


def _fails_by_far(evidence: Evidence) -> bool:
    """Whether every pair of a slow loader shows a FAIL by far: they may be too few for an interval."""
    test = evidence.test.sums if isinstance(evidence.test, RatioTest) else evidence.test
    return isinstance(test, PairTest) and test.all_far and test.leaning is Outcome.FAIL
