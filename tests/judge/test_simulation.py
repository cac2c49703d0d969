"""False alarms and power on thousands of generated series, and the fast test against exact oracles. No clock."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from pytest_loaderperf.judge import Outcome, PercentileTest, SignTest
from pytest_loaderperf.judge.betting import Betting, _bets
from pytest_loaderperf.judge.evidence import hits_needed
from tests.judge import oracle
from tests.judge.simulation import (
    ALPHAS,
    CLAIMS,
    EFFECTS,
    FAIR,
    FIRST_SHARE,
    LASTING,
    PAIRS,
    SEED,
    SPREAD,
    SPREADS,
    THRESHOLD,
    TRIAL_BATCHES,
    TRIALS,
    AlwaysFirst,
    alarms,
    coarse_timer,
    confirmed_rates,
    drifting,
    fails_of_slower,
    fair_rate,
    first_looks,
    gaussian,
    hits_that_settle,
    layout_shifts,
    one_sided_moods,
    percentile_looks,
    periodic,
    slow_batches,
)

UNLIKELY = 1e-6  # the chance at which another seed would break a bound
NAMED = {"ids": lambda scenario: scenario.__name__}


def outcome_at(passes, fails, n):
    """What a claim has come to at ``n`` looks, from the first looks that settle it."""
    if min(passes, fails) > n:
        return Outcome.INCONCLUSIVE
    return Outcome.PASS if passes < fails else Outcome.FAIL


@pytest.mark.parametrize("scenario", FAIR, **NAMED)
def test_false_alarms_at_the_threshold_are_as_many_as_a_fair_coin_gives(scenario):
    series = scenario(np.random.default_rng(SEED), CLAIMS, PAIRS)
    for alpha in ALPHAS:
        alarmed = alarms(series, 1.0, alpha).sum()
        assert alarmed <= alpha * CLAIMS
        exact = fair_rate(PAIRS, alpha)
        assert alarmed <= stats.binom.isf(UNLIKELY, CLAIMS, exact)
        # Ties are evidence for neither side, so where they abound there are fewer.
        assert scenario is coarse_timer or alarmed >= stats.binom.ppf(UNLIKELY, CLAIMS, exact)


@pytest.mark.parametrize("scenario", [*FAIR, layout_shifts], **NAMED)
@pytest.mark.parametrize("at_least", [True, False])
def test_the_same_loader_twice_fails_a_claim_with_room_less_often_than_alpha(scenario, at_least):
    series = scenario(np.random.default_rng(SEED), CLAIMS, PAIRS)
    for alpha in ALPHAS:
        passes, fails = first_looks(series, THRESHOLD if at_least else 1 / THRESHOLD, alpha, at_least=at_least)
        assert (fails < passes).mean() <= alpha
        assert (passes < fails).mean() > 0.85


@pytest.mark.parametrize("scenario", LASTING, **NAMED)
def test_what_strikes_one_side_alone_and_lasts_breaks_the_promise_at_the_threshold(scenario):
    """The limit that docs/verdicts.md tells of; and the simulation would see a test that cries wolf."""
    once, twice = confirmed_rates(scenario, 1.0, 0.05)
    assert once > stats.binom.isf(UNLIKELY, CLAIMS, 0.05) / CLAIMS
    assert twice < once


@pytest.mark.parametrize("alpha", [*ALPHAS, FIRST_SHARE])
def test_a_confirmed_fail_keeps_the_promise_where_sides_are_rebuilt_and_there_is_room(alpha):
    assert confirmed_rates(layout_shifts, THRESHOLD, alpha)[1] <= alpha


@pytest.mark.parametrize("scenario, alpha", [(layout_shifts, FIRST_SHARE), (one_sided_moods, 0.01)])
def test_a_confirmed_fail_is_rarer_than_alpha_where_there_is_room(scenario, alpha):
    assert confirmed_rates(scenario, THRESHOLD, alpha)[1] <= alpha


@pytest.mark.parametrize("scenario", [drifting, periodic], **NAMED)
def test_without_a_random_order_the_machine_would_look_like_the_loader(scenario):
    """What the coin within each pair is for."""
    fixed = scenario(AlwaysFirst(), CLAIMS, PAIRS)
    assert alarms(fixed, 1.0, 0.05).mean() > stats.binom.isf(UNLIKELY, CLAIMS, fair_rate(PAIRS, 0.05)) / CLAIMS


@pytest.mark.parametrize("scenario", [*FAIR, *LASTING], **NAMED)
@pytest.mark.parametrize("at_least", [True, False])
def test_the_class_that_users_meet_says_the_same_at_every_pair(scenario, at_least):
    pairs = 60
    shifts = np.array([-0.06, -0.03, -0.01, 0, 0, 0, 0.01, 0.03, 0.06])  # at 0 the coarse timer's ties are at the limit
    series, needed = scenario(np.random.default_rng(1), len(shifts), pairs) + shifts[:, None], 1.0
    looks = zip(*first_looks(series, needed, FIRST_SHARE, at_least=at_least), strict=True)
    for row, (passes, fails) in zip(np.exp(series), looks, strict=True):
        test = SignTest(needed, at_least)
        for n, ratio in enumerate(row, start=1):
            test.add(float(ratio))
            assert test.outcome(FIRST_SHARE) is outcome_at(passes, fails, n)
            if n >= min(passes, fails):
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


@pytest.mark.parametrize("spread", SPREADS)
def test_a_larger_slowdown_is_caught_more_often_and_sooner(spread):
    looks = [fails_of_slower(effect, spread) for effect in EFFECTS]
    shares, medians = [(fails <= PAIRS).mean() for fails in looks], [np.median(fails) for fails in looks]
    assert shares == sorted(shares)
    assert medians == sorted(medians, reverse=True)
    assert shares[0] < 0.9
    assert shares[-1] == 1
    assert medians[-1] < 30


def test_less_noise_is_more_power():
    for effect in EFFECTS:
        calm, noisy = (np.median(fails_of_slower(effect, spread)) for spread in SPREADS)
        assert calm < noisy or calm == noisy == PAIRS + 1


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("at_least", [True, False])
def test_a_claim_five_percent_from_the_truth_is_never_settled_wrong(holds, at_least):
    shift = math.log(1.05) if at_least is holds else math.log(0.95)
    series = gaussian(np.random.default_rng(SEED), CLAIMS, PAIRS) + shift
    passes, fails = first_looks(series, 1.0, FIRST_SHARE, at_least=at_least)
    right, wrong = (passes, fails) if holds else (fails, passes)
    assert (right <= 150).all()
    assert (wrong == PAIRS + 1).all()


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("burst", [1, 10])
def test_a_percentile_at_its_limit_fails_less_often_than_alpha(alpha, burst):
    """Exactly the allowed share is slow; bursts reach across trials."""
    slow = slow_batches(np.random.default_rng(SEED), CLAIMS, TRIALS // 2, burst=burst)
    assert slow.mean() / TRIAL_BATCHES == pytest.approx(0.01, rel=0.02)
    passes, fails = percentile_looks(slow, TRIAL_BATCHES, 0.01, alpha)
    assert alpha / 20 < (fails <= TRIALS // 2).mean() <= alpha
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
    passes, fails = percentile_looks(slow, size, 0.05, FIRST_SHARE)
    seen = set()
    for row, settled in zip(slow, zip(passes, fails, strict=True), strict=True):
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


def test_the_noise_is_as_wide_as_it_says():
    assert gaussian(np.random.default_rng(SEED), 1000, PAIRS).std() == pytest.approx(SPREAD, rel=0.01)
