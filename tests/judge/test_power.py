"""An effect as large as the MDE is caught about as often as POWER says; a third of it is not."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_loaderperf.judge import Outcome, PairTest, PercentileTest, SignTest, claim_alpha, pair_bets
from pytest_loaderperf.judge.evidence import hits_needed
from pytest_loaderperf.judge.power import POWER, chance_needed, detectable_shift
from tests.judge import simulation
from tests.judge.quickly import first_quickly

FIRST_SHARE = claim_alpha(0.001, 0)
PAIRS = 100


def fails(test, values, alpha):
    for value in values:
        test.add(float(value))
        if test.outcome(alpha) is Outcome.FAIL:
            return True
    return False


def caught(effect, noise, *, at_least):
    """Share of series of PAIRS that fail where the truth is ``effect`` beyond the threshold."""
    worse = 1 - effect if at_least else 1 / (1 - effect)
    return np.mean([fails(SignTest(1.0, at_least), worse * np.exp(row), FIRST_SHARE) for row in noise])


@pytest.mark.parametrize("kind", ["gaussian", "heavy tailed"])
@pytest.mark.parametrize("at_least", [True, False])
def test_a_shift_of_the_mde_is_caught_and_a_third_of_it_is_not(kind, at_least):
    rng = np.random.default_rng(1)

    def draw(shape):
        return rng.normal(0, 0.04, shape) if kind == "gaussian" else 0.02 * rng.standard_t(1.5, shape)

    seen = SignTest(0.97, at_least)
    for value in np.exp(draw(2000)):
        seen.add(float(value))
    mde = -np.expm1(-detectable_shift([np.log(value) for value in seen._values], PAIRS, FIRST_SHARE))
    noise = draw((150, PAIRS))
    assert caught(mde, noise, at_least=at_least) >= 0.8
    assert caught(mde / 3, noise, at_least=at_least) < 0.5


@pytest.mark.parametrize("at_least", [True, False])
def test_the_mde_of_a_ruling_looks_in_the_direction_of_a_breach(at_least):
    """Noise with one long tail: the shift that turns 60 % of the signs depends on which tail it crosses."""
    skewed = np.random.default_rng(2).exponential(0.1, 1000)
    test = SignTest(1.0, at_least)
    for value in np.exp(skewed):
        test.add(float(value))
    chance = chance_needed(1000, hits_needed(1000, 0.5, -np.log(FIRST_SHARE)))
    shift = np.quantile(skewed, chance) - np.median(skewed)
    if not at_least:
        shift = np.median(skewed) - np.quantile(skewed, 1 - chance)
    expected = -np.expm1(-shift) if at_least else np.expm1(shift)
    assert test.ruling(FIRST_SHARE, 0).mde == pytest.approx(expected, rel=0.05)


KINDS = {
    "gaussian": lambda rng, shape: rng.normal(0, 0.04, shape),
    "wide": lambda rng, shape: rng.normal(0, 0.3, shape),
    "heavy tailed": lambda rng, shape: 0.02 * rng.standard_t(1.5, shape),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_least", [True, False])
@pytest.mark.parametrize("pairs", first_quickly([100, 20, 300]))
def test_a_shift_of_the_mde_of_pairs_is_caught_and_a_third_of_it_is_not(kind, at_least, pairs):
    rng, draw = np.random.default_rng(5), KINDS[kind]
    seen = PairTest(0.97, at_least)
    for value in np.exp(draw(rng, 400)):
        seen.add(float(value), seconds=1.0)
    mde = seen.ruling(FIRST_SHARE, 0).mde
    toward = 1 if at_least else -1
    shift = pair_bets.detectable_shift(seen._logs, pairs, FIRST_SHARE, obvious=True)
    assert 0 < mde < toward * -np.expm1(-toward * shift)  # the ruling has 400 pairs
    series = draw(rng, (2000, pairs))
    rates = []
    for part in (1, 1 / 3):
        passes, failed = simulation.first_looks(series - toward * part * shift, 1.0, FIRST_SHARE, at_least=at_least)
        rates.append((failed < passes).mean())
    assert rates[0] >= POWER - 0.15
    assert rates[1] < rates[0] - (0.2 if kind == "heavy tailed" else 0.6)


@pytest.mark.parametrize("pairs, most", [(1, None), (2, 0.85), (4, 0.6), (13, 0.2)])
def test_few_quiet_pairs_catch_what_is_obvious(pairs, most):
    test = PairTest(0.97, at_least=True)
    for value in np.exp(np.random.default_rng(1).normal(0, 0.04, pairs)):
        test.add(float(value), seconds=1.0)
    mde = test.ruling(FIRST_SHARE, 0).mde
    assert mde is most or mde < most
    unassuming = PairTest(0.97, at_least=True)
    unassuming.add(1.0)
    assert unassuming.ruling(FIRST_SHARE, 11).mde is None


def caught_beyond(share, n, q, *, at_least):
    """Share of series of ``n`` batches that fail where ``share`` of all batches is on the wrong side of the limit."""
    rng = np.random.default_rng(3)
    wrong, right = (0.5, 2.0) if at_least else (2.0, 0.5)
    failed = 0
    for _ in range(100):
        test = PercentileTest(1.0, q, at_least)
        for trial in (rng.random(n) < share).reshape(-1, 10):
            test.add_all([wrong if beyond else right for beyond in trial])
        failed += test.outcome(FIRST_SHARE) is Outcome.FAIL
    return failed / 100


def test_an_at_least_claim_on_a_high_percentile_needs_many_batches_to_fail():
    """At most 99 % may lie below the limit: even 2,000 of 2,000 exceed that by little."""
    test = PercentileTest(1.0, 0.99, at_least=True)
    for _ in range(200):
        test.add_all([0.5] * 10)
    assert test.ruling(FIRST_SHARE, 0).mde is None


@pytest.mark.parametrize("q, at_least", [(0.5, True), (0.5, False), (0.95, False), (0.99, False)])
def test_the_mde_of_a_percentile_is_the_share_beyond_the_limit_that_fails(q, at_least):
    """For an at-most claim 1 - q is allowed above the limit, for an at-least claim q below it."""
    n = 2000
    test = PercentileTest(1.0, q, at_least)
    for _ in range(n // 10):
        test.add_all([1.0] * 10)
    mde = test.ruling(FIRST_SHARE, 0).mde
    allowed = q if at_least else 1 - q
    assert mde > allowed
    assert caught_beyond(mde, n, q, at_least=at_least) >= 0.8
    assert caught_beyond(allowed + (mde - allowed) / 3, n, q, at_least=at_least) < 0.5


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_more_observations_hold_a_share_of_hits_at_a_smaller_chance(share):
    chances = [chance_needed(n, int(share * n)) for n in (100, 1000, 100_000)]
    assert chances == sorted(chances, reverse=True)
    assert share < chances[-1] < 1.1 * share


@pytest.mark.parametrize("n", [0, 1, 13])
def test_too_few_observations_catch_nothing(n):
    assert detectable_shift([0.1] * n, n, FIRST_SHARE) is None


def test_fourteen_pairs_catch_only_what_nearly_always_loses():
    assert chance_needed(14, 14) == pytest.approx(POWER ** (1 / 14))


@pytest.mark.parametrize("logs", [[0.0] * 50, [0.3] * 50])
def test_without_noise_any_shift_is_caught(logs):
    assert detectable_shift(logs, 50, FIRST_SHARE) == 0


def test_a_budget_that_affords_more_pairs_lowers_the_mde():
    test = SignTest(0.97, at_least=True)
    for value in np.exp(np.random.default_rng(4).normal(0, 0.04, 200)):
        test.add(float(value))
    assert test.ruling(FIRST_SHARE, 5000).mde < test.ruling(FIRST_SHARE, 200).mde == test.ruling(FIRST_SHARE, 0).mde
