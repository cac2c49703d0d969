"""What a loader does that it did not do at the base, wherever a result is shown."""

from __future__ import annotations

from pytest_loaderperf.report.changes import changed, different
from pytest_loaderperf.report.github import annotation_lines
from pytest_loaderperf.report.markdown import markdown
from pytest_loaderperf.report.page import page
from tests.report import by_hand, results

CALL = {
    "file": "/repo/pkg/data.py",
    "line": 12,
    "function": "Rows.__getitem__",
    "callee": "numpy.sort",
    "count": 1.0,
    "base_count": 0.0,
    "unit": "sample",
    "seconds": 0.00331,
    "base_seconds": 0.0,
}
STAGES = {"fetch": {"head": 0.002, "base": 0.001}}
SETTINGS = {"num_workers": {"head": "0", "base": "2"}}
CHANGES = {"calls": [CALL], "settings": SETTINGS, "stages": STAGES}
TEXT = "numpy.sort once a sample, at the base never; takes 3.31 ms a sample"


def test_settings_then_calls_and_else_stages():
    assert changed(None) == []
    assert changed(CHANGES) == [("", 0, "num_workers is 0, at the base 2"), ("/repo/pkg/data.py", 12, TEXT)]
    assert changed(CHANGES | {"calls": [], "settings": {}}) == [
        ("", 0, "fetch takes 2.00 ms a batch, at the base 1.00 ms")
    ]


def test_a_summary_names_them_with_their_lines():
    text = markdown([by_hand.result(by_hand.run(by_hand.failed()) | {"changes": CHANGES})])
    assert "What it did not do at the base" in text
    assert "pkg/data.py:12" in text
    assert TEXT in text
    assert "What it did not do at the base" not in markdown([by_hand.result(by_hand.run(by_hand.failed()))])


def test_a_changed_line_is_annotated():
    run = by_hand.run(by_hand.failed()) | {"changes": CHANGES}
    _, line = annotation_lines([by_hand.result(run)], "/repo")
    assert line == f"::warning file=pkg/data.py,line=12,title=loaderperf%3A not at the base::{TEXT}"


UNOBSERVED = {"side": "loader", "reason": "it hangs", "file": "/repo/pkg/data.py", "line": 7}


def test_what_another_loader_does_not_do_and_what_could_not_be_observed():
    more = {"differences": {"mine": CHANGES}, "unobserved": [UNOBSERVED]}
    text = TEXT.replace("at the base", "in mine")
    assert different(more)[1:] == [("/repo/pkg/data.py", 12, text)]
    summary = markdown([by_hand.result(by_hand.run(by_hand.failed()) | more)])
    for said in ("What the other loader does not do", text, "Could not be observed by the doctor", "it hangs"):
        assert said in summary
    assert annotation_lines([by_hand.result(by_hand.run() | more)], "/repo") == [
        f"::warning file=pkg/data.py,line=12,title=loaderperf%3A not in the other loader::{text}"
    ]
    shown = page([results.result([results.run("test_a.py::test_b", [results.ratio_verdict(0.9)]) | more])])
    for said in ("What the other loader does not do", text, "/repo/pkg/data.py:7: it hangs"):
        assert said in shown


def test_the_page_names_them_and_nothing_in_them_runs():
    hostile = CALL | {"callee": "<script>alert(1)</script>", "file": "/repo/<b>.py"}
    run = results.run("test_a.py::test_b", [results.ratio_verdict(0.9)]) | {"changes": CHANGES | {"calls": [hostile]}}
    text = page([results.result([run])])
    assert "What it did not do at the base" in text
    assert "num_workers is 0, at the base 2" in text
    assert "<script>alert(1)" not in text
    assert "&lt;b&gt;.py:12" in text
