"""Verdicts on single series of ratios of pairs; test_simulation.py holds those on thousands."""

from __future__ import annotations

import math
import statistics
import sys

import numpy as np
import pytest

from pytest_loaderperf.errors import MeasureError
from pytest_loaderperf.judge import Outcome, PairTest, claim_alpha
from pytest_loaderperf.judge.pair_bets import obvious_interval, rescaled_after, scale_of

FIRST_SHARE = claim_alpha(0.001, 0)
BOTH = (Outcome.PASS, Outcome.FAIL)


def filled(ratios, needed=1.0, *, at_least=True, seconds=1.0):
    test = PairTest(needed, at_least)
    for ratio in ratios:
        test.add(float(ratio), seconds)
    return test


def judged(ratios, needed, alpha=FIRST_SHARE, *, at_least=True, seconds=1.0):
    """What a claim comes to that looks after every pair, and the number of pairs it took."""
    test = PairTest(needed, at_least)
    for ratio in ratios:
        test.add(float(ratio), seconds)
        if test.outcome(alpha) is not Outcome.INCONCLUSIVE:
            break
    return test.outcome(alpha), test.n


def test_ratios_equal_to_what_is_needed_are_evidence_for_neither_side():
    assert judged([1.0] * 500, 1.0) == (Outcome.INCONCLUSIVE, 500)
    test = filled([1.0] * 500, seconds=0.4)
    assert [test.log_evidence(outcome) for outcome in BOTH] == pytest.approx([0, 0])
    assert test.leaning is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("at_least, ratio, outcome", [(True, 1.3, "PASS"), (True, 0.7, "FAIL"), (False, 1.3, "FAIL")])
def test_twelve_pairs_far_on_one_side_settle_the_first_claim(at_least, ratio, outcome):
    assert judged([ratio] * 50, 1.0, at_least=at_least) == (Outcome(outcome), 12)


@pytest.mark.parametrize("ratio, pairs", [(0.45, 4), (0.19, 2), (2.1, 4), (5.5, 2), (1 / 30, 2)])
@pytest.mark.parametrize("at_least", [True, False])
def test_what_is_obvious_takes_four_pairs_or_two(ratio, pairs, at_least):
    word = Outcome.PASS if (ratio > 1) is at_least else Outcome.FAIL
    assert judged([ratio] * 50, 1.0, at_least=at_least) == (word, pairs)
    assert judged([ratio] * 50, 1.0, at_least=at_least, seconds=0.4)[1] > 10


def test_a_single_pair_settles_nothing_however_far_it_lies():
    assert judged([1e-9], 1.0) == (Outcome.INCONCLUSIVE, 1)
    assert judged([1e9, *[1.0] * 30], 1.0) == (Outcome.INCONCLUSIVE, 31)


def test_pairs_that_scatter_widely_are_not_obvious():
    """Off by a factor of three now and then, as short trials of workers are: the scale says that this is noise."""
    quiet = [1.0, 1.5, 0.6, 2.9, 0.4, 1.1, 2.5, 0.35] * 2
    wide, narrow = (filled([*before, 0.3, 0.3]) for before in (quiet, [1.01, 0.99] * 8))
    gained = [test.log_evidence(Outcome.FAIL) - test.log_evidence(Outcome.PASS) for test in (wide, narrow)]
    assert gained[0] < 2 < gained[1]


def test_only_pairs_with_a_long_trial_are_obvious():
    """On a busy machine a trial of milliseconds waits for a core as long as it lasts, or ten times as long."""
    assert filled([0.1] * 4, seconds=0.5).outcome(FIRST_SHARE) is Outcome.FAIL
    assert filled([0.1] * 4, seconds=0.49).outcome(0.05) is Outcome.INCONCLUSIVE
    mixed = filled([0.1] * 4, seconds=0.1)
    mixed.add(0.1, seconds=1.0)
    assert mixed.outcome(FIRST_SHARE) is Outcome.INCONCLUSIVE
    mixed.add(0.1, seconds=1.0)
    assert mixed.outcome(FIRST_SHARE) is Outcome.FAIL
    assert mixed.against(0.9).log_evidence(Outcome.FAIL) == pytest.approx(mixed.log_evidence(Outcome.FAIL), abs=0.2)


