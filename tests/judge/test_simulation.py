"""False alarms and power on thousands of generated series, and the fast test against exact oracles. No clock."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import pytest
from scipy import stats

from pytest_loaderperf.judge import Outcome, PairTest
from tests.judge.noise import (
    FAIR,
    ONE_SIDED,
    SEED,
    SPREAD,
    AlwaysFirst,
    bursty,
    drifting,
    gaussian,
    heavy_tailed,
    layout_shifts,
    one_sided_stalls,
    one_sided_stretches,
    periodic,
)
from tests.judge.quickly import first_quickly
from tests.judge.simulation import (
    ALPHAS,
    CLAIMS,
    EFFECTS,
    FACTORS,
    FIRST_SHARE,
    NAMED,
    PAIRS,
    SPREADS,
    THRESHOLD,
    UNLIKELY,
    alarms,
    confirmed_rates,
    evidence,
    fails,
    first_looks,
    looks_at,
    sign_looks,
    slower,
)


@pytest.mark.parametrize("scenario", first_quickly(FAIR), **NAMED)
def test_false_alarms_at_the_threshold_are_fewer_than_alpha_on_either_side(scenario):
    seen = evidence(scenario(np.random.default_rng(SEED), CLAIMS // 2, PAIRS), 1.0)
    for alpha in ALPHAS:
        for at_least in (True, False):
            passes, failed = looks_at(seen, alpha, at_least=at_least)
            # Far fewer would be evidence thrown away.
            assert alpha / 5 < (failed < passes).mean() <= alpha


@pytest.mark.parametrize("scenario", [*FAIR, layout_shifts], **NAMED)
@pytest.mark.parametrize("at_least", [True, False])
def test_the_same_loader_twice_fails_a_claim_with_room_less_often_than_alpha(scenario, at_least):
    series = scenario(np.random.default_rng(SEED), CLAIMS // 4, PAIRS // 2)
    seen = evidence(series, THRESHOLD if at_least else 1 / THRESHOLD)
    for alpha in ALPHAS:
        passes, failed = looks_at(seen, alpha, at_least=at_least)
        assert (failed < passes).mean() <= alpha
        assert (passes < failed).mean() > 0.85


@pytest.mark.slow
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


@pytest.mark.slow
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
            test = PairTest(needed, at_least)
            for ratio, wanted in zip(row, zip(for_claim, against, strict=True), strict=True):
                test.add(float(ratio), seconds=float(obvious))
                seen = [test.log_evidence(outcome) for outcome in (Outcome.PASS, Outcome.FAIL)]
                assert seen == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("sizes", [[0.01, 0.02, 0.5, 0.03, 0.0, 0.2, 0.04, 0.01], [0.3] * 8, [0.6, 0.001] * 4])
def test_symmetric_noise_wins_nothing_on_average_whatever_its_size(sizes):
    """Over all signs that noise of these sizes can have; what is obvious costs a little where none of it is."""
    signs = np.array(list(itertools.product([-1, 1], repeat=len(sizes))))
    for seen in evidence(signs * sizes, 1.0, obvious=False):
        assert seen.mean(axis=0) == pytest.approx(np.ones(len(sizes)))
    assert (evidence(signs * sizes, 1.0).mean(axis=1) < 1).all()


@pytest.mark.parametrize("scenario", FAIR, **NAMED)
def test_the_noise_for_which_there_is_a_promise_is_seldom_wrong_by_a_factor_of_two(scenario):
    """What the obvious bets assume, there with much to spare."""
    series = scenario(np.random.default_rng(SEED), 1000, PAIRS)
    assert (np.abs(series) > math.log(2)).mean() < 0.05 / 2
    assert (np.abs(series) > math.log(5)).mean() < 0.005 / 2


@pytest.mark.slow
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


@cache
def fails_of_slower(effect, spread):
    return fails(first_looks(slower(effect, spread=spread, claims=1000), 1.0, FIRST_SHARE))


@pytest.mark.parametrize("spread", SPREADS)
def test_a_larger_slowdown_is_caught_more_often_and_sooner(spread):
    looks = [fails_of_slower(effect, spread) for effect in EFFECTS]
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
        series = slower(effect, noise, spread, claims=1000)
        ours, signs = (np.median(fails(looks(series, 1.0, FIRST_SHARE))) for looks in (first_looks, sign_looks))
        assert ours <= slack * signs
        if noise is gaussian and 20 < signs <= PAIRS:
            assert ours < 0.9 * signs


def test_less_noise_is_more_power():
    for effect in EFFECTS:
        calm, noisy = (np.median(fails_of_slower(effect, spread)) for spread in SPREADS)
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


def test_the_noise_is_as_wide_as_it_says():
    assert gaussian(np.random.default_rng(SEED), 1000, PAIRS).std() == pytest.approx(SPREAD, rel=0.01)
