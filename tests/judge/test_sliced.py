"""False alarms, power and limits of ratio claims from rounds in slices, on thousands of generated series. No clock."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pytest_loaderperf.judge import Outcome, RatioTest
from tests.judge.simulation import (
    ALPHAS,
    EFFECTS,
    FIRST_SHARE,
    SEED,
    THRESHOLD,
    AlwaysFirst,
    coarse_timer,
    drifting,
    fair_rate,
    first_looks,
)
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
    ratio_looks,
    rhythm,
    shares,
    slow_part_slower,
    typical_slower,
)
from tests.judge.test_simulation import NAMED, UNLIKELY, outcome_at


@pytest.mark.parametrize("scenario", FAIR, **NAMED)
def test_the_same_loader_twice_fails_no_more_often_than_alpha(scenario):
    rounds = fair_rounds(scenario)
    for alpha in ALPHAS:
        for at_least in (True, False):
            _, failed = shares(ratio_looks(rounds, 1.0, alpha, at_least=at_least))
            assert failed <= alpha
            # Either test may alarm. Ties are evidence for neither side, so where they abound there are fewer.
            fewest = stats.binom.ppf(UNLIKELY, CLAIMS, fair_rate(ROUNDS, alpha / 2)) / CLAIMS
            assert scenario is coarse_timer or failed >= fewest
            room = THRESHOLD if at_least else 1 / THRESHOLD
            passed, failed = shares(ratio_looks(rounds, room, alpha, at_least=at_least))
            assert failed <= alpha
            assert passed > 0.6


def test_without_a_coin_each_round_the_machine_would_look_like_the_loader():
    claims = CLAIMS // 2
    series = [fair_rounds(drifting, claims=claims), drifting(AlwaysFirst(), claims, ROUNDS * SLICES, in_slices)]
    tossed, fixed = (shares(ratio_looks(rounds, 1.0, 0.05))[1] for rounds in series)
    assert fixed > stats.binom.isf(UNLIKELY, claims, tossed) / claims


@pytest.mark.parametrize("at_least", [True, False])
def test_the_class_that_users_meet_says_the_same_after_every_round(at_least):
    shifts = np.array([-0.06, -0.03, -0.01, 0, 0, 0.01, 0.03, 0.06])[:, None]  # at 0 the coarse timer's ties
    series = [fair_rounds(scenario, claims=len(shifts), seed=1) + shifts for scenario in FAIR]
    series += [rhythm(10, typical, slow, claims=12, rounds=ROUNDS) for typical, slow in [(1, 1.5), (1.1, 0.7)]]
    seen = set()
    for rounds in series:
        looks = zip(*ratio_looks(rounds, 1.0, FIRST_SHARE, at_least=at_least), strict=True)
        for claim, settled in zip(np.exp(rounds).swapaxes(0, 1), looks, strict=True):
            test = RatioTest(1.0, at_least)
            for n, (of_sums, of_slices) in enumerate(claim.T, start=1):
                test.add(float(of_sums), float(of_slices))
                assert test.outcome(FIRST_SHARE) is outcome_at(*settled, n)
                seen.add(test.outcome(FIRST_SHARE))
                if n >= min(settled):
                    break
    assert seen == set(Outcome)


def test_layout_drawn_anew_every_round_is_noise_like_any_other():
    rounds = layout_shifts(1, claims=CLAIMS // 2)
    for alpha in (*ALPHAS, FIRST_SHARE):
        for needed in (1.0, THRESHOLD):
            once, confirmed = confirmed_rates(rounds, needed, alpha)
            assert confirmed <= once <= alpha


@pytest.mark.parametrize("every", REBUILT_EVERY[1:])
def test_layout_that_outlasts_a_round_breaks_the_promise_at_the_threshold(every):
    """The limit that docs/verdicts.md tells of."""
    rounds = layout_shifts(every, claims=CLAIMS // 4)
    for alpha in ALPHAS:
        once, confirmed = confirmed_rates(rounds, 1.0, alpha)
        assert once > alpha
        assert (confirmed <= alpha) is np.bool_(every == 2)
        assert (confirmed_rates(rounds, THRESHOLD, alpha)[1] <= alpha) is np.bool_(every <= 8)


def test_slices_catch_on_a_moody_machine_what_sums_alone_do_not():
    looks = list(fails_of_slower(EFFECTS, claims=1000))
    for by_sums, by_both, shifted in looks:
        assert np.median(by_both) < np.median(by_sums)
        assert (by_both <= LONG).mean() > 0.8
        assert (shifted <= LONG).mean() >= (by_sums <= LONG).mean()
    assert (looks[0][0] <= LONG).mean() < 0.2


def test_slow_slices_alone_are_caught_by_the_sums():
    passed, failed = shares(ratio_looks(slow_part_slower(10, claims=1000), THRESHOLD, FIRST_SHARE))
    assert failed > 0.99
    assert passed < 0.01


def test_a_rhythm_of_several_rounds_escapes_a_claim_on_the_median_round():
    """A limit that docs/verdicts.md tells of."""
    rounds = slow_part_slower(5 * SLICES, claims=1000)
    passed, failed = shares(ratio_looks(rounds, THRESHOLD, FIRST_SHARE))
    assert passed > 0.2
    assert failed == 0


@pytest.mark.parametrize("needed, most_once, most_confirmed", [(1.0, 0.25, 0.06), (THRESHOLD, 0.02, 0.002)])
def test_a_loader_whose_typical_slices_are_slower_seldom_fails_though_its_sums_are_even(
    needed, most_once, most_confirmed
):
    """Yet more often than its share, as docs/verdicts.md tells: slices need but some evidence in the sums."""
    rounds = typical_slower(0.05)
    once, confirmed = confirmed_rates(rounds, needed, FIRST_SHARE)
    assert FIRST_SHARE < once < most_once
    assert confirmed < most_confirmed
    assert shares(first_looks(rounds[0], needed, FIRST_SHARE))[1] <= 5 * FIRST_SHARE


def test_a_generated_rhythm_is_as_slow_as_it_says():
    quiet_sums = rhythm(SLICES, 1, 1.5, claims=500, seed=SEED)[0]
    assert np.median(quiet_sums) == pytest.approx(-np.log(1.15), abs=0.005)
    assert np.median(typical_slower(0.05, claims=500)[0]) == pytest.approx(0, abs=0.005)
