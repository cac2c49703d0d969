"""What a failed test says of its loader."""

from __future__ import annotations

import pytest

from pytest_loaderperf.diagnosis import Comparison, Difference, Finding
from pytest_loaderperf.report import why_section
from pytest_loaderperf.report.why import unobserved

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
        (
            difference(base_count=1.001, base_seconds=0.001),
            "numpy.sort takes 3.31 ms a sample, at the base 1.00 ms; called once a sample, as at the base",
        ),
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


def test_another_loader_is_called_by_its_name():
    settings = (("num_workers", "0", "2"),)
    title, lines = why_section([], Comparison((difference(base_count=0.5),), settings), other="torch")
    assert title == "doctor: what the loader does that torch does not"
    assert lines == [
        "num_workers is 0, in torch 2",
        "/repo/data.py:12: numpy.sort once a sample, in torch 0.5 times; takes 3.31 ms a sample",
    ]
    assert why_section([], Comparison(settings=settings), other="torch").lines[1:] == [
        "the calls in your code are the same"
    ]
    assert why_section([], Comparison(), other="torch").title == "doctor: the same calls as in torch"


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
    frames = '  File "/repo/a.py", line 3, in outer\n    read()\n  File "/repo/data.py", line 12, in read\n    open()\n'
    unseen = unobserved("loader", f"the loader failed while it was observed:\n{frames}OSError: gone\n")
    assert unseen == ("loader", "the loader failed while it was observed: OSError: gone", "/repo/data.py", 12)
    assert why_section([], None, unseen) == (
        "doctor: the loader could not be observed",
        ["/repo/data.py:12: the loader failed while it was observed: OSError: gone"],
    )


@pytest.mark.parametrize(("side", "name"), [("base", "the base"), ("against", "against")])
def test_another_side_that_could_not_be_observed(side, name):
    unseen = unobserved(side, "its process ended")
    assert unseen == (side, "its process ended", "", 0)
    title, lines = why_section([OPENED], None, unseen, side)
    assert title == "doctor: what makes the loader slow"
    assert lines[2:] == [f"{name} could not be observed: its process ended"]
    title, lines = why_section([], None, unseen, side)  # the loader itself could be
    assert title == "doctor: no known mistake"
    assert lines[0] == f"{name} could not be observed: its process ended"
