"""Measuring until a claim is settled."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pytest_loaderperf.claims import Records, test_of
from pytest_loaderperf.judge import AGREE_ALPHA, CONFIRM_ALPHA, ExactTest, Outcome, RatioTest, Ruling, Test
from pytest_loaderperf.measurement import Key, Rounds
from pytest_loaderperf.metric import Metric
from pytest_loaderperf.units import Quantity

_WALK_ROUNDS = 8  # a short round sees the first milliseconds of an epoch alone
_MOOD_SECONDS = 1.0  # most of a machine's moods are over by then


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a claim, and the seconds it took."""

    ruling: Ruling
    seconds: float


@dataclass(slots=True)
class Settling:
    """One claim, its share ``alpha`` of the false-alarm budget, and at most ``budget_seconds`` to settle it."""

    rounds: Rounds
    left: Metric
    right: Metric | Quantity
    at_least: bool
    alpha: float
    budget_seconds: float
    progress: Callable[[str], None]

    def settle(self) -> Settled:
        """Measure until the claim is settled, a FAIL confirmed by new evidence, or the budget is spent."""
        keys = list(dict.fromkeys(metric.key for metric in (self.left, self.right) if isinstance(metric, Metric)))
        names = list(dict.fromkeys(key.side for key in keys))
        test, add = test_of(self.left, self.right, at_least=self.at_least)
        for seen in self.rounds.done:
            if all(key in seen.records for key in keys):
                add(seen.records)
        outcome, spent_s = self._measure(keys, test, [add], self.budget_seconds, self.alpha)
        in_slices = isinstance(test, RatioTest) and self.rounds.sliced(names)
        if outcome is Outcome.FAIL and not isinstance(test, ExactTest):
            fail_alpha = max(self.alpha, CONFIRM_ALPHA)
            if not in_slices:  # in one piece, a side may suffer alone for as long as a mood lasts
                time.sleep(_MOOD_SECONDS)
                fail_alpha = self.alpha
            self.rounds.rebuild(names)
            fresh, add_fresh = test_of(self.left, self.right, at_least=self.at_least)
            most_s = max(self.budget_seconds - spent_s, spent_s)
            outcome, took_s = self._measure(keys, fresh, [add_fresh, add], most_s, fail_alpha)
            test = test if outcome is Outcome.FAIL else fresh
            spent_s += took_s
        if outcome is not Outcome.INCONCLUSIVE and in_slices:
            outcome, took_s = self._farther_on(keys, outcome, max(self.budget_seconds - spent_s, spent_s))
            spent_s += took_s
        seconds = [seen.seconds for seen in self.rounds.done if all(key in seen.records for key in keys)]
        left_s = max(0.0, self.budget_seconds - spent_s)
        ruling = test.ruling(self.alpha, round(test.n * (1 + left_s / sum(seconds))))
        return Settled(replace(ruling, outcome=outcome), spent_s)

    def _farther_on(self, keys: list[Key], wanted: Outcome, most_s: float) -> tuple[Outcome, float]:
        """``wanted`` if the sums of rounds farther into an epoch point there, too; INCONCLUSIVE if not in time.

        What is slow there, or now and then, is in no short round.
        """
        began_s = time.perf_counter()
        spent_s = longest_s = 0.0
        test, add = test_of(self.left, self.right, at_least=self.at_least)
        assert isinstance(test, RatioTest)
        with self.rounds.watched():
            while test.by_sums(AGREE_ALPHA) is not wanted:
                if spent_s + longest_s >= most_s:
                    return Outcome.INCONCLUSIVE, spent_s
                self.progress(f"{test.n} long observations, {spent_s:.0f} s")
                seen = self.rounds.observe(keys, longer=_WALK_ROUNDS)
                add(seen.records)
                spent_s, longest_s = time.perf_counter() - began_s, max(longest_s, seen.seconds)
        return wanted, spent_s

    def _measure(
        self, keys: list[Key], test: Test, adds: Sequence[Callable[[Records], None]], most_s: float, fail_alpha: float
    ) -> tuple[Outcome, float]:
        """Measure rounds until the test is settled or the next one might last beyond ``most_s``; seconds spent."""
        began_s = time.perf_counter()
        spent_s = longest_s = 0.0
        with self.rounds.watched():
            while True:
                outcome = test.outcome(self.alpha)
                if fail_alpha > self.alpha and test.outcome(fail_alpha) is Outcome.FAIL:
                    outcome = Outcome.FAIL
                if test.n and (outcome is not Outcome.INCONCLUSIVE or spent_s + longest_s >= most_s):
                    return outcome, spent_s
                self.progress(f"{test.n} observations, {spent_s:.0f} s")
                seen = self.rounds.observe(keys)
                for add in adds:
                    add(seen.records)
                spent_s, longest_s = time.perf_counter() - began_s, max(longest_s, seen.seconds)
