"""False alarms and power on thousands of generated series, and the fast test against exact oracles. No clock."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from pytest_loaderperf.judge import Outcome, PairTest, PercentileTest, SignTest
from pytest_loaderperf.judge.betting import Betting, _bets
from pytest_loaderperf.judge.evidence import hits_needed
from tests.judge import oracle
from tests.judge.simulation import (
    ALPHAS,
    CLAIMS,
    EFFECTS,
    FACTORS,
    FAIR,
    FIRST_SHARE,
    ONE_SIDED,
    PAIRS,
    SEED,
    SPREAD,
    SPREADS,
    THRESHOLD,
    TRIAL_BATCHES,
    TRIALS,
    AlwaysFirst,
    alarms,
    bursty,
    coarse_timer,
    confirmed_rates,
    drifting,
    evidence,
    fails,
    fair_rate,
    first_looks,
    gaussian,
    heavy_tailed,
    hits_that_settle,
    layout_shifts,
    looks_at,
    one_sided_stalls,
    one_sided_stretches,
    percentile_looks,
    periodic,
    sign_looks,
    slow_batches,
    slower,
)

UNLIKELY = 1e-6  # the chance at which another seed would break a bound
NAMED = {"ids": lambda scenario: scenario.__name__}


def outcome_at(passes, failed, n):
    """What a claim has come to at ``n`` looks, from the first looks that settle it."""
    if min(passes, failed) > n:
        return Outcome.INCONCLUSIVE
    return Outcome.PASS if passes < failed else Outcome.FAIL


@pytest.mark.parametrize("scenario", FAIR, **NAMED)
def test_false_alarms_at_the_threshold_are_fewer_than_alpha_on_either_side(scenario):
    seen = evidence(scenario(np.random.default_rng(SEED), CLAIMS, PAIRS), 1.0)
    for alpha in ALPHAS:
        for at_least in (True, False):
            passes, failed = looks_at(seen, alpha, at_least=at_least)
            # Far fewer would be evidence thrown away.
            assert alpha / 5 < (failed < passes).mean() <= alpha


@pytest.mark.parametrize("scenario", [*FAIR, layout_shifts], **NAMED)
@pytest.mark.parametrize("at_least", [True, False])
def test_the_same_loader_twice_fails_a_claim_with_room_less_often_than_alpha(scenario, at_least):
    series = scenario(np.random.default_rng(SEED), CLAIMS, PAIRS // 2)
    seen = evidence(series, THRESHOLD if at_least else 1 / THRESHOLD)
    for alpha in ALPHAS:
        passes, failed = looks_at(seen, alpha, at_least=at_least)
        assert (failed < passes).mean() <= alpha
        assert (passes < failed).mean() > 0.85


def test_signs_alone_alarm_as_often_as_a_fair_coin():
    series = gaussian(np.random.default_rng(SEED), CLAIMS, PAIRS)
    for alpha in ALPHAS:
        above, below = sign_looks(series, 1.0, alpha)
        exact = fair_rate(PAIRS, alpha)
        low, high = (stats.binom.ppf(chance, CLAIMS, exact) for chance in (UNLIKELY, 1 - UNLIKELY))
        assert low <= (below < above).sum() <= high


@pytest.mark.parametrize("scenario", ONE_SIDED, **NAMED)
def test_what_strikes_one_side_alone_breaks_the_promise_at_the_threshold(scenario):
    """The limit that docs/simulation.md tells of; and the simulation would see a test that cries wolf."""
    claims = CLAIMS // 4
    once, twice = confirmed_rates(scenario, 1.0, [0.05], claims)[0.05]
    assert once > stats.binom.isf(UNLIKELY, claims, 0.05) / claims
    assert twice < once


def test_a_confirmed_fail_keeps_the_promise_where_sides_are_rebuilt_and_there_is_room():
    for alpha, (_, confirmed) in confirmed_rates(layout_shifts, THRESHOLD, [*ALPHAS, FIRST_SHARE], CLAIMS // 2).items():
        assert confirmed <= alpha


@pytest.mark.parametrize("scenario", [one_sided_stalls, one_sided_stretches], **NAMED)
def test_a_confirmed_fail_is_rarer_than_alpha_where_one_side_suffers_and_there_is_room(scenario):
    assert confirmed_rates(scenario, THRESHOLD, [0.01], CLAIMS // 4)[0.01][1] <= 0.01


@pytest.mark.parametrize("scenario", [drifting, periodic], **NAMED)
def test_without_a_random_order_the_machine_would_look_like_the_loader(scenario):
    """What the coin within each pair is for."""
    claims = CLAIMS // 2
    tossed, fixed = (
        alarms(evidence(scenario(rng, claims, PAIRS), 1.0), 0.05)
        for rng in (np.random.default_rng(SEED), AlwaysFirst())
    )
    assert fixed.sum() > stats.binom.isf(UNLIKELY, claims, tossed.mean())


@pytest.mark.parametrize("scenario", [*FAIR, *ONE_SIDED], **NAMED)
@pytest.mark.parametrize("at_least", [True, False])
def test_the_class_that_users_meet_has_the_same_evidence_at_every_pair(scenario, at_least):
    shifts = np.array([-1.7, -0.8, -0.03, 0, 0, 0.01, 0.06, 0.8])  # at 0 the coarse timer's ties are at the limit
    series, needed = scenario(np.random.default_rng(1), len(shifts), 60) + shifts[:, None], 1.0
    for obvious in (True, False):
        above, below = np.log(evidence(series, needed, obvious=obvious))
        passing, failing = (above, below) if at_least else (below, above)
        for row, for_claim, against in zip(np.exp(series), passing, failing, strict=True):
            test = PairTest(needed, at_least, obvious)
            for ratio, wanted in zip(row, zip(for_claim, against, strict=True), strict=True):
                test.add(float(ratio))
                seen = [test.log_evidence(outcome) for outcome in (Outcome.PASS, Outcome.FAIL)]
                assert seen == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("sizes", [[0.01, 0.02, 0.5, 0.03, 0.0, 0.2, 0.04, 0.01], [0.3] * 8, [0.6, 0.001] * 4])
def test_symmetric_noise_wins_nothing_on_average_whatever_its_size(sizes):
    """Over all signs that noise of these sizes can have; what is obvious costs a little where none of it is."""
    signs = np.array(list(itertools.product([-1, 1], repeat=len(sizes))))
    for seen in evidence(signs * sizes, 1.0, obvious=False):
        assert seen.mean(axis=0) == pytest.approx(np.ones(len(sizes)))
    assert (evidence(signs * sizes, 1.0).mean(axis=1) < 1).all()


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


@pytest.mark.parametrize("scenario", FAIR, **NAMED)
def test_the_noise_for_which_there_is_a_promise_is_seldom_wrong_by_a_factor_of_two(scenario):
    """What the obvious bets assume, there with much to spare."""
    series = scenario(np.random.default_rng(SEED), 1000, PAIRS)
    assert (np.abs(series) > math.log(2)).mean() < 0.05 / 2
    assert (np.abs(series) > math.log(5)).mean() < 0.005 / 2


def test_noise_that_is_often_wrong_by_a_factor_of_two_breaks_the_promise_of_what_is_obvious():
    series = slower(0, spread=1.0, claims=CLAIMS // 2)
    rates = [alarms(evidence(series, 1.0, obvious=obvious), 0.05).mean() for obvious in (True, False)]
    assert rates[1] <= 0.05 < rates[0]


def test_noise_that_has_shown_how_large_it_is_raises_few_alarms():
    """A spread of 0.45: one pair in sixteen is wrong by a factor of two, against the assumption."""
    series = slower(0, spread=0.45, claims=CLAIMS // 2)
    assert (series[:, 0] > math.log(2)).mean() > 0.05
    assert alarms(evidence(series, 1.0), 0.05).mean() <= 0.05


@pytest.mark.parametrize("spread", [0.1, 0.3])
def test_what_is_obvious_takes_few_pairs(spread):
    most = dict(zip(FACTORS, [25, 15, 5, 5, 3], strict=True))
    for factor in FACTORS:
        failed = fails(first_looks(slower(1 - 1 / factor, spread=spread, pairs=40), 1.0, FIRST_SHARE), 40)
        assert np.quantile(failed, 0.99) <= most[factor]


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
    looks = [fails(first_looks(slower(effect, spread=spread), 1.0, FIRST_SHARE)) for effect in EFFECTS]
    shares, medians = [(failed <= PAIRS).mean() for failed in looks], [np.median(failed) for failed in looks]
    assert shares == sorted(shares)
    assert medians == sorted(medians, reverse=True)
    assert shares[0] < 0.995
    assert shares[-1] == 1
    assert medians[-1] < 25


@pytest.mark.parametrize("effect", EFFECTS)
def test_how_far_pairs_lie_off_says_more_than_on_which_side(effect):
    """In Gaussian noise; where noise has heavy tails, signs are about as good."""
    for noise, spread, slack in [*((gaussian, spread, 1.0) for spread in SPREADS), (heavy_tailed, SPREAD, 1.2)]:
        series = slower(effect, noise, spread)
        ours, signs = (np.median(fails(looks(series, 1.0, FIRST_SHARE))) for looks in (first_looks, sign_looks))
        assert ours <= slack * signs
        if noise is gaussian and 20 < signs <= PAIRS:
            assert ours < 0.9 * signs


def test_less_noise_is_more_power():
    for effect in EFFECTS:
        calm, noisy = (
            np.median(fails(first_looks(slower(effect, spread=spread), 1.0, FIRST_SHARE))) for spread in SPREADS
        )
        assert calm < noisy or calm == noisy == PAIRS + 1


def test_bursts_delay_a_verdict_and_do_not_turn_it():
    passes, failed = first_looks(slower(0.05, bursty), 1.0, FIRST_SHARE)
    assert (failed < passes).all()
    assert np.median(failed) < 25


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("at_least", [True, False])
def test_a_claim_five_percent_from_the_truth_is_never_settled_wrong(holds, at_least):
    shift = math.log(1.05) if at_least is holds else math.log(0.95)
    series = gaussian(np.random.default_rng(SEED), CLAIMS, PAIRS // 4) + shift
    passes, failed = first_looks(series, 1.0, FIRST_SHARE, at_least=at_least)
    right, wrong = (passes, failed) if holds else (failed, passes)
    assert (right <= PAIRS // 4).all()
    assert (wrong == PAIRS // 4 + 1).all()


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("burst", [1, 10])
def test_a_percentile_at_its_limit_fails_less_often_than_alpha(alpha, burst):
    """Exactly the allowed share is slow; bursts reach across trials."""
    slow = slow_batches(np.random.default_rng(SEED), CLAIMS, TRIALS // 2, burst=burst)
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


def test_the_noise_is_as_wide_as_it_says():
    assert gaussian(np.random.default_rng(SEED), 1000, PAIRS).std() == pytest.approx(SPREAD, rel=0.01)
