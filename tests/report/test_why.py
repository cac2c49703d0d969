"""What a failed test says of its loader."""

from __future__ import annotations

import pytest

from pytest_loaderperf.diagnosis import Comparison, Difference, Finding
from pytest_loaderperf.report import why_section

OPENED = Finding(
    "file-reopened", "numpy.load() opens a file", "/repo/data.py", 12, "get", 1, "sample", "open it once, and keep it"
)


def difference(callee="numpy.sort", count=1, base_count=0, unit="sample", base_seconds=0.0):
    return Difference("/repo/data.py", 12, "get", callee, count, base_count, unit, 0.00331, base_seconds)


def test_mistakes_of_the_loader():
    title, lines = why_section([OPENED], None)
    assert title == "doctor: what makes the loader slow"
    assert lines == [
        "/repo/data.py:12: file-reopened: numpy.load() opens a file",
        "  fix: open it once, and keep it",
    ]


def test_no_mistake_says_where_to_look():
    assert why_section([], None) == (
        "doctor: no known mistake",
        ["loaderperf doctor MODULE:FACTORY shows where its time goes."],
    )


@pytest.mark.parametrize(
    "one, line",
    [
        (difference(), "numpy.sort once a sample, at the base never; takes 3.31 ms a sample"),
        (
            difference(count=12.5, base_count=2, unit="batch", base_seconds=0.001),
            "numpy.sort 12.5 times a batch, at the base 2 times; takes 3.31 ms a sample, at the base 1.00 ms",
        ),
        (difference("MatMult", 200), "operator @ 200 times a sample, at the base never; takes 3.31 ms a sample"),
        (difference("Eq"), "operator == once a sample, at the base never; takes 3.31 ms a sample"),
        (difference("a\x1b[31mb"), r"a\x1b[31mb once a sample, at the base never; takes 3.31 ms a sample"),
    ],
)
def test_a_call_that_the_base_makes_less_often(one, line):
    title, lines = why_section([OPENED], Comparison((one,)))
    assert title == "doctor: what the loader does that it did not do at the base"
    assert lines == [f"/repo/data.py:12: {line}"]


def test_settings_then_calls_then_findings_and_three_of_each():
    settings = (("num_workers", "0", "2"),)
    _, lines = why_section([], Comparison((difference(),) * 5, settings, (("fetch", 2.0, 1.0),), (OPENED,) * 4))
    assert lines[0] == "num_workers is 0, at the base 2"
    assert [line.count("numpy.sort") for line in lines[1:4]] == [1, 1, 1]
    assert [line.partition(": ")[2] for line in lines[4::2]] == ["file-reopened: numpy.load() opens a file"] * 3
    assert len(lines) == 10


def test_the_same_calls_show_the_stages_that_take_longer():
    assert why_section([OPENED], Comparison(stages=(("fetch", 0.002, 0.001),))) == (
        "doctor: the same calls as at the base",
        ["fetch takes 2.00 ms a batch, at the base 1.00 ms"],
    )
    assert why_section([], Comparison()) == (
        "doctor: the same calls as at the base",
        ["and each takes about as long, as far as it can see"],
    )


def test_a_loader_that_could_not_be_observed():
    said = why_section([], None, "the loader failed while it was observed:\n  File x\n    read()\nOSError: gone\n")
    assert said == (
        "doctor: the loader could not be observed",
        ["the loader failed while it was observed: OSError: gone"],
    )


def test_a_base_that_could_not_be_observed():
    title, lines = why_section([OPENED], None, "the base could not be observed: its process ended")
    assert title == "doctor: what makes the loader slow"
    assert lines[2:] == ["the base could not be observed: its process ended"]
