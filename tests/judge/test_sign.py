"""Verdicts on single series of pairs; test_simulation.py holds those on thousands."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_loaderperf.errors import MeasureError
from pytest_loaderperf.judge import Outcome, SignTest, claim_alpha

FIRST_SHARE = claim_alpha(0.001, 0)


def judged(ratios, needed, alpha=FIRST_SHARE, *, at_least=True):
    """What a claim comes to that looks after every pair, and the number of pairs it took."""
    test = SignTest(needed, at_least)
    for ratio in ratios:
        test.add(float(ratio))
        if test.outcome(alpha) is not Outcome.INCONCLUSIVE:
            break
    return test.outcome(alpha), test.n


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
