"""Measuring until a claim is settled."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pytest_loaderperf.claims import Records, test_of
from pytest_loaderperf.judge import AGREE_ALPHA, CONFIRM_ALPHA, ExactTest, Outcome, RatioTest, Ruling
from pytest_loaderperf.measurement import Key, Rounds
from pytest_loaderperf.metric import Metric
from pytest_loaderperf.units import Quantity

_WALK_ROUNDS = 8  # a short round sees the first milliseconds of an epoch alone
_MOOD_SECONDS = 1.0  # most of a machine's moods are over by then


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a claim, and the seconds it took; ``unconfirmed`` is what only the first batches say."""

    ruling: Ruling
    seconds: float
    unconfirmed: Outcome | None = None


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
        outcome, spent_s = self._measure(keys, [add], self.budget_seconds, lambda: test.outcome(self.alpha))
        in_slices = isinstance(test, RatioTest) and self.rounds.sliced(names)
        if outcome is Outcome.FAIL and not isinstance(test, ExactTest):
            fail_alpha = max(self.alpha, CONFIRM_ALPHA)
            if not in_slices:  # in one piece, a side may suffer alone for as long as a mood lasts
                time.sleep(_MOOD_SECONDS)
                fail_alpha = self.alpha
            self.rounds.rebuild(names)
            fresh, add_fresh = test_of(self.left, self.right, at_least=self.at_least)

            def repeated() -> Outcome:
                return Outcome.FAIL if fresh.outcome(fail_alpha) is Outcome.FAIL else fresh.outcome(self.alpha)

            outcome, took_s = self._measure(keys, [add_fresh, add], self._left_s(spent_s), repeated)
            test = test if outcome is Outcome.FAIL else fresh
            spent_s += took_s
        near, mde = outcome, None
        if outcome is not Outcome.INCONCLUSIVE and in_slices:
            outcome, took_s, mde = self._farther_on(keys, outcome, self._left_s(spent_s))
            spent_s += took_s
        seconds = [seen.seconds for seen in self.rounds.done if all(key in seen.records for key in keys)]
        left_s = max(0.0, self.budget_seconds - spent_s)
        ruling = test.ruling(self.alpha, round(test.n * (1 + left_s / sum(seconds))))
        if outcome is near:
            return Settled(replace(ruling, outcome=outcome), spent_s)
        return Settled(replace(ruling, outcome=outcome, mde=mde), spent_s, unconfirmed=near)

    def _left_s(self, spent_s: float) -> float:
        """Seconds to confirm in: what is left of the budget, and at least as long as it took so far."""
        return max(self.budget_seconds - spent_s, spent_s)

    def _farther_on(self, keys: list[Key], wanted: Outcome, most_s: float) -> tuple[Outcome, float, float | None]:
        """``wanted`` if the sums of rounds farther into an epoch point there, too; INCONCLUSIVE if not in time.

        Then the seconds spent, and the MDE there. What is slow there, or now and then, is in no short round.
        """
        test, add = test_of(self.left, self.right, at_least=self.at_least)
        assert isinstance(test, RatioTest)

        def confirmed() -> Outcome:
            return wanted if test.sums.outcome(AGREE_ALPHA) is wanted else Outcome.INCONCLUSIVE

        outcome, spent_s = self._measure(keys, [add], most_s, confirmed, longer=_WALK_ROUNDS)
        return outcome, spent_s, test.sums.ruling(AGREE_ALPHA, test.n).mde

    def _measure(
        self,
        keys: list[Key],
        adds: Sequence[Callable[[Records], None]],
        most_s: float,
        settled: Callable[[], Outcome],
        longer: int = 1,
    ) -> tuple[Outcome, float]:
        """Measure rounds until it is settled or the next one might last beyond ``most_s``; seconds spent."""
        began_s = time.perf_counter()
        spent_s = longest_s = 0.0
        rounds = 0
        with self.rounds.watched():
            while (outcome := settled()) is Outcome.INCONCLUSIVE and spent_s + longest_s < most_s:
                self.progress(f"{rounds} {'long ' if longer > 1 else ''}rounds, {spent_s:.0f} s")
                seen = self.rounds.observe(keys, longer)
                for add in adds:
                    add(seen.records)
                rounds += 1
                spent_s, longest_s = time.perf_counter() - began_s, max(longest_s, seen.seconds)
        return outcome, spent_s
