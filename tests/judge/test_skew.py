"""The skew of ranks: lasting slowness of one is found, and chance is not."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pytest_loaderperf.errors import MeasureError
from pytest_loaderperf.judge import Outcome, SignTest, SkewTest, beside_others, claim_alpha

ALPHA = claim_alpha(0.001, 0)
CLAIMS, TRIALS, RANKS = 200, 100, 4


def noise(seed, kind):
    """Times of equal ranks, (claims, trials, ranks): in some noise a rank is sometimes far slower, or for a while."""
    random = np.random.default_rng(seed)
    shape = CLAIMS, TRIALS, RANKS
    if kind == "gaussian":
        return np.exp(0.05 * random.standard_normal(shape))
    if kind == "stalls":
        return 1 + (random.random(shape) < 0.1) * random.exponential(3, shape) + 0.02 * random.random(shape)
    phases = np.repeat(random.random((CLAIMS, TRIALS // 5, RANKS)) < 0.2, 5, axis=1)  # of five trials each
    return np.exp(0.03 * random.standard_normal(shape)) * (1 + 0.5 * phases)


def outcomes(times, needed=1.1):
    """Of each claim, the first that is not INCONCLUSIVE, and the trials until then."""
    found = []
    for claim in times:
        test = SkewTest(needed, at_least=False)
        for trial in claim:
            test.add_times(trial.tolist())
            if (outcome := test.outcome(ALPHA)) is not Outcome.INCONCLUSIVE:
                break
        found.append((outcome, test.n))
    return found


@pytest.mark.parametrize("kind", ["gaussian", "stalls", "phases"])
def test_equal_ranks_never_fail(kind):
    found = [outcome for outcome, _ in outcomes(noise(1, kind))]
    assert Outcome.FAIL not in found
    assert found.count(Outcome.PASS) > (0.5 if kind == "phases" else 0.9) * CLAIMS


@pytest.mark.parametrize("kind", ["gaussian", "stalls"])
def test_one_rank_that_is_a_fifth_slower_is_found(kind):
    found = outcomes(noise(2, kind) * np.array([1, 1, 1.2, 1]))
    assert {outcome for outcome, _ in found} == {Outcome.FAIL}
    assert np.median([n for _, n in found]) < 40


def test_of_two_ranks_each_is_compared_with_the_other():
    assert beside_others([1.2, 1.0]) == pytest.approx([1.2, 1 / 1.2])
    assert beside_others([1.0, 3.0, 2.0]) == pytest.approx([0.4, 2.0, 1.0])


@pytest.mark.parametrize("time", [0.0, -1.0, math.nan, math.inf])
def test_a_time_that_cannot_be_is_refused(time):
    with pytest.raises(MeasureError, match="expected a positive, finite measured value"):
        beside_others([1.0, time])


def test_the_ruling_has_the_slowest_rank():
    test = SkewTest(1.1, at_least=False)
    for step in range(40):
        test.add_times([1.0, 1.3 + 0.001 * step, 1.0 + 0.001 * step])
    ruling = test.ruling(ALPHA, 40)
    assert ruling.outcome is Outcome.FAIL
    assert test.medians.index(max(test.medians)) == 1
    assert 1.25 < ruling.low < ruling.estimate < ruling.high < 1.35
    assert (ruling.n, ruling.needed) == (40, 1.1)
    assert 0 < ruling.mde < 0.1


@pytest.mark.parametrize("times, outcome", [([1.0, 1.3, 1.0], Outcome.PASS), ([1.0, 1.0, 1.0], Outcome.FAIL)])
def test_a_claim_that_some_rank_is_slow_is_the_opposite(times, outcome):
    test = SkewTest(1.1, at_least=True)
    for _ in range(40):
        test.add_times(times)
    assert test.outcome(ALPHA) is outcome


@pytest.mark.parametrize("at_least", [True, False])
def test_the_mde_is_that_of_the_slowest_rank_alone_at_its_share_of_alpha(at_least):
    test, alone = SkewTest(1.1, at_least=at_least), SignTest(1.1, at_least=at_least)
    for time in np.exp(np.random.default_rng(3).exponential(0.3, 200)):  # a longer tail toward slow
        test.add_times([1.0, float(time), 1.0])
        alone.add(float(time))
    assert test.ruling(ALPHA, 0).mde == pytest.approx(alone.ruling(ALPHA / 3, 0).mde)


@pytest.mark.parametrize("at_least", [True, False])
def test_a_rank_at_the_limit_is_evidence_for_neither(at_least):
    test = SkewTest(1.0, at_least=at_least)
    for _ in range(40):
        test.add_times([2.0, 2.0, 2.0])
    course = test.course(ALPHA)
    assert test.outcome(ALPHA) is Outcome.INCONCLUSIVE
    assert max(*course.for_claim, *course.against_claim) < 0


def test_without_trials_nothing_is_known():
    test = SkewTest(1.1, at_least=False)
    ruling = test.ruling(ALPHA, 10)
    assert (ruling.outcome, ruling.n, ruling.mde, test.course(ALPHA)) == (Outcome.INCONCLUSIVE, 0, None, None)
    assert math.isnan(ruling.estimate)


def test_the_course_ends_with_the_evidence_that_settles():
    test = SkewTest(1.1, at_least=False)
    while test.outcome(ALPHA) is Outcome.INCONCLUSIVE:
        test.add_times([1.0, 1.2, 1.0, 1.0])
    course = test.course(ALPHA)
    assert len(course.values) == test.n
    assert course.values[-1] == pytest.approx(1.2)
    assert course.against_claim[-2] < course.enough <= course.against_claim[-1]
