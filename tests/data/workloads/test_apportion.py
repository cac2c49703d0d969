from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_loaderperf.data.workloads.apportion import apportioned, stratified_counts

WEIGHTS = st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any)


def off(count, total, weight, whole):
    """How far a count is from its quota, in 1/whole of a sample."""
    return abs(count * whole - total * weight)


@given(st.integers(0, 1000), WEIGHTS)
@settings(deadline=None)
def test_a_total_is_cut_into_whole_numbers_within_one_of_their_quotas(total, weights):
    counts = apportioned(total, weights)
    assert sum(counts) == total
    assert all(
        off(count, total, weight, sum(weights)) < sum(weights) for count, weight in zip(counts, weights, strict=True)
    )


@pytest.mark.parametrize(
    "total, weights, counts",
    [(10, [8, 1, 1], [8, 1, 1]), (3, [8, 1, 1], [3, 0, 0]), (1, [1, 1], [1, 0]), (5, [1, 0, 1], [3, 0, 2])],
)
def test_what_is_left_goes_to_the_largest_remainders(total, weights, counts):
    assert apportioned(total, weights) == counts


@given(st.lists(st.integers(0, 99), min_size=1, max_size=6), WEIGHTS)
@settings(deadline=None)
@example([10, 10, 12], [2, 8, 9, 2, 3])  # here rounding up where most is lacking does not do: one move mends it
@example([4, 3, 9, 36], [1, 7, 7, 7, 1, 9, 1])  # here it takes two moves
@example([7, 17], [2, 7, 2, 2, 2, 6, 7, 6])
def test_every_count_and_every_sum_is_within_one_of_its_quota(totals, weights):
    counts, whole = stratified_counts(totals, weights), sum(weights)
    assert [sum(row) for row in counts] == totals
    for total, row in zip([*totals, sum(totals)], [*counts, map(sum, zip(*counts, strict=True))], strict=True):
        assert all(off(count, total, weight, whole) < whole for count, weight in zip(row, weights, strict=True))
