"""Results in other tools' formats, each read back by the tool, or checked against what its reader accepts."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from statistics import quantiles
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from junitparser import JUnitXml

from pytest_loaderperf.cli import main
from pytest_loaderperf.cli.report import FORMATS
from pytest_loaderperf.errors import ResultError
from pytest_loaderperf.report import write_json
from pytest_loaderperf.report.interchange.csv_table import HEADING, csv_text
from pytest_loaderperf.report.interchange.github_benchmark import github_bigger, github_smaller
from pytest_loaderperf.report.interchange.junit import junit_xml
from pytest_loaderperf.report.interchange.pytest_benchmark import pytest_benchmark_json, stats
from tests.report.made_results import HOSTILE, claim, entry, result, run, side

FINDING = {"rule": "sleeping", "message": "sleeps 1 ms a sample", "file": "/p/data.py", "line": 7}
TWO_SIDES = [
    side("loader", throughput=1000.0, batch_latency_p99=0.004, peak_memory=entry(65536.0, "B", None)),
    side("against", throughput=entry(None, "samples/s"), batch_latency_p99=entry(float("nan"), "s")),
    side("roofline", throughput=9000.0),
]
HOSTILE_RESULT = result(run(HOSTILE, [side(HOSTILE, throughput=1.0)], [claim(HOSTILE, "FAIL")], notes=[HOSTILE]))


# JUnit


# What Jenkins' xunit2 (junit-10.xsd, by which pytest tests its own files) allows: attributes, required ones, children.
XUNIT2 = {
    "testsuites": ("name time tests failures errors", "", "testsuite"),
    "testsuite": (
        "name tests failures errors group time skipped timestamp hostname id package file log url version",
        "name tests failures errors",
        "testsuite properties testcase system-out system-err",
    ),
    "properties": ("", "", "property"),
    "property": ("name value", "name value", ""),
    "testcase": ("name time classname group", "name", "skipped errors failure system-out system-err"),
    "failure": ("type message", "", ""),
    "skipped": ("type message", "", ""),
}


def checked(text):
    """The parsed file, which xunit2 allows."""
    root = ET.fromstring(text)  # noqa: S314 we wrote it
    for element in root.iter():
        attributes, required, children = (words.split() for words in XUNIT2[element.tag])
        assert set(element.attrib) <= set(attributes), element.tag
        assert set(element.attrib) >= set(required), element.tag
        assert {child.tag for child in element} <= set(children), element.tag
    return root


def test_junit_has_a_test_case_for_each_claim_and_for_a_run_without():
    claims = [
        claim(),
        claim("a", "FAIL", low=None),
        claim("b", "INCONCLUSIVE"),
        claim("c", "INCONCLUSIVE", failed=True),
    ]
    stages = {"fetch": 0.2, "collate": 0.8}
    text = junit_xml(
        [result(run("t/test_a.py::TestX::test_it[1]", None, claims, stages=stages, findings=[FINDING]), run("m:make"))]
    )
    checked(text)
    (suite,) = JUnitXml.fromstring(text)
    cases = [(case.classname, case.name, [found.type for found in case.result]) for case in suite]
    assert cases == [
        ("t.test_a.TestX.test_it[1]", "throughput >= 100 samples/s", []),
        ("t.test_a.TestX.test_it[1]", "a", ["loaderperf.failure"]),
        ("t.test_a.TestX.test_it[1]", "b", ["loaderperf.skipped"]),
        ("t.test_a.TestX.test_it[1]", "c", ["loaderperf.failure"]),
        ("m:make", "measured, no claim", []),
    ]
    assert (suite.tests, suite.failures, suite.skipped, suite.errors, suite.time) == (5, 2, 1, 0, 3.5)
    failure = checked(text).find(".//failure")
    assert failure.get("message") == "FAIL: a"
    assert failure.text.splitlines() == [
        "needed    100 samples/s",
        "measured  120 samples/s, 95 % interval unbounded to unbounded",
        "evidence  12 trials, 0.5 s",
        "power     would have caught 2.1%",
        "stages    collate 80%, fetch 20% of a batch",
        "finding   /p/data.py:7: sleeps 1 ms a sample",
    ]


def test_an_id_with_colons_is_kept_in_the_names_of_a_test():
    document = result(run("t/test_it.py::TestA::test_it[::error::x/y.py]", claims=[claim()]))
    assert (
        checked(junit_xml([document])).find(".//testcase").get("classname")
        == "t.test_it.TestA.test_it[::error::x/y.py]"
    )
    (benchmark,) = json.loads(pytest_benchmark_json([document]))["benchmarks"]
    assert (benchmark["name"], benchmark["param"]) == ("test_it[::error::x/y.py]", "::error::x/y.py")


def test_junit_of_a_partial_result_is_not_green():
    suite, whole = JUnitXml.fromstring(junit_xml([result(run(), partial=True), result(run())]))
    assert (suite.failures, whole.failures) == (1, 0)
    assert [case.name for case in suite][-1] == "the run is complete"


def test_junit_keeps_equal_claims_of_a_test_apart():
    root = checked(junit_xml([result(run(claims=[claim(), claim()]), run("test_it.py::test_it #2", claims=[claim()]))]))
    assert [case.get("name") for case in root.iter("testcase")] == [
        "throughput >= 100 samples/s",
        "throughput >= 100 samples/s (2)",
        "throughput >= 100 samples/s",
    ]


@settings(deadline=None)
@given(st.text(st.characters(), max_size=30), st.text(st.characters(), max_size=30))
def test_junit_is_xml_whatever_the_names(nodeid, text):
    root = checked(junit_xml([result(run(nodeid, claims=[claim(text, "FAIL")], notes=[text]))]))
    assert len(root.findall(".//failure")) == 1


# github-action-benchmark


def extracted(text):
    """As src/extract.ts of version 1.22 reads it: an array of name, value and unit, and optional range and extra."""

    def refused(constant):
        raise ValueError(constant)  # JavaScript has no NaN in JSON

    entries = json.loads(text, parse_constant=refused)
    for found in entries:
        assert set(found) <= {"name", "value", "unit", "range", "extra"}
        assert all(isinstance(found[key], str) for key in set(found) - {"value"})
        assert type(found["value"]) in (int, float)
        assert {"name", "value", "unit"} <= set(found)
    names = [found["name"] for found in entries]
    assert len(set(names)) == len(names), "the action finds the previous value by the name"
    return {found["name"]: found for found in entries}


def test_github_entries_are_split_by_direction():
    documents = [result(run(sides=TWO_SIDES))]
    smaller, bigger = extracted(github_smaller(documents)), extracted(github_bigger(documents))
    assert list(smaller) == ["test_it.py::test_it: batch_latency_p99", "test_it.py::test_it: peak_memory"]
    (rate,) = bigger.values()
    assert rate == {
        "name": "test_it.py::test_it: throughput",
        "unit": "samples/s",
        "value": 1000.0,
        "range": "95 % interval 900 to 1100",
        "extra": "n: 20\nmachine: " + rate["extra"][-12:],
    }
    assert "range" not in smaller["test_it.py::test_it: peak_memory"]


def test_github_names_are_distinct_and_do_not_depend_on_the_values():
    def names(factor):
        sides = [side("loader", throughput=1.0 * factor), side("a`b", throughput=2.0 * factor)]
        return list(extracted(github_bigger([result(run(sides=sides)), result(run(sides=sides), run("x #2"))])))

    assert names(1) == names(7)
    assert names(1) == [
        "test_it.py::test_it: throughput",
        "test_it.py::test_it [a'b]: throughput",
        "test_it.py::test_it: throughput (2)",
        "test_it.py::test_it [a'b]: throughput (2)",
        "x #2: throughput",
    ]


def test_a_loaders_ratio_to_itself_is_not_an_entry():
    exact = {"value": 1.0, "unit": "1", "low": 1.0, "high": 1.0, "n": 0}
    ratios = side("loader", dataloader_ratio=exact, against_ratio=1.2)
    assert list(extracted(github_bigger([result(run(sides=[ratios]))]))) == ["test_it.py::test_it: against_ratio"]


# pytest-benchmark


def compared(folder, *arguments):
    command = [sys.executable, "-m", "pytest_benchmark", "compare", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_pytest_benchmark_compares_two_results(tmp_path):
    for name, factor in (("old", 1), ("new", 2)):
        times = [0.001 * factor, 0.002 * factor, 0.003 * factor]
        sides = [side("loader", times, throughput=500.0), side("against", times, throughput=500.0)]
        text = pytest_benchmark_json([result(run("t.py::test_it[a/b]", sides), run("t.py::test_it[a/b] #2"))])
        (tmp_path / f"{name}.json").write_text(text)
    shown = compared(tmp_path, "old.json", "new.json", "--between=median,ops", "--name=long", "--csv=out.csv")
    assert "3 tests, 2 sources" in shown
    (line,) = [line for line in shown.splitlines() if line.startswith("t.py::test_it[a/b] [against]")]
    assert line.split()[2:] == ["4.0000", "2.0000", "-50.0%", "250.0000", "500.0000", "+100.0%"]
    rows = rows_of((tmp_path / "out.csv").read_text())
    assert sorted(float(row["median"]) for row in rows) == [0.002, 0.002, 0.002, 0.002, 0.004, 0.004]


@settings(deadline=None)  # the first one imports
@given(st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=40))
def test_statistics_are_those_of_pytest_benchmark(times):
    from pytest_benchmark.stats import Stats

    theirs, ours = Stats(), stats(times)
    theirs.data = times
    assert set(ours) == {*Stats.fields, "data", "iterations"}
    same = ("min", "max", "mean", "stddev", "rounds", "median", "ops", "total", "stddev_outliers")
    assert {name: ours[name] for name in same} == pytest.approx({name: getattr(theirs, name) for name in same})
    if len(times) > 1:
        assert [ours["q1"], ours["q3"]] == pytest.approx(quantiles(times, n=4, method="inclusive")[::2])
    assert ours["min"] <= ours["ld15iqr"] <= ours["hd15iqr"] <= ours["max"]
    json.dumps(ours, allow_nan=False)


def test_pytest_benchmark_needs_the_trials():
    old = side("loader", times=(), throughput=1.0)
    with pytest.raises(ResultError, match=r"expected a result with samples of the throughput, got none: it was"):
        pytest_benchmark_json([result(run(sides=[old]))])


# CSV


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv_has_a_row_for_each_metric_and_side():
    text = csv_text([result(run(sides=TWO_SIDES)), result(run(), commit=None, machine={"cpu": "another"})])
    first, *others = rows_of(text)
    assert list(first) == list(HEADING)
    assert dict(list(first.items())[:9]) == {
        "nodeid": "test_it.py::test_it",
        "side": "loader",
        "metric": "throughput",
        "value": "1000.0",
        "low": "900.0",
        "high": "1100.0",
        "n": "20",
        "unit": "samples/s",
        "commit": "abc123",
    }
    assert [row["value"] for row in others[2:4]] == ["", ""], "None and NaN"
    assert [(row["low"], row["high"]) for row in others if row["metric"] == "peak_memory"] == [("", "")]
    assert (others[-1]["commit"], others[-1]["file"]) == ("", "")
    (row,) = rows_of(csv_text([result(run(sides=[side("loader", throughput=1.0)])) | {"file": "a.json"}]))
    assert row["file"] == "a.json"
    assert len({row["machine"] for row in (first, *others)}) == 2


@pytest.mark.parametrize("name", ["=1+1", "+1", "-2", "@SUM(A1)", "\t=1", 'a,b"c\r\nd', HOSTILE])
def test_csv_cells_are_neither_formulas_nor_line_ends(name):
    text = csv_text([result(run(name, [side(name, throughput=1.0)]))])
    (row,) = rows_of(text)
    assert row["nodeid"] == row["side"]
    assert not row["nodeid"].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert text.count("\r\n") == 2
    assert len(text.splitlines()) == 2


# All of them

INTERCHANGE = sorted({*FORMATS} - {"html", "markdown"})  # these two have tests of their own


@pytest.mark.parametrize("name", INTERCHANGE)
def test_every_format_takes_hostile_names_and_several_results(name):
    text = FORMATS[name]([HOSTILE_RESULT, HOSTILE_RESULT])
    assert "\x1b" not in text
    text.encode("utf-8")  # no lone surrogates


@pytest.mark.parametrize("name", INTERCHANGE)
def test_the_command_writes_every_format(name, tmp_path, capsys):
    write_json(result(run(claims=[claim()])), file := tmp_path / "r.json")
    assert main(["report", str(file), str(file), "--format", name]) == 0
    printed = capsys.readouterr().out
    assert main(["report", str(file), str(file), "--format", name, "-o", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out").read_bytes().decode() == printed
    assert capsys.readouterr().out == f"report written to {tmp_path / 'out'}\n"


def test_the_command_says_what_is_wrong_with_a_file(tmp_path, capsys):
    (tmp_path / "r.json").write_text('{"schema": "other"}')
    assert main(["report", str(tmp_path / "r.json"), "--format", "csv"]) == 1
    assert "expected a result of --loaderperf-json (loaderperf/1), got other JSON." in capsys.readouterr().err
    assert main(["report", str(tmp_path / "absent.json"), "--format", "csv"]) == 1
    assert "cannot read" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["report", "--format=junit"], ["report", "--format=csv"], ["compare"]])
@pytest.mark.parametrize("runs", [[{"nodeid": "x"}], ["text"], [{"nodeid": "x", "sides": None}]])
def test_a_result_that_lacks_a_part_is_an_error_and_no_traceback(command, runs, tmp_path, capsys):
    write_json(result() | {"runs": runs}, file := tmp_path / "r.json")
    assert main([*command, str(file), str(file)]) == 1
    assert re.search(r"r\.json: expected a result .*\. runs\[0\](\.\w+)?: expected ", capsys.readouterr().err)
