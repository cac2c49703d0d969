"""Verdicts on series of single figures, by their signs; and the fast test against exact oracles."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from pytest_loaderperf.errors import MeasureError
from pytest_loaderperf.judge import Outcome, SignTest, claim_alpha
from pytest_loaderperf.judge.evidence import hits_needed
from tests.judge import oracle
from tests.judge.noise import SEED, coarse_timer, gaussian
from tests.judge.simulation import ALPHAS, CLAIMS, PAIRS, UNLIKELY, fair_rate, hits_that_settle, outcome_at, sign_looks

FIRST_SHARE = claim_alpha(0.001, 0)


def judged(ratios, needed, alpha=FIRST_SHARE, *, at_least=True):
    """What a claim comes to that looks after every pair, and the number of pairs it took."""
    test = SignTest(needed, at_least)
    for ratio in ratios:
        test.add(float(ratio))
        if test.outcome(alpha) is not Outcome.INCONCLUSIVE:
            break
    return test.outcome(alpha), test.n


def test_values_equal_to_what_is_needed_are_evidence_for_neither_side():
    assert judged([1.0] * 500, 1.0) == (Outcome.INCONCLUSIVE, 500)


@pytest.mark.parametrize("at_least, value, outcome", [(True, 2, "PASS"), (True, 0.5, "FAIL"), (False, 2, "FAIL")])
def test_fourteen_pairs_on_one_side_settle_the_first_claim(at_least, value, outcome):
    assert judged([value] * 50, 1.0, at_least=at_least) == (Outcome(outcome), 14)


def test_an_at_most_claim_is_the_at_least_claim_of_the_reciprocals():
    ratios = np.exp(np.random.default_rng(5).normal(-0.05, 0.04, (50, 150)))
    for row in ratios:
        assert judged(row, 0.97) == judged(1 / row, 1 / 0.97, at_least=False)


@pytest.mark.parametrize(
    "value, text", [(math.nan, "nan"), (0.0, "0.0"), (-1.5, "-1.5"), (math.inf, "inf"), (-math.inf, "-inf")]
)
def test_a_value_that_is_no_measurement_is_refused(value, text):
    test = SignTest(1.0, at_least=True)
    with pytest.raises(MeasureError) as caught:
        test.add(value)
    assert str(caught.value) == (
        f"expected a positive, finite measured value, got {text}. A duration of zero or a broken clock "
        "gives such values: use more work in a batch, or another machine."
    )
    assert test.n == 0


def test_the_ruling_holds_the_estimate_its_interval_and_what_was_needed():
    test = SignTest(0.97, at_least=True)
    for value in np.linspace(1.0, 1.2, 41):
        test.add(float(value))
    ruling = test.ruling(FIRST_SHARE, 0)
    assert (ruling.outcome, ruling.needed, ruling.n) == (Outcome.PASS, 0.97, 41)
    assert ruling.estimate == pytest.approx(1.1)
    assert 1.0 < ruling.low < 1.1 < ruling.high < 1.2


def test_without_observations_nothing_is_known():
    ruling = SignTest(1.0, at_least=True).ruling(0.05, 1000)
    assert (ruling.outcome, ruling.n, ruling.mde) == (Outcome.INCONCLUSIVE, 0, None)
    assert math.isnan(ruling.estimate)
    assert (ruling.low, ruling.high) == (0.0, math.inf)


def test_signs_alone_alarm_as_often_as_a_fair_coin():
    series = gaussian(np.random.default_rng(SEED), CLAIMS, PAIRS)
    for alpha in ALPHAS:
        above, below = sign_looks(series, 1.0, alpha)
        exact = fair_rate(PAIRS, alpha)
        low, high = (stats.binom.ppf(chance, CLAIMS, exact) for chance in (UNLIKELY, 1 - UNLIKELY))
        assert low <= (below < above).sum() <= high


@pytest.mark.parametrize("at_least", [True, False])
def test_the_class_for_single_figures_says_the_same_at_every_value(at_least):
    series = coarse_timer(np.random.default_rng(1), 9, 60) + np.linspace(-0.06, 0.06, 9)[:, None]
    above, below = sign_looks(series, 1.0, FIRST_SHARE)
    looks = zip(above, below, strict=True) if at_least else zip(below, above, strict=True)
    for row, (passes, failed) in zip(np.exp(series), looks, strict=True):
        test = SignTest(1.0, at_least)
        for n, value in enumerate(row, start=1):
            test.add(float(value))
            assert test.outcome(FIRST_SHARE) is outcome_at(passes, failed, n)
            if n >= min(passes, failed):
                break


@pytest.mark.parametrize("p0", [Fraction(1, 2), Fraction(1, 100)], ids=str)
@pytest.mark.parametrize("alpha", [Fraction(1, 20), Fraction(1, 100), Fraction(1, 2000)], ids=str)
def test_the_fast_boundary_is_the_exact_one(p0, alpha):
    for n in (*range(1, 40), 60, 90):
        assert hits_needed(n, float(p0), -math.log(alpha)) == oracle.enough(n, p0, alpha)


@pytest.mark.parametrize("alpha", [0.05, 0.01, FIRST_SHARE, FIRST_SHARE / 100])
def test_the_exact_chance_of_a_false_alarm_keeps_to_alpha_and_wastes_little_of_it(alpha):
    assert alpha / 20 < fair_rate(PAIRS, alpha) < alpha
    assert fair_rate(PAIRS // 4, alpha) < fair_rate(PAIRS, alpha)


def test_the_exact_chance_is_that_of_all_sequences_fed_to_the_class():
    pairs, alpha, failed = 10, 0.05, 0
    for ratios in itertools.product([0.5, 2.0], repeat=pairs):
        test = SignTest(1.0, at_least=True)
        for ratio in ratios:
            test.add(ratio)
            if test.outcome(alpha) is not Outcome.INCONCLUSIVE:
                break
        failed += test.outcome(alpha) is Outcome.FAIL
    assert failed > 0
    assert oracle.alarm_chance(hits_that_settle(pairs, alpha)) == Fraction(failed, 2**pairs)
