"""The e-value is what its definition says, and pays out no more than it takes in."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_loaderperf.judge import claim_alpha
from pytest_loaderperf.judge.evidence import hits_needed, log_evidence_above, log_evidence_below
from tests.judge import oracle

CHANCES = [Fraction(1, 2), Fraction(1, 100), Fraction(1, 20), Fraction(19, 20), Fraction(99, 100)]
FAR_BELOW_ONE = -3.0  # log e-values below may be rounded: their tail leaves the range of a float
COUNTS = [0, 1, 2, 3, 7, 20, 60, 150]


def exact_log_evidence(hits: int, n: int, p0: Fraction) -> float:
    exact = oracle.e_value(hits, n, p0)
    return math.log(exact.numerator) - math.log(exact.denominator)


@pytest.mark.parametrize("p0", CHANCES, ids=str)
@pytest.mark.parametrize("n", COUNTS)
def test_evidence_is_the_average_likelihood_ratio(n, p0):
    for hits in sorted({0, 1, n // 4, n // 2, 3 * n // 4, n - 1, n} & set(range(n + 1))):
        expected = exact_log_evidence(hits, n, p0)
        got = float(log_evidence_above(hits, n, float(p0)))
        assert got == pytest.approx(expected, rel=1e-8, abs=1e-8) or max(got, expected) < FAR_BELOW_ONE


@pytest.mark.parametrize("p0", CHANCES, ids=str)
@pytest.mark.parametrize("n", COUNTS)
def test_evidence_below_mirrors_evidence_above(n, p0):
    hits = np.arange(n + 1)
    np.testing.assert_array_equal(
        log_evidence_below(hits, n, float(p0)), log_evidence_above(n - hits, n, 1 - float(p0))
    )


@pytest.mark.parametrize("p0", CHANCES, ids=str)
@pytest.mark.parametrize("n", COUNTS)
def test_the_expected_e_value_is_at_most_one_where_the_null_holds(n, p0):
    """Exact, over all outcomes; and 1 at the boundary, so that no evidence is given away."""
    for share in (1.0, 0.9, 0.3):
        chance = float(p0) * share
        outcomes = [math.comb(n, k) * chance**k * (1 - chance) ** (n - k) for k in range(n + 1)]
        expected = float(np.dot(outcomes, np.exp(log_evidence_above(np.arange(n + 1), n, float(p0)))))
        assert expected <= 1 + 1e-9, share
        assert share < 1 or expected == pytest.approx(1)


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 400), st.sampled_from([0.5, 0.05, 0.95]))
def test_one_more_observation_wins_nothing_on_average(hits, misses, p0):
    n = hits + misses
    before, hit, miss = (float(log_evidence_above(h, m, p0)) for h, m in [(hits, n), (hits + 1, n + 1), (hits, n + 1)])
    if before > FAR_BELOW_ONE:
        assert p0 * math.exp(hit - before) + (1 - p0) * math.exp(miss - before) == pytest.approx(1, rel=1e-6)


@settings(deadline=None)
@given(st.integers(1, 5000), st.floats(0.001, 0.999))
def test_evidence_grows_with_hits_and_is_never_nan(n, p0):
    evidence = log_evidence_above(np.arange(n + 1), n, p0)
    assert not np.isnan(evidence).any()
    first = int(np.argmax(evidence > FAR_BELOW_ONE))
    assert np.all(evidence[:first] <= FAR_BELOW_ONE)
    assert np.all(np.diff(evidence[first:]) > -1e-6)


@settings(deadline=None)
@given(st.integers(0, 2000), st.sampled_from([0.01, 0.5, 0.95]), st.floats(0.1, 20))
def test_hits_needed_is_the_first_count_that_suffices(n, p0, log_needed):
    needed = hits_needed(n, p0, log_needed)
    enough = log_evidence_above(np.arange(n + 1), n, p0) >= log_needed
    assert needed == (int(np.argmax(enough)) if enough.any() else n + 1)


@pytest.mark.parametrize("claims", [1, 2, 10, 10_000])
def test_the_shares_of_all_claims_stay_within_the_budget(claims):
    shares = [claim_alpha(0.001, index) for index in range(claims)]
    assert 0.0005 <= math.fsum(shares) < 0.001
    assert shares == sorted(shares, reverse=True)
    assert min(shares) > 0
