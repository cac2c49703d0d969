"""Quantities with a unit, and the times that options take."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pytest_loaderperf
from pytest_loaderperf import ms, s, us
from pytest_loaderperf.errors import ClaimError
from pytest_loaderperf.units import BYTE, Quantity, as_seconds


@pytest.mark.parametrize(
    "quantity, value, text",
    [
        (5 * ms, 0.005, "0.005 s"),
        (ms * 5, 0.005, "0.005 s"),
        (2 * s, 2.0, "2 s"),
        (0.5 * (3 * us), 1.5e-6, "1.5e-06 s"),
    ],
)
def test_a_number_times_a_unit_is_a_time(quantity, value, text):
    assert quantity.value == pytest.approx(value)
    assert (quantity.unit, str(quantity)) == ("s", text)


@pytest.mark.parametrize("factor", [True, "5", None, 1 + 2j, ms], ids=repr)
def test_only_a_number_multiplies_a_unit(factor):
    with pytest.raises(TypeError, match=r"unsupported operand|can't multiply"):
        factor * ms


def test_a_time_cannot_be_changed():
    with pytest.raises(AttributeError, match="value"):
        ms.value = 5


@given(st.floats(1e-9, 1e9))
@settings(deadline=None)
def test_a_positive_time_is_taken_as_it_is(seconds):
    assert as_seconds(seconds * s, "budget", "10 * s") == seconds
    assert as_seconds(seconds, "budget", "10 * s", bare=True) == seconds


def test_a_bare_integer_counts_as_seconds_where_asked():
    seconds = as_seconds(3, "budget", "10 * s", bare=True)
    assert (seconds, type(seconds)) == (3.0, float)


@pytest.mark.parametrize(
    "value, bare, came",
    [
        (True, True, "True"),
        (None, True, "None"),
        ("10", True, "'10'"),
        (0, True, "0"),
        (-1.5, True, "-1.5"),
        (math.nan, True, "nan"),
        (math.inf, True, "inf"),
        (0 * s, False, "0 s"),
        (-2 * ms, False, "-0.002 s"),
        (math.nan * s, False, "nan s"),
        (Quantity(5.0, BYTE), True, "5 B"),
    ],
)
def test_what_is_no_positive_time_is_refused(value, bare, came):
    with pytest.raises(ClaimError) as caught:
        as_seconds(value, "budget", "10 * s", bare=bare)
    assert str(caught.value) == f"budget: expected a positive time, got {came}. Write 10 * s."


@pytest.mark.parametrize("value", [5, 0.0001])
def test_a_time_without_a_unit_is_refused_with_where_units_are(value):
    with pytest.raises(ClaimError) as caught:
        as_seconds(value, "the step", "10 * ms")
    assert str(caught.value) == (
        f"the step: expected a positive time, got {value} without a unit. Write 10 * ms, with "
        "`from pytest_loaderperf import ms, s`."
    )


def test_the_package_says_which_attribute_it_lacks():
    with pytest.raises(AttributeError, match=r"module 'pytest_loaderperf' has no attribute 'mesure'"):
        pytest_loaderperf.mesure  # noqa: B018 the access is what is tested


@pytest.mark.parametrize("name", pytest_loaderperf.__all__)
def test_every_public_name_exists(name):
    assert getattr(pytest_loaderperf, name) is not None
