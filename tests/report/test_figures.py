"""Figures as text, at the edges of their units."""

from __future__ import annotations

import doctest
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.report import figures
from pytest_loaderperf.report.figures import figure, short_count, size_text, three_digits, time_text


def test_the_examples_in_the_docstrings_run():
    results = doctest.testmod(figures)
    assert results.attempted >= 5
    assert results.failed == 0


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (1, "1.00"),
        (0.0123456, "0.0123"),
        (-4.7123, "-4.71"),
        (-12345.6, "-12,346"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (99.94, "99.9"),
        (99.96, "100"),
        (0.0999996, "0.1"),
        (1e-7, "1e-07"),
        (9e15, "9,000,000,000,000,000"),
        (1e308, "1e+308"),
    ],
)
def test_three_digits(value, text):
    assert three_digits(value) == text


@pytest.mark.parametrize(
    "seconds, text",
    [
        (0, "0 s"),
        (1, "1.00 s"),
        (75, "75.0 s"),
        (3600, "3,600 s"),
        (0.9996, "1.00 s"),
        (0.9994, "999 ms"),
        (1e-3, "1.00 ms"),
        (999.6e-6, "1.00 ms"),
        (999.4e-6, "999 us"),
        (999.6e-9, "1.00 us"),
        (1e-9, "1.00 ns"),
        (-0.0047, "-4.70 ms"),
        (1e-12, "1e-12 s"),
    ],
)
def test_time_text(seconds, text):
    assert time_text(seconds) == text


@pytest.mark.parametrize(
    "nbytes, text",
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1 << 20, "1.00 MiB"),
        ((1 << 20) - 1, "1.00 MiB"),
        (5 << 30, "5.00 GiB"),
        (3 << 40, "3,072 GiB"),
        (-2048, "-2.00 KiB"),
    ],
)
def test_size_text(nbytes, text):
    assert size_text(nbytes) == text


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (1, "1.00"), (999.4, "999"), (999.6, "1.00k"), (999_600, "1.00M"), (2.5e9, "2.50G"), (-1500, "-1.50k")],
)
def test_short_count(value, text):
    assert short_count(value) == text


@given(st.floats(0.1, 99e11))
@settings(deadline=None)
def test_a_short_count_has_at_most_six_characters(value):
    assert len(short_count(value)) <= 6


@pytest.mark.parametrize("unit", ["s", "B", "B/s", "samples/s", "1"])
@pytest.mark.parametrize(
    "value, text", [(None, "-"), (math.nan, "-"), (math.inf, "unbounded"), (-math.inf, "unbounded")]
)
def test_a_figure_that_is_unknown_or_unbounded(value, text, unit):
    assert figure(value, unit) == text


@pytest.mark.parametrize(
    "value, unit, text",
    [
        (0.005, "s", "5.00 ms"),
        (0, "s", "0 s"),
        (1536, "B", "1.50 KiB"),
        (3e9, "B/s", "2.79 GiB/s"),
        (0, "samples/s", "0 samples/s"),
        (412_000.4, "samples/s", "412,000 samples/s"),
        (0.25, "samples/s", "0.25 samples/s"),
        (0, "1", "0"),
        (0.97, "1", "0.97"),
        (0.0001234, "1", "0.000123"),
        (9.5, "1", "9.5"),
        (12.34, "1", "12.3"),
        (1234.5, "1", "1,234"),
        (-0.5, "1", "-0.5"),
    ],
)
def test_a_figure_has_three_digits_and_its_unit(value, unit, text):
    assert figure(value, unit) == text


def test_a_unit_that_no_one_knows_is_refused():
    with pytest.raises((AssertionError, LoaderPerfError)):
        figure(1.0, "furlong")
