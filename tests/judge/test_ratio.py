"""Ratio claims from rounds in slices: the slices are quick, the sums are what is claimed."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_loaderperf.errors import MeasureError
from pytest_loaderperf.judge import Outcome, RatioTest, SignTest

ALPHA = 0.001
ENOUGH = 20  # rounds that all point the same way


def settled(rounds, needed=0.97, *, at_least=True, alpha=ALPHA):
    test = RatioTest(needed, at_least)
    for of_sums, of_slices in rounds:
        test.add(of_sums, of_slices)
    return test.outcome(alpha), test.ruling(alpha, 0)


def noisy(ratio, seed=0, rounds=ENOUGH):
    """Ratios of sums that lean to the side of ``ratio`` and prove nothing."""
    return ratio * np.exp(np.random.default_rng(seed).normal(0, 0.2, 4 * rounds))[:rounds]


@pytest.mark.parametrize("at_least", [True, False])
@pytest.mark.parametrize("ratio, word", [(0.9, Outcome.FAIL), (1.0, Outcome.PASS)])
def test_slices_settle_a_claim_where_the_sums_point_the_same_way(ratio, word, at_least):
    if not at_least:
        word = Outcome.PASS if word is Outcome.FAIL else Outcome.FAIL
    sums = [0.98 * ratio, ratio, ratio * 1.3, 0.98 * ratio, ratio] if ratio < 0.97 else [ratio, ratio, 0.8 * ratio]
    rounds = [(sums[i % len(sums)], ratio) for i in range(ENOUGH)]
    outcome, ruling = settled(rounds, at_least=at_least)
    assert outcome is ruling.outcome is word
    assert (ruling.estimate, ruling.n) == (ratio, ENOUGH)


def test_slices_settle_nothing_where_the_sums_point_the_other_way():
    rounds = [(0.7 if i % 5 else 1.3, 1.0) for i in range(8)]
    outcome, ruling = settled(rounds, alpha=0.2)
    assert outcome is Outcome.INCONCLUSIVE
    assert ruling.estimate == 0.7  # what is claimed, and what must settle it


@pytest.mark.parametrize("of_sums, word", [(0.7, Outcome.FAIL), (1.3, Outcome.PASS)])
def test_evident_sums_overrule_the_slices(of_sums, word):
    """A loader whose every tenth batch alone became slower, or quicker."""
    outcome, ruling = settled([(of_sums, 0.98 if of_sums < 0.97 else 0.9)] * ENOUGH)
    assert outcome is word
    assert ruling.estimate == of_sums


def test_the_share_of_alpha_is_halved_once_there_are_slices():
    fewest = next(n for n in range(1, 50) if settled([(0.9, None)] * n)[0] is Outcome.FAIL)
    single = SignTest(0.97, at_least=True)
    for _ in range(fewest):
        single.add(0.9)
    assert single.outcome(ALPHA) is Outcome.FAIL
    assert settled([(0.9, 0.9)] * fewest)[0] is Outcome.INCONCLUSIVE
    assert settled([(0.9, 0.9)] * (fewest + 1))[0] is Outcome.FAIL


@pytest.mark.parametrize("seed", range(20))
def test_sums_without_slices_are_a_sign_test(seed):
    single, outcomes = SignTest(0.97, at_least=True), []
    test = RatioTest(0.97, at_least=True)
    for ratio in noisy(0.9, seed, rounds=60):
        single.add(float(ratio))
        test.add(float(ratio))
        outcomes.append((single.outcome(0.05), test.outcome(0.05)))
    assert all(one is other for one, other in outcomes)
    assert test.ruling(0.05, 100) == single.ruling(0.05, 100)


@pytest.mark.parametrize("values", [(0.0, 1.0), (1.0, float("nan")), (float("inf"), None)])
def test_a_ratio_that_is_none_is_refused(values):
    with pytest.raises(MeasureError, match="expected a positive, finite one"):
        RatioTest(1.0, at_least=True).add(*values)