@pytest.mark.parametrize(
    "ratios, seconds, obvious",
    [
        ([0.1], 1.0, True),
        ([0.1, 0.12], 0.5, True),
        ([0.1], 0.4, False),
        ([0.6], 1.0, False),
        ([12.0], 1.0, True),
        ([0.1, 1.0, 1.0], 1.0, False),
        ([], 1.0, False),
    ],
)
def test_long_pairs_that_are_off_by_more_than_a_factor_of_two_are_called_obvious(ratios, seconds, obvious):
    test = PairTest(1.0, at_least=True)
    for ratio in ratios:
        test.add(ratio, seconds)
    assert test.obvious is obvious


def test_the_size_of_a_difference_counts():
    """Six pairs on either side, those above farther away."""
    test = filled([1.1, 0.99] * 6)
    assert test.log_evidence(Outcome.PASS) > 1 > test.log_evidence(Outcome.FAIL)


def test_an_outlier_does_not_undo_what_the_others_say():
    steady = filled([1.06, 1.04, 1.05, 1.07] * 6)
    disturbed = filled([*[1.06, 1.04, 1.05, 1.07] * 6, 1e-4])
    assert disturbed.outcome(FIRST_SHARE) is steady.outcome(FIRST_SHARE) is Outcome.PASS


def test_an_at_most_claim_is_the_at_least_claim_of_the_reciprocals():
    ratios = np.exp(np.random.default_rng(5).normal(-0.05, 0.04, (50, 150)))
    for row in ratios:
        assert judged(row, 0.97) == judged(1 / row, 1 / 0.97, at_least=False)


@pytest.mark.parametrize(
    "value, text", [(math.nan, "nan"), (0.0, "0.0"), (-1.5, "-1.5"), (math.inf, "inf"), (-math.inf, "-inf")]
)
def test_a_value_that_is_no_ratio_is_refused(value, text):
    test = PairTest(1.0, at_least=True)
    before = [test.log_evidence(outcome) for outcome in BOTH]
    with pytest.raises(MeasureError, match=f"expected a positive, finite measured value, got {text}"):
        test.add(value)
    assert (test.n, [test.log_evidence(outcome) for outcome in BOTH]) == (0, before)


@pytest.mark.parametrize("needed, word", [(0.0, "PASS"), (-1.0, "PASS"), (math.inf, "FAIL")])
def test_what_every_ratio_exceeds_or_none_reaches_is_settled_at_once(needed, word):
    assert judged([1.0, 1.1, 0.9, 1.0], needed) == (Outcome(word), 2)
    ruling = filled([1.0, 1.1, 0.9, 1.0], needed).ruling(FIRST_SHARE, 100)
    assert (ruling.outcome, ruling.needed, ruling.estimate) == (Outcome(word), needed, pytest.approx(1.0))


@pytest.mark.parametrize("extreme", [5e-324, sys.float_info.max])
@pytest.mark.parametrize("pairs", [2, 3, 20])
@pytest.mark.parametrize("at_least", [True, False])
def test_the_most_extreme_ratios_there_are_break_nothing(extreme, pairs, at_least):
    for other in (extreme, 1.0):
        test = filled(([extreme, other] * 10)[:pairs], at_least=at_least)
        for seen in (test, test.against(0.9)):
            assert all(math.isfinite(seen.log_evidence(outcome)) for outcome in BOTH)
            ruling = seen.ruling(FIRST_SHARE, 50)
            assert 0 <= ruling.low <= ruling.estimate <= ruling.high
            assert ruling.mde is None or 0 <= ruling.mde < math.inf


