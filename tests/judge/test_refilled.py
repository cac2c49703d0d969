"""False alarms, power and limits of claims on loaders that take turns of refills, on generated series. No clock."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_loaderperf.judge import Outcome, RatioTest
from tests.judge.refilled import CLAIMS, ROUNDS, looks, series
from tests.judge.simulation import FIRST_SHARE, THRESHOLD, outcome_at

ALPHA = 0.05


@pytest.mark.parametrize("spreads", [(0.1, 0.02), (0.3, 0.15)], ids=str)
def test_false_alarms_at_the_threshold_are_fewer_than_alpha(spreads):
    passed, failed = looks(series(1.0, 1.0, 1.0, spreads, CLAIMS), 1.0, ALPHA)
    assert ALPHA / 20 < (failed < passed).mean() <= ALPHA
    assert (passed < failed).mean() <= ALPHA


@pytest.mark.parametrize("spreads", [(0.1, 0.02), (0.3, 0.15)], ids=str)
def test_slower_loaders_fail_soon_however_noisy_their_trials_are(spreads):
    ratio = THRESHOLD * 0.93
    passed, failed = looks(series(ratio, ratio, ratio, spreads), THRESHOLD, FIRST_SHARE)
    assert np.quantile(failed, 0.99) <= 30
    assert (passed == ROUNDS + 1).all()


@pytest.mark.parametrize("clock_spread, most", [(0.02, 0.0005), (0.15, 0.005)])
def test_cpu_time_that_nobody_waits_for_seldom_fails_as_the_clock_speaks_against_it(clock_spread, most):
    rounds = series(1.1, 1.1, 0.9, (0.2, clock_spread))
    passed, failed = looks(rounds, THRESHOLD, FIRST_SHARE)
    assert (failed < passed).mean() <= most


def test_what_is_slow_now_and_then_and_in_no_typical_turn_does_not_pass():
    passed, _ = looks(series(0.85, 1.0, 1.0, (0.2, 0.02)), THRESHOLD, FIRST_SHARE)
    assert (passed <= ROUNDS).mean() < 0.02


def test_the_class_that_users_meet_says_the_same_after_every_round():
    seen = set()
    for truth in [(0.8, 0.8, 0.8), (1.0, 1.0, 1.0), (1.2, 1.2, 0.8), (0.8, 1.1, 1.1)]:
        rounds = series(*truth, (0.1, 0.05), claims=10)
        settled = zip(*looks(rounds, THRESHOLD, FIRST_SHARE), strict=True)
        for claim, (passed, failed) in zip(np.exp(rounds).swapaxes(0, 1), settled, strict=True):
            test, mirrored = RatioTest(THRESHOLD, True, refilled=True), RatioTest(1 / THRESHOLD, False, refilled=True)
            for n, (of_sums, of_clock, of_cpu) in enumerate(claim.T.tolist(), start=1):
                test.add(of_sums)
                test.add_refilled(of_clock, of_cpu)
                mirrored.add(1 / of_sums)
                mirrored.add_refilled(1 / of_clock, 1 / of_cpu)
                outcome = test.outcome(FIRST_SHARE)
                assert outcome is mirrored.outcome(FIRST_SHARE) is outcome_at(passed, failed, n)
                if n >= min(passed, failed):
                    seen.add((outcome, test.ruling(FIRST_SHARE, 0).by))
                    break
    assert {(Outcome.PASS, "slices"), (Outcome.FAIL, "slices"), (Outcome.PASS, "sums"), (Outcome.FAIL, "sums")} == seen
