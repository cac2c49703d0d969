"""Verdicts on the share of batches beyond a limit, and on numbers that do not vary."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from pytest_loaderperf.errors import MeasureError
from pytest_loaderperf.judge import ExactTest, Outcome, PercentileTest, claim_alpha
from pytest_loaderperf.judge.betting import Betting, _bets
from pytest_loaderperf.judge.evidence import hits_needed
from tests.judge import oracle
from tests.judge.noise import SEED
from tests.judge.quickly import first_quickly
from tests.judge.simulation import ALPHAS, CLAIMS, TRIAL_BATCHES, TRIALS, outcome_at, percentile_looks, slow_batches

FIRST_SHARE = claim_alpha(0.001, 0)


def judged(values, needed, q, *, at_least=False, alpha=FIRST_SHARE, chunk=10):
    """What a claim comes to that looks after every ``chunk`` values, and how many it took."""
    test = PercentileTest(needed, q, at_least)
    for start in range(0, len(values), chunk):
        test.add_all(values[start : start + chunk])
        if test.outcome(alpha) is not Outcome.INCONCLUSIVE:
            break
    return test.outcome(alpha), test.n


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("at_least", [True, False])
@pytest.mark.parametrize("share_above, above", [(0.1, False), (3, True)])
def test_a_clear_share_beyond_the_limit_settles(q, at_least, share_above, above):
    """The true share of values above the limit is a tenth, or three times, of what the percentile allows."""
    rng = np.random.default_rng(1)
    chance = min(0.9, share_above * (1 - q))
    values = 3000 if above or not at_least else 15_000  # what falls short of a high percentile does so by little
    outcomes = {judged(list(1.0 + (rng.random(values) < chance)), 1.5, q, at_least=at_least)[0] for _ in range(20)}
    assert outcomes == {Outcome.PASS if above is at_least else Outcome.FAIL}


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_looking_after_every_batch_keeps_the_false_alarm_rate_at_the_boundary(q):
    """Independent batches, of which exactly the allowed share is beyond the limit."""
    n, series = 1000, 2000
    enough = np.array([hits_needed(looked, 1 - q, -math.log(0.05)) for looked in range(1, n + 1)])
    above = np.random.default_rng(2).random((series, n)) < 1 - q
    rate = (above.cumsum(axis=1) >= enough).any(axis=1).mean()
    assert 0.002 < rate <= 0.05


@pytest.mark.parametrize("at_least, above", [(False, "FAIL"), (True, "PASS")])
def test_one_batch_beyond_a_p99_limit_settles_nothing_but_fifty_in_a_row_do(at_least, above):
    assert judged([2.0], 1.0, 0.99, at_least=at_least)[0] is Outcome.INCONCLUSIVE
    assert judged([2.0] * 50, 1.0, 0.99, at_least=at_least)[0] is Outcome(above)


def test_slow_batches_that_come_in_bursts_do_not_fail_a_percentile_that_holds():
    """A fifth of what the p99 allows is beyond the limit, ten batches in a row: a machine taken away for a while."""
    rng = np.random.default_rng(4)
    failed = 0
    for _ in range(300):
        test = PercentileTest(1.0, 0.99, at_least=False)
        for burst in rng.random(300) < 0.002:
            test.add_all([2.0 if burst else 0.5] * 10)
            if burst and test.outcome(FIRST_SHARE) is Outcome.FAIL:
                failed += 1
                break
    assert failed <= 1


@pytest.mark.parametrize("at_least", [True, False])
def test_values_at_the_limit_pass_no_claim_and_fail_none(at_least):
    assert judged([1.0] * 5000, 1.0, 0.99, at_least=at_least)[0] is Outcome.INCONCLUSIVE


def test_an_at_most_claim_mirrors_the_at_least_claim():
    rng = np.random.default_rng(3)
    for median in (0.9, 0.98, 1.02, 1.1):
        values = list(rng.normal(median, 0.05, 300))
        mirrored = [2.0 - value for value in values]
        assert judged(values, 1.0, 0.5) == judged(mirrored, 1.0, 0.5, at_least=True)


def test_the_order_of_values_does_not_matter_to_what_is_settled_in_the_end():
    values = [1.0] * 900 + [2.0] * 100
    assert judged(values, 1.5, 0.95, chunk=1000) == judged(values[::-1], 1.5, 0.95, chunk=1000)


def test_the_ruling_of_a_percentile_is_in_the_unit_of_its_values():
    test = PercentileTest(0.0955, 0.95, at_least=False)
    for start in range(1, 1001, 10):
        test.add_all([i / 1000 for i in range(start, start + 10)])
    ruling = test.ruling(FIRST_SHARE, 0)
    assert (ruling.outcome, ruling.estimate, ruling.needed, ruling.n) == (Outcome.FAIL, 0.95, 0.0955, 1000)
    assert 0.9 < ruling.low < 0.95 < ruling.high < 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_value_that_is_no_duration_is_refused(value):
    with pytest.raises(MeasureError, match=f"expected a .* measured value, got {value}"):
        PercentileTest(1.0, 0.99, at_least=False).add_all([0.5, value])


def test_without_observations_a_percentile_is_not_settled():
    ruling = PercentileTest(1.0, 0.99, at_least=False).ruling(0.05, 0)
    assert (ruling.outcome, ruling.n, ruling.mde) == (Outcome.INCONCLUSIVE, 0, None)
    assert math.isnan(ruling.estimate)


@pytest.mark.parametrize(
    "needed, at_least, values, outcome",
    [
        (10, False, [], "INCONCLUSIVE"),
        (10, False, [10], "PASS"),
        (10, False, [11], "FAIL"),
        (10, True, [10], "PASS"),
        (10, True, [9], "FAIL"),
        (10, False, [9, 11, 9], "FAIL"),
        (10, True, [9, 11, 9], "FAIL"),
        (10, False, [0], "PASS"),
    ],
)
def test_an_exact_claim_holds_or_not(needed, at_least, values, outcome):
    test = ExactTest(needed, at_least)
    for value in values:
        test.add(value)
    assert test.outcome(0.001) is Outcome(outcome)
    assert test.n == len(values)


def test_the_ruling_of_an_exact_claim_is_a_point():
    test = ExactTest(10, at_least=False)
    test.add(3)
    test.add(7)
    ruling = test.ruling(0.001, 500)
    assert (ruling.estimate, ruling.low, ruling.high, ruling.n, ruling.mde) == (7, 7, 7, 2, 0)


def test_an_exact_claim_refuses_what_is_no_number():
    with pytest.raises(MeasureError, match=r"expected a .* measured value, got nan"):
        ExactTest(10, at_least=False).add(math.nan)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("burst", first_quickly([10, 1]))
def test_a_percentile_at_its_limit_fails_less_often_than_alpha(alpha, burst):
    """Exactly the allowed share is slow; bursts reach across trials."""
    slow = slow_batches(np.random.default_rng(SEED), CLAIMS // 4, TRIALS // 2, burst=burst)
    assert slow.mean() / TRIAL_BATCHES == pytest.approx(0.01, rel=0.02)
    passes, failed = percentile_looks(slow, TRIAL_BATCHES, 0.01, alpha)
    assert alpha / 20 < (failed <= TRIALS // 2).mean() <= alpha
    # PASS counts batches, so it is promised only where they do not come in bursts.
    assert ((passes <= TRIALS // 2).mean() <= alpha) is np.bool_(burst == 1)


def test_a_percentile_that_counted_each_batch_would_cry_wolf_in_bursts():
    """What counting by trials is for."""
    slow = slow_batches(np.random.default_rng(SEED), 2000, TRIALS // 2)
    batches = TRIAL_BATCHES * np.arange(1, TRIALS // 2 + 1)
    needed = [hits_needed(int(n), 0.01, -math.log(0.05)) for n in batches]
    assert (slow.cumsum(axis=1) >= needed).any(axis=1).mean() > 0.1


def test_the_percentile_class_says_the_same_after_every_trial():
    size, trials = 10, 60
    slow = np.concatenate(
        [slow_batches(np.random.default_rng(2), 6, trials, size=size, share=s) for s in (0.002, 0.05, 0.1, 0.3)]
    )
    passes, failed = percentile_looks(slow, size, 0.05, FIRST_SHARE)
    seen = set()
    for row, settled in zip(slow, zip(passes, failed, strict=True), strict=True):
        test = PercentileTest(1.0, 0.95, at_least=False)
        for n, count in enumerate(row, start=1):
            test.add_all([2.0] * count + [0.5] * (size - count))
            assert test.outcome(FIRST_SHARE) is outcome_at(*settled, n)
            seen.add(test.outcome(FIRST_SHARE))
            if n >= min(settled):
                break
    assert seen == set(Outcome)


def test_betting_is_the_average_of_exact_products_and_wins_nothing_on_average():
    """Over all sequences of four trials whose shares have the mean that is allowed."""
    mean, values = Fraction(1, 100), {Fraction(0): Fraction(19, 20), Fraction(1, 5): Fraction(1, 20)}
    bets = [Fraction(float(bet)) for bet in _bets(float(mean))]
    expected = Fraction(0)
    for sequence in itertools.product(values, repeat=4):
        exact = oracle.betting_e_value(sequence, mean, bets)
        expected += math.prod(values[value] for value in sequence) * exact
        betting = Betting(float(mean))
        for value in sequence:
            betting.add(float(value))
        assert betting.log_evidence == pytest.approx(math.log(exact), abs=1e-12)
    assert expected == 1