def test_evidence_for_being_undecided_is_refused():
    with pytest.raises(ValueError, match="expected PASS or FAIL, got INCONCLUSIVE"):
        PairTest(1.0, at_least=True).log_evidence(Outcome.INCONCLUSIVE)


@pytest.mark.parametrize("at_least, word", [(True, "PASS"), (False, "FAIL")])
def test_it_leans_to_the_side_of_the_median(at_least, word):
    assert filled([1.01, 1.01, 0.5], at_least=at_least).leaning is Outcome(word)


def test_the_same_pairs_against_another_ratio():
    ratios = np.exp(np.random.default_rng(8).normal(0, 0.1, 40))
    seen = filled(ratios, 0.97).against(0.9)
    fresh = filled(ratios, 0.9)
    for outcome in BOTH:
        assert seen.log_evidence(outcome) == pytest.approx(fresh.log_evidence(outcome))


def test_the_ruling_holds_the_estimate_its_interval_and_what_was_needed():
    values = np.linspace(1.0, 1.2, 41)
    ruling = filled(values, 0.97).ruling(FIRST_SHARE, 0)
    assert (ruling.outcome, ruling.needed, ruling.n, ruling.by) == (Outcome.PASS, 0.97, 41, "")
    assert ruling.estimate == pytest.approx(1.1)
    assert 1.0 < ruling.low < 1.1 < ruling.high < 1.2


@pytest.mark.parametrize("ratios", [[0.1, 0.12], [0.1, 0.12, 0.11], [0.1, 0.12, 0.11, 0.13, 0.1]])
def test_few_pairs_have_an_interval_of_a_factor_of_two_around_them(ratios):
    ruling = filled(ratios).ruling(FIRST_SHARE, 0)
    assert min(ratios) / 2.001 <= ruling.low <= min(ratios)
    assert max(ratios) <= ruling.high <= max(ratios) * 2.001
    unknown = filled(ratios, seconds=0.4).ruling(FIRST_SHARE, 0)
    assert (unknown.low, unknown.high) == (0.0, math.inf)


@pytest.mark.parametrize("n", range(2, 9))
def test_the_interval_of_few_pairs_holds_the_truth(n):
    """One pair in twenty off by more than two, upwards, and as many downwards: the worst that is assumed."""
    rng = np.random.default_rng(n)
    logs = rng.choice([-0.7, 0.0, 0.7], p=[0.05, 0.9, 0.05], size=(4000, n))
    bounds = [obvious_interval(row) for row in logs]
    assert statistics.fmean(low <= 0 <= high for low, high in bounds) >= 0.99


def test_without_observations_nothing_is_known():
    ruling = PairTest(1.0, at_least=True).ruling(0.05, 1000)
    assert (ruling.outcome, ruling.n, ruling.mde) == (Outcome.INCONCLUSIVE, 0, None)
    assert math.isnan(ruling.estimate)
    assert (ruling.low, ruling.high) == (0.0, math.inf)
    assert PairTest(1.0, at_least=True).leaning is Outcome.INCONCLUSIVE


def test_the_scale_is_the_spread_of_what_came_before_without_outliers_and_shift():
    logs = np.random.default_rng(3).normal(-0.5, 0.1, 400)
    assert scale_of(logs) == pytest.approx(0.1, rel=0.1)
    assert scale_of([*logs, *[50.0] * 40]) == pytest.approx(0.1, rel=0.3)
    assert scale_of([]) == scale_of([7.0]) > 0
    assert 0 < scale_of([1.0] * 1000) < 0.001


def test_the_scale_is_set_anew_at_first_often_then_seldom():
    times = [1]
    while times[-1] < 1000:
        times.append(rescaled_after(times[-1]))
    assert times[:6] == [1, 2, 3, 4, 5, 6]
    assert len(times) < 40
