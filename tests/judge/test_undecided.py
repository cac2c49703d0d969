"""What an undecided claim leans to and counts as, and how long it would probably take to settle."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from pytest_loaderperf.judge import Outcome, Ruling, SignTest, Verdict, beyond, claim_alpha, seconds_to_settle
from pytest_loaderperf.judge.power import LONGEST_SECONDS
from tests.judge.quickly import first_quickly

FIRST_SHARE = claim_alpha(0.001, 0)
FEWEST_PAIRS = 14  # that settle the first claim of a run
NONE = float("nan")


def ruling(low, high, outcome=Outcome.INCONCLUSIVE, estimate=0.9, n=40, **changes):
    return Ruling(outcome, estimate, low, high, 1.0, n, None, **changes)


def verdict_of(of, **changes):
    return Verdict("a >= b", of, "1", True, 1.0, "s", 1.0, "pairs", 1.0, 0.001, **changes)


@pytest.mark.parametrize(
    "low, high, at_least, at_most",
    [
        (0.8, 0.9, "FAIL", "PASS"),
        (1.1, 1.2, "PASS", "FAIL"),
        (0.9, 1.1, "INCONCLUSIVE", "INCONCLUSIVE"),
        (0.9, 1.0, "INCONCLUSIVE", "INCONCLUSIVE"),
        (1.0, 1.1, "INCONCLUSIVE", "INCONCLUSIVE"),
        (1.0, 1.0, "INCONCLUSIVE", "INCONCLUSIVE"),
        (0.0, math.inf, "INCONCLUSIVE", "INCONCLUSIVE"),
        (1.1, math.inf, "PASS", "FAIL"),
        (0.0, 0.9, "FAIL", "PASS"),
    ],
)
def test_an_interval_lies_beyond_the_threshold_as_a_whole_or_not_at_all(low, high, at_least, at_most):
    assert beyond(ruling(low, high), at_least=True) == at_least
    assert beyond(ruling(low, high), at_least=False) == at_most


def test_where_nothing_was_seen_the_interval_lies_beyond_nothing():
    assert beyond(ruling(NONE, NONE, estimate=NONE, n=0), at_least=True) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("policy", ["pass", "fail", "leaning"])
@pytest.mark.parametrize("low, high", [(0.8, 0.9), (0.8, 1.1), (1.1, 1.2)])
def test_a_policy_says_what_an_undecided_claim_counts_as_and_nothing_of_others(outcome, policy, low, high):
    verdict = verdict_of(ruling(low, high, outcome), policy=policy)
    fails_by_policy = {"pass": False, "fail": True, "leaning": high < 1}[policy]
    assert bool(verdict) == (outcome is Outcome.PASS or (outcome is Outcome.INCONCLUSIVE and not fails_by_policy))


def test_an_undecided_verdict_passes_unless_told_otherwise():
    assert verdict_of(ruling(0.8, 0.9))


def seen(distance, spread, n, *, at_least=True):
    """The ruling of ``n`` pairs in Gaussian noise around ``distance`` beyond the threshold, as typical as they get."""
    test = SignTest(1.0, at_least)
    quantiles = (np.arange(n) + 0.5) / n
    for log in np.random.default_rng(1).permutation(special.ndtri(quantiles)) * spread + distance:
        test.add(math.exp(log))
    return test.ruling(FIRST_SHARE, n)


def settled(distance, spread, n):
    """Share of series of ``n`` pairs that settle by then."""
    done = 0
    for row in np.random.default_rng(2).normal(distance, spread, (200, n)):
        test = SignTest(1.0, at_least=True)
        for log in row:
            test.add(math.exp(log))
            if test.outcome(FIRST_SHARE) is not Outcome.INCONCLUSIVE:
                done += 1
                break
    return done / 200


@pytest.mark.parametrize("distance, spread, n", first_quickly([(-0.02, 0.05, 30), (0.03, 0.1, 30), (-0.01, 0.05, 100)]))
def test_a_claim_settles_in_about_as_many_pairs_as_it_said(distance, spread, n):
    pairs = round(seconds_to_settle(seen(distance, spread, n), FIRST_SHARE, 1.0))
    assert settled(distance, spread, pairs) >= 0.8
    assert settled(distance, spread, pairs // 4) < 0.5


@pytest.mark.parametrize("at_least", [True, False])
def test_either_side_of_the_threshold_takes_as_long(at_least):
    below, above = (seconds_to_settle(seen(d, 0.05, 40, at_least=at_least), FIRST_SHARE, 0.1) for d in (-0.01, 0.01))
    assert below == pytest.approx(above, rel=0.1)


def test_half_the_distance_takes_about_four_times_as_long_and_slower_pairs_in_proportion():
    far, near = (seconds_to_settle(seen(distance, 0.05, 40), FIRST_SHARE, 0.1) for distance in (-0.01, -0.005))
    assert 3 < near / far < 6
    assert seconds_to_settle(seen(-0.01, 0.05, 40), FIRST_SHARE, 0.3) == pytest.approx(3 * far, rel=0.02)


def test_a_smaller_share_of_the_false_alarm_budget_takes_longer():
    first, fiftieth = (seconds_to_settle(seen(-0.01, 0.05, 40), claim_alpha(0.001, i), 0.1) for i in (0, 49))
    assert fiftieth > 1.3 * first


def test_where_the_noise_is_unknown_it_is_the_fewest_pairs_that_can_settle_anything():
    assert seconds_to_settle(ruling(0.0, math.inf, estimate=0.05, n=3), FIRST_SHARE, 2.0) == 2.0 * FEWEST_PAIRS


def test_what_should_have_been_enough_but_was_not_is_taken_twice():
    assert seconds_to_settle(ruling(0.04, 0.1, estimate=0.07, n=13), FIRST_SHARE, 1.0) == 26
    assert seconds_to_settle(ruling(0.9, 0.9, n=50), FIRST_SHARE, 1.0) == 100


@pytest.mark.parametrize(
    "open_ruling",
    [
        ruling(0.9, 1.1, estimate=1.0),  # on the threshold
        ruling(1.0, 1.0, estimate=1.0),
        ruling(0.9, 1.1, estimate=0.9999),  # would take more than an hour
        ruling(0.8, 0.9, Outcome.FAIL),
        ruling(1.1, 1.2, Outcome.PASS, estimate=1.15),
        ruling(0.9, 0.9, exact=True),
        ruling(NONE, NONE, estimate=NONE, n=0),
        ruling(0.0, 1.1, estimate=0.0),
    ],
)
def test_there_is_no_time_for_what_is_settled_or_never_will_be(open_ruling):
    assert seconds_to_settle(open_ruling, FIRST_SHARE, 0.1) is None


def test_an_hour_is_the_longest():
    open_ruling = seen(-0.01, 0.05, 40)
    pairs = seconds_to_settle(open_ruling, FIRST_SHARE, 1.0)
    assert seconds_to_settle(open_ruling, FIRST_SHARE, LONGEST_SECONDS / pairs * 0.99) is not None
    assert seconds_to_settle(open_ruling, FIRST_SHARE, LONGEST_SECONDS / pairs * 1.01) is None


def test_a_verdict_compares_and_combines_as_the_bool_that_it_stands_for():
    passed, failed = (verdict_of(ruling(0.8, 0.9, outcome)) for outcome in (Outcome.PASS, Outcome.FAIL))
    assert (passed == True, failed == True, failed != False) == (True, False, False)  # noqa: E712 what is tested
    assert passed != verdict_of(passed.ruling)
    assert len({passed, failed, passed}) == 2
    assert passed & failed is failed
    assert failed & passed is failed
    assert failed | passed is passed
