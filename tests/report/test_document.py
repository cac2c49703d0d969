"""The result file: valid JSON with the keys that programs read, complete or absent."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from pytest_loaderperf.errors import ResultError
from pytest_loaderperf.judge import Course, Outcome, PercentileTest, Ruling, SignTest, Verdict
from pytest_loaderperf.measurement import Disturbance
from pytest_loaderperf.report import read_json, result_document, run_document, write_json
from pytest_loaderperf.report.document import claim_entry, metric_entry

UNKNOWN = Ruling(Outcome.INCONCLUSIVE, math.nan, -math.inf, math.inf, 0.97, 0, None)


def verdict(ruling=UNKNOWN, **changes):
    plain = {"claim": "throughput >= 0.97 * against.throughput", "unit": "1", "at_least": True, "left": math.nan}
    plain |= {"left_unit": "samples/s", "right": math.nan, "counted": "pairs", "seconds": 0.12345, "alpha": 0.0005}
    return Verdict(**(plain | changes), ruling=ruling)


QUIET = Disturbance(0.0, {"stolen": 0.0}, {"stolen_seconds": 0.0, "quota_seconds": None})


def document(*verdicts, disturbed=QUIET, inconclusive="pass"):
    metrics = {"throughput": metric_entry(412.5, 400.0, math.inf, 7, "samples/s")}
    one = run_document(
        nodeid="test_data.py::test_keeps_up",
        sides=[{"name": "loader", "kind": "DataLoader", "loader": "DataLoader(...)", "metrics": metrics}],
        batch_size=32,
        device="cpu",
        stages={"fetch": 0.75, "collate": 0.25},
        verdicts=verdicts,
        seconds=1.23456,
        disturbed=disturbed,
        notes=["a note"],
        inconclusive=inconclusive,
    )
    return result_document(machine={"cores": 2}, commit=None, base_commit=None, alpha=0.001, runs=[one], partial=False)


def test_the_document_holds_the_keys_of_the_schema():
    whole = document(verdict())
    assert whole["schema"] == "loaderperf/1"
    assert {"schema", "machine", "commit", "base_commit", "alpha", "runs"} <= whole.keys()
    [run] = whole["runs"]
    assert {"nodeid", "loader", "batch_size", "device", "metrics", "stages", "claims", "findings"} <= run.keys()
    [claim] = run["claims"]
    assert {"claim", "verdict", "estimate", "low", "high", "needed", "pairs", "seconds", "mde", "alpha"} <= claim.keys()
    assert run["metrics"]["throughput"].keys() == {"value", "unit", "low", "high", "n"}
    assert (run["findings"], whole["partial"]) == ([], False)


@pytest.mark.parametrize(
    "disturbed",
    [QUIET, Disturbance(0.34, {"stolen": 0.2, "other_processes": 0.14}, {}), Disturbance(None, {}, {"quota": None})],
)
def test_what_disturbed_a_run_is_written_as_it_was_found(disturbed):
    [run] = document(disturbed=disturbed)["runs"]
    assert (run["disturbed"], run["disturbed_by"]) == (disturbed.share, disturbed.causes)
    assert run["disturbance"] == disturbed.totals


def test_a_claim_is_written_with_its_figures():
    ruling = Ruling(Outcome.FAIL, 0.9, 0.88, 0.92, 0.97, 37, 0.021)
    assert claim_entry(verdict(ruling)) == {
        "claim": "throughput >= 0.97 * against.throughput",
        "verdict": "FAIL",
        "estimate": 0.9,
        "low": 0.88,
        "high": 0.92,
        "needed": 0.97,
        "unit": "1",
        "pairs": 37,
        "counted": "pairs",
        "seconds": 0.123,
        "mde": 0.021,
        "alpha": 0.0005,
        "failed": True,
        "by": "",
        "leaning": "FAIL",
        "settles_in_seconds": None,
        "unconfirmed": None,
        "at_least": True,
        "course": None,
    }


@pytest.mark.parametrize(
    "policy, low, high, leaning, failed",
    [
        ("pass", 0.88, 0.92, "FAIL", False),
        ("leaning", 0.88, 0.92, "FAIL", True),
        ("leaning", 0.88, 0.98, "INCONCLUSIVE", False),
        ("leaning", 0.98, 1.01, "PASS", False),
        ("fail", 0.98, 1.01, "PASS", True),
    ],
)
def test_an_undecided_claim_is_written_with_what_it_leans_to_and_counts_as(policy, low, high, leaning, failed):
    ruling = Ruling(Outcome.INCONCLUSIVE, 0.9, low, high, 0.97, 37, 0.021)
    open_claim = verdict(ruling, policy=policy, settles_in_seconds=33.2, unconfirmed=Outcome.PASS)
    [run] = document(open_claim, inconclusive=policy)["runs"]
    [claim] = run["claims"]
    assert run["inconclusive"] == policy
    assert (claim["leaning"], claim["failed"]) == (leaning, failed)
    assert (claim["settles_in_seconds"], claim["unconfirmed"]) == (33.2, "PASS")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_unknown_or_unbounded_is_null(value):
    entry = metric_entry(value, value, value, 0, "s")
    assert entry == {"value": None, "unit": "s", "low": None, "high": None, "n": 0}


def test_of_many_samples_a_hundred_at_most_are_written_evenly_chosen_and_rounded():
    samples = [1 + n * 1e-9 for n in range(250)]
    assert metric_entry(1.0, 0.9, 1.1, 250, "s", samples=samples)["samples"] == [1.0] * 84
    assert metric_entry(1.0, 0.9, 1.1, 3, "s", samples=[3.0, 1.0, math.inf])["samples"] == [3.0, 1.0, None]
    assert "samples" not in metric_entry(1.0, 0.9, 1.1, 1, "s", samples=[1.0])


@pytest.mark.parametrize(
    "ruling",
    [UNKNOWN, SignTest(0.97, at_least=True).ruling(0.001, 0), PercentileTest(0.1, 0.99, at_least=False).ruling(0.1, 9)],
)
def test_every_ruling_makes_json_that_strict_readers_take(tmp_path, ruling):
    path = tmp_path / "result.json"
    write_json(document(verdict(ruling)), path)

    def refuse(constant):
        raise AssertionError(constant)

    assert json.loads(path.read_text("utf-8"), parse_constant=refuse) == document(verdict(ruling))


def test_a_verdict_is_plain_text_in_the_file():
    assert type(claim_entry(verdict())["verdict"]) is str


def test_the_file_ends_with_a_newline_and_its_folder_is_made(tmp_path):
    path = tmp_path / "a" / "b" / "result.json"
    write_json({"name": "h\u00e9 \ud800"}, path)
    assert path.read_bytes() == b'{\n "name": "h\\u00e9 \\ud800"\n}\n'
    assert os.listdir(path.parent) == ["result.json"]  # noqa: PTH208 a listing of names is what is compared


@pytest.mark.parametrize("old", [None, "old\n"])
@pytest.mark.parametrize(
    "breaks, error",
    [("value", ValueError), ("type", TypeError), ("fsync", OSError), ("replace", OSError)],
)
def test_a_failure_midway_leaves_the_old_file_and_no_scratch_file(tmp_path, monkeypatch, breaks, error, old):
    path = tmp_path / "result.json"
    if old is not None:
        path.write_text(old)
    bad = {"value": math.nan, "type": object()}.get(breaks, 1)

    def no_space(*_args):
        raise OSError(28, "No space left on device")

    if breaks == "fsync":
        monkeypatch.setattr(os, "fsync", no_space)
    if breaks == "replace":
        monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(error):
        write_json({"first": list(range(10_000)), "last": bad}, path)
    assert [p.read_text() for p in tmp_path.iterdir()] == ([] if old is None else [old])


def test_a_new_result_takes_the_place_of_the_old_one(tmp_path):
    path = tmp_path / "result.json"
    write_json({"run": 1}, path)
    write_json({"run": 2}, path)
    assert json.loads(path.read_text()) == {"run": 2}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_raises_oserror(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_json({}, tmp_path / "file" / "result.json")


def test_what_was_written_is_read_back(tmp_path):
    result = document(verdict(), disturbed=Disturbance(0.2, {"stolen": 0.2}, {"stolen_seconds": None}))
    write_json(result, tmp_path / "result.json")
    assert read_json(tmp_path / "result.json") == json.loads(json.dumps(result))


@pytest.mark.parametrize(
    "text, error",
    [
        ('{"schema": "loaderperf/1", "ru', "got a file that is cut off or is not JSON: Unterminated string"),
        ("[" * 100_000, "got a file that is cut off or is not JSON"),
        ('{"schema": NaN}', "got a file that is cut off or is not JSON: NaN is no number of JSON"),
        ("\n", "got an empty file."),
        ("[1, 2]", "got other JSON."),
        ('{"schema": "loaderperf-scale/1"}', "got a simulated job of `loaderperf scale --json` (loaderperf-scale/1)."),
        ('{"schema": "loaderperf-check/1"}', "got what `loaderperf data check --json` found (loaderperf-check/1)."),
        ('{"benchmarks": []}', "got other JSON."),
        (
            '{"schema": "loaderperf/2"}',
            "got a result of version 2: use the version of pytest-loaderperf that wrote it.",
        ),
        ('{"schema": "loaderperf-trace/1"}', "got a trace of `loaderperf doctor --trace` (loaderperf-trace/1)."),
        ('{"schema": "loaderperf-diagnosis/1"}', "got a diagnosis of `loaderperf doctor --json` (loaderperf-diagno"),
    ],
)
def test_a_foreign_or_broken_result_is_an_error(tmp_path, text, error):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ResultError) as raised:
        read_json(tmp_path / "result.json")
    expected = f"{tmp_path / 'result.json'}: expected a result of --loaderperf-json (loaderperf/1), {error}"
    assert str(raised.value).startswith(expected)


def test_a_missing_result_is_an_error(tmp_path):
    with pytest.raises(ResultError, match=r"cannot read .*result.json: No such file or directory"):
        read_json(tmp_path / "result.json")


def course(n):
    return Course(np.arange(1.0, n + 1), np.linspace(0, 5, n), np.full(n, -math.inf), math.log(1000))


def test_a_short_course_is_kept_pair_by_pair():
    entry = claim_entry(verdict(course=course(3)))["course"]
    assert entry == {
        "each": 1,
        "values": [1.0, 2.0, 3.0],
        "evidence_pass": [0.0, 1.086, 2.171],
        "evidence_fail": [None, None, None],
        "enough": 3.0,
    }


def test_a_long_course_has_few_points_with_all_extremes_and_the_last_evidence():
    entry = claim_entry(verdict(course=course(1001)))["course"]
    assert (entry["each"], len(entry["values"])) == (6, 167)
    assert (entry["lows"][:2], entry["values"][:2], entry["highs"][:2]) == ([1.0, 7.0], [3.0, 9.0], [6.0, 12.0])
    assert (entry["highs"][-1], entry["evidence_pass"][-1]) == (1001.0, 2.171)


def test_a_claim_without_evidence_to_weigh_has_no_course():
    assert claim_entry(verdict())["course"] is None
    assert claim_entry(verdict(course=course(0)))["course"] is None


def test_lists_of_numbers_stand_in_one_line_and_texts_stay_as_they_are(tmp_path):
    odd = "a\n 1, 2\n ]null\n 3"
    whole = document(verdict(course=course(2))) | {"numbers": [1, -2.5, None, 3e-7], "texts": [odd], "none": []}
    write_json(whole, tmp_path / "result.json")
    assert read_json(tmp_path / "result.json") == whole
    lines = (tmp_path / "result.json").read_text().splitlines()
    assert ' "numbers": [ 1, -2.5, null, 3e-07 ],' in lines
