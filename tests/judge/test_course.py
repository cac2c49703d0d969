"""The course of a claim: the evidence after each observation is what the test had then."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_loaderperf.judge import SLICES, ExactTest, Outcome, PairTest, PercentileTest, RatioTest, SignTest

ALPHA = 0.001


def outcome_at(course, number):
    """The outcome that the evidence after ``number`` observations gives."""
    if course.against_claim[number - 1] >= course.enough:
        return Outcome.FAIL
    return Outcome.PASS if course.for_claim[number - 1] >= course.enough else Outcome.INCONCLUSIVE


def fed(test, values, *, add):
    """The outcomes of ``test`` after each value, and the test."""
    outcomes = []
    for value in values:
        add(test, value)
        outcomes.append(test.outcome(ALPHA))
    return outcomes


@pytest.mark.parametrize("at_least", [True, False])
@pytest.mark.parametrize("shift", [-0.05, 0.05])
def test_of_pairs_and_of_single_values(at_least, shift):
    values = np.exp(np.random.default_rng(3).normal(shift, 0.02, 40))
    for test in (PairTest(1.0, at_least), SignTest(1.0, at_least)):
        outcomes = fed(test, values, add=lambda test, value: test.add(value))
        course = test.course(ALPHA)
        assert course.values == pytest.approx(values)
        assert course.enough == -math.log(ALPHA)
        assert [outcome_at(course, n + 1) for n in range(40)] == outcomes
        assert outcomes[-1] is (Outcome.PASS if (shift > 0) == at_least else Outcome.FAIL)


def test_of_long_pairs_of_which_few_decide():
    test = PairTest(1.0, at_least=True)
    outcomes = fed(test, [0.2] * 4, add=lambda test, value: test.add(value, seconds=2.0))
    assert [outcome_at(test.course(ALPHA), n + 1) for n in range(4)] == outcomes
    assert outcomes[-1] is Outcome.FAIL


@pytest.mark.parametrize("limit, wanted", [(0.5, Outcome.FAIL), (2.0, Outcome.PASS)])
def test_of_percentiles_trial_by_trial(limit, wanted):
    trials = np.random.default_rng(4).uniform(0, 1, (30, 50))
    test = PercentileTest(limit, 0.9, at_least=False)
    outcomes = fed(test, trials, add=lambda test, trial: test.add_all(trial.tolist()))
    course = test.course(ALPHA)
    assert len(course.values) == 30
    assert course.values[7] == pytest.approx(np.quantile(trials[7], 0.9, method="inverted_cdf"))
    assert [outcome_at(course, n + 1) for n in range(30)] == outcomes
    assert outcomes[-1] is wanted


def test_of_the_evidence_that_decides():
    test = RatioTest(1.0, at_least=True)
    noise = np.random.default_rng(5).normal(0, 0.3, 30)
    for shift in noise:
        test.add(float(np.exp(-0.1 + shift)), 0.8)
    assert test.ruling(ALPHA, 30).by == SLICES
    course = test.course(ALPHA)
    assert course.values == pytest.approx([0.8] * 30)
    assert course.enough == -math.log(ALPHA / 2)  # the share of one of two kinds of evidence


def test_of_one_number_is_none():
    test = ExactTest(1.0, at_least=False)
    test.add(0.5)
    assert test.course(ALPHA) is None
