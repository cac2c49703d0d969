"""How the cost of a call grows with a size."""

from __future__ import annotations

import pytest

from pytest_loaderperf.diagnosis import growth
from pytest_loaderperf.errors import ClaimError


def test_a_look_up_in_a_dict_does_not_grow():
    def look_up(n):
        table = dict.fromkeys(range(n))
        return lambda: table.get(n - 1)

    assert growth(look_up).exponent < 0.3


def test_a_loop_grows_with_its_length_and_is_counted():
    def total(n):
        result = 0
        for i in range(n):
            result += i
        return result

    found = growth(total)
    assert (found.how, round(found.exponent, 1)) == ("counted", 1.0)
    assert growth(total).costs == found.costs


def test_a_loop_in_a_loop_grows_with_the_square():
    def pairs(n):
        for _ in range(n):
            for _ in range(n):
                pass

    assert growth(pairs, sizes=[20, 40, 80]).exponent == pytest.approx(2, abs=0.1)


def test_a_search_in_c_is_timed():
    def search(n):
        names = list(range(n))
        return lambda: names.index(n - 1)

    found = growth(search, sizes=[1_000, 10_000, 100_000])
    assert found.how == "timed"
    assert found.exponent > 0.6


@pytest.mark.parametrize("sizes", [[], [100], [100, 100], [0, 10]])
def test_two_different_sizes_are_needed(sizes):
    with pytest.raises(ClaimError, match="expected at least two different positive sizes, got"):
        growth(lambda n: None, sizes=sizes)
