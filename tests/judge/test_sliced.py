"""False alarms, power and limits of ratio claims from rounds in slices, on thousands of generated series. No clock."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pytest_loaderperf.judge import Outcome, RatioTest
from tests.judge.noise import SEED, AlwaysFirst, drifting
from tests.judge.quickly import first_quickly
from tests.judge.simulation import ALPHAS, EFFECTS, FIRST_SHARE, NAMED, THRESHOLD, UNLIKELY, first_looks, outcome_at
from tests.judge.sliced import (
    CLAIMS,
    FAIR,
    LONG,
    REBUILT_EVERY,
    ROUNDS,
    SLICES,
    confirmed_rates,
    fails_of_slower,
    fair_rounds,
    in_slices,
    layout_shifts,
    one_sided_stalls,
    ratio_looks,
    rhythm,
    shares,
    slow_part_slower,
    typical_slower,
)


def looks_once(rounds, needed, alpha, **side):
    return ratio_looks(rounds, needed, [alpha], **side)[alpha]


@pytest.mark.parametrize("scenario", first_quickly(FAIR), **NAMED)
def test_the_same_loader_twice_fails_no_more_often_than_alpha(scenario):
    rounds = fair_rounds(scenario)
    for alpha, (above, below) in ratio_looks(rounds, 1.0, ALPHAS).items():
        for looks in ((above, below), (below, above)):  # of a claim of at least, and of one of at most
            assert alpha / 10 < shares(looks)[1] <= alpha
    for at_least, needed in ((True, THRESHOLD), (False, 1 / THRESHOLD)):
        for alpha, looks in ratio_looks(rounds[:, : CLAIMS // 4], needed, ALPHAS, at_least=at_least).items():
            passed, failed = shares(looks)
            assert failed <= alpha
            assert passed > 0.6


def test_stalls_of_one_side_break_the_promise_of_neither_sums_nor_slices_where_there_is_room():
    for alpha, looks in ratio_looks(fair_rounds(one_sided_stalls), THRESHOLD, ALPHAS).items():
        assert shares(looks)[1] <= alpha


@pytest.mark.slow
def test_without_a_coin_each_round_the_machine_would_look_like_the_loader():
    claims = CLAIMS // 2
    series = [fair_rounds(drifting, claims=claims), drifting(AlwaysFirst(), claims, ROUNDS * SLICES, in_slices)]
    tossed, fixed = (shares(looks_once(rounds, 1.0, 0.05))[1] for rounds in series)
    assert fixed > stats.binom.isf(UNLIKELY, claims, tossed) / claims


@pytest.mark.parametrize("at_least", [True, False])
def test_the_class_that_users_meet_says_the_same_after_every_round(at_least):
    shifts = np.array([-0.06, -0.03, -0.01, 0, 0, 0.01, 0.03, 0.06])[:, None]  # at 0 the coarse timer's ties
    series = [fair_rounds(scenario, claims=len(shifts), seed=1) + shifts for scenario in FAIR]
    series += [rhythm(10, typical, slow, claims=12, rounds=ROUNDS) for typical, slow in [(1, 1.5), (1.1, 0.7)]]
    seen = set()
    for rounds in series:
        looks = zip(*looks_once(rounds, 1.0, FIRST_SHARE, at_least=at_least), strict=True)
        for claim, settled in zip(np.exp(rounds).swapaxes(0, 1), looks, strict=True):
            test = RatioTest(1.0, at_least)
            for n, (of_sums, of_slices) in enumerate(claim.T, start=1):
                test.add(float(of_sums), float(of_slices), seconds=1.0)
                assert test.outcome(FIRST_SHARE) is outcome_at(*settled, n)
                seen.add(test.outcome(FIRST_SHARE))
                if n >= min(settled):
                    break
    assert seen == set(Outcome)


def test_layout_drawn_anew_every_round_is_noise_like_any_other():
    rounds = layout_shifts(1, claims=CLAIMS // 2)
    for needed in (1.0, THRESHOLD):
        for alpha, (once, confirmed) in confirmed_rates(rounds, needed, (*ALPHAS, FIRST_SHARE)).items():
            assert confirmed <= once <= alpha


@pytest.mark.slow
@pytest.mark.parametrize("every", REBUILT_EVERY[1:])
def test_layout_that_outlasts_a_round_breaks_the_promise_at_the_threshold(every):
    """The limit that docs/simulation.md tells of."""
    rounds = layout_shifts(every, claims=CLAIMS // 4)
    at_threshold, with_room = (confirmed_rates(rounds, needed, ALPHAS) for needed in (1.0, THRESHOLD))
    for alpha in ALPHAS:
        once, confirmed = at_threshold[alpha]
        assert once > alpha
        assert (confirmed <= alpha) is np.bool_(every == 2)
        assert (with_room[alpha][1] <= alpha) is np.bool_(every <= 8)


def test_slices_catch_on_an_unsteady_machine_what_sums_alone_do_not():
    looks = list(fails_of_slower(EFFECTS, claims=1000))
    for by_sums, by_both, shifted in looks:
        assert np.median(by_both) < np.median(by_sums)
        assert (by_both <= LONG).mean() > 0.7
        assert (shifted <= LONG).mean() >= (by_sums <= LONG).mean()
    assert (looks[0][0] <= LONG).mean() < 0.2


def test_slow_slices_alone_are_caught_by_the_sums():
    passed, failed = shares(looks_once(slow_part_slower(10, claims=1000), THRESHOLD, FIRST_SHARE))
    assert failed > 0.99
    assert passed < 0.01


def test_a_rhythm_of_several_rounds_escapes_a_claim_on_the_median_round():
    """A limit that docs/simulation.md tells of."""
    rounds = slow_part_slower(5 * SLICES, claims=1000)
    passed, failed = shares(looks_once(rounds, THRESHOLD, FIRST_SHARE))
    assert passed > 0.1
    assert failed < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("needed, most_once, most_confirmed", [(1.0, 0.25, 0.06), (THRESHOLD, 0.02, 0.002)])
def test_a_loader_whose_typical_slices_are_slower_seldom_fails_though_its_sums_are_even(
    needed, most_once, most_confirmed
):
    """Yet more often than its share, as docs/simulation.md tells: slices need but some evidence in the sums."""
    rounds = typical_slower(0.05)
    once, confirmed = confirmed_rates(rounds, needed, [FIRST_SHARE])[FIRST_SHARE]
    assert FIRST_SHARE < once < most_once
    assert confirmed < most_confirmed
    assert shares(first_looks(rounds[0], needed, FIRST_SHARE))[1] <= 5 * FIRST_SHARE


def test_a_generated_rhythm_is_as_slow_as_it_says():
    quiet_sums = rhythm(SLICES, 1, 1.5, claims=500, seed=SEED)[0]
    assert np.median(quiet_sums) == pytest.approx(-np.log(1.15), abs=0.005)
    assert np.median(typical_slower(0.05, claims=500)[0]) == pytest.approx(0, abs=0.005)
