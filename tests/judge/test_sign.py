"""Verdicts on generated series of pairs. No clock: every series comes from a seeded generator."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_loaderperf.errors import MeasureError
from pytest_loaderperf.judge import Outcome, SignTest, claim_alpha
from pytest_loaderperf.judge.evidence import hits_needed

FIRST_SHARE = claim_alpha(0.001, 0)
RNG_SEED = 20240607


def gaussian(rng, shape):
    return rng.normal(0, 0.04, shape)


def heavy_tailed(rng, shape):
    return 0.02 * rng.standard_t(1.5, shape)


def bursty(rng, shape):
    """Calm, but for stretches of twelve pairs in which the noise is ten times as loud."""
    loud = np.repeat(rng.random((shape[0], -(-shape[1] // 12))) < 0.2, 12, axis=1)[:, : shape[1]]
    return rng.normal(0, 1, shape) * np.where(loud, 0.2, 0.02)


def drifting(rng, shape):
    """The machine slows down threefold; pairs cancel it, but for noise that grows along."""
    return rng.normal(0, 1, shape) * np.linspace(0.015, 0.05, shape[1])


def coarse(rng, shape):
    """A clock whose ticks are 1 % of a trial, so that most values are tied."""
    return np.log(np.round(np.exp(rng.normal(0, 0.03, shape)), 2))


KINDS = [gaussian, heavy_tailed, bursty, drifting, coarse]


def first_looks(log_ratios, needed, alpha, *, at_least=True):
    """For each series, the number of pairs at which it passes, and at which it fails; n + 1: never."""
    n = log_ratios.shape[1]
    enough = np.array([hits_needed(looked, 0.5, -math.log(alpha)) for looked in range(1, n + 1)])
    ratios = np.exp(log_ratios)

    def first(hits):
        settled = hits.cumsum(axis=1) >= enough
        return np.where(settled.any(axis=1), settled.argmax(axis=1) + 1, n + 1)

    above, below = first(ratios > needed), first(ratios < needed)
    return (above, below) if at_least else (below, above)


def judged(ratios, needed, alpha=FIRST_SHARE, *, at_least=True):
    """What a claim comes to that looks after every pair, and the number of pairs it took."""
    test = SignTest(needed, at_least)
    for ratio in ratios:
        test.add(float(ratio))
        if test.outcome(alpha) is not Outcome.INCONCLUSIVE:
            break
    return test.outcome(alpha), test.n


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("at_least", [True, False])
def test_the_class_and_the_vectorised_look_agree(kind, at_least):
    """So that the thousands of series below speak of the class that users meet."""
    series = kind(np.random.default_rng(1), (20, 120)) + np.linspace(-0.06, 0.06, 20)[:, None]
    needed = 0.97 if at_least else 1 / 0.97
    passes, fails = first_looks(series, needed, FIRST_SHARE, at_least=at_least)
    for row, passed, failed in zip(np.exp(series), passes, fails, strict=True):
        outcome, n = judged(row, needed, at_least=at_least)
        first = min(passed, failed)
        expected = "INCONCLUSIVE" if first > 120 else "PASS" if passed < failed else "FAIL"
        assert (outcome, n) == (Outcome(expected), min(first, 120))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("at_least", [True, False])
def test_the_same_loader_twice_passes_and_never_fails(kind, at_least):
    """2,000 claims each; even at the boundary a share of 1e-6 would give 0.002 false alarms."""
    series = kind(np.random.default_rng(RNG_SEED), (2000, 400))
    passes, fails = first_looks(series, 0.97 if at_least else 1 / 0.97, 1e-6, at_least=at_least)
    assert (fails == 401).all()
    assert (passes <= 400).mean() >= 0.99


@pytest.mark.parametrize("at_least", [True, False])
def test_looking_after_every_pair_keeps_the_false_alarm_rate_at_the_boundary(at_least):
    """The median is exactly what is needed, where a fixed-size test looked at 600 times would cry wolf."""
    series = np.random.default_rng(RNG_SEED).normal(math.log(0.97), 0.04, (4000, 600))
    _, fails = first_looks(series, 0.97, 0.05, at_least=at_least)
    rate = (fails <= 600).mean()
    assert 0.005 < rate <= 0.05


@pytest.mark.parametrize("kind", [gaussian, heavy_tailed], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("at_least", [True, False])
@pytest.mark.parametrize("holds", [True, False])
def test_five_percent_from_the_threshold_settles_within_150_pairs(kind, at_least, holds):
    shift = math.log(1.05) if at_least is holds else math.log(0.95)
    series = kind(np.random.default_rng(RNG_SEED), (1000, 150)) + math.log(0.97) + shift
    passes, fails = first_looks(series, 0.97, FIRST_SHARE, at_least=at_least)
    right, wrong = (passes, fails) if holds else (fails, passes)
    assert (right <= 150).mean() >= 0.99
    assert (wrong == 151).all()


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
        f"a measured value of {text} came; expected a positive, finite one. A duration of zero or a broken clock "
        "gives such values: use more work a batch, or another machine."
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
