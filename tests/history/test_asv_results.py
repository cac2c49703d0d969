"""Results of asv are read as asv itself reads them; what is damaged or foreign is said."""

from __future__ import annotations

import json

import pytest

from pytest_loaderperf.errors import ResultError
from pytest_loaderperf.history.asv_results import is_asv, read_asv
from pytest_loaderperf.history.table import Metric

COLUMNS = ["result", "params", "version", "started_at"]
BENCHMARKS = {
    "version": 2,
    "loading.Arrays.track_seconds": {"unit": "seconds", "version": "v1"},
    "loading.track_bytes": {"unit": "bytes", "version": "v1"},
}


def result(commit="c" * 40, **changed):
    rows = {
        "loading.Arrays.track_seconds": [[0.5, None, float("nan"), 2.0], [["8", "64"], ["'a'", "'b'"]], "v1"],
        "loading.track_bytes": [[7.0], [], "v1"],
        "loading.track_failed": [None, [], "v1"],
    }
    params = {"machine": "vm", "cpu": "x", "python": "3.11", "torch": "2.13.0"}
    content = {"version": 2, "commit_hash": commit, "date": 1_700_000_000_000, "params": params, "python": "3.11"}
    return content | {"requirements": {"torch": "2.13.0"}, "result_columns": COLUMNS, "results": rows} | changed


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "vm").mkdir()
    (tmp_path / "vm" / "machine.json").write_text('{"machine": "vm", "version": 1}')
    (tmp_path / "benchmarks.json").write_text(json.dumps(BENCHMARKS))
    (tmp_path / "vm" / "cccccccc-env.json").write_text(json.dumps(result()))
    return tmp_path


def test_values_are_read_with_their_parameters(folder):
    table = read_asv(folder)
    assert table.values == {
        Metric("loading.Arrays(8, 'a')", "track_seconds", "s", asv=True): {0: 0.5},
        Metric("loading.Arrays(64, 'b')", "track_seconds", "s", asv=True): {0: 2.0},
        Metric("loading", "track_bytes", "B", asv=True): {0: 7.0},
    }
    (run,) = table.runs
    assert (run.commit, run.commit_time_s, run.torch, table.remarks) == ("c" * 40, 1_700_000_000.0, "2.13.0", ())


def test_the_machine_does_not_depend_on_torch_or_python(folder):
    newer = result("d" * 40, requirements={"torch": "2.14.0"})
    newer["params"] |= {"torch": "2.14.0", "python": "3.12"}
    (folder / "vm" / "dddddddd-env.json").write_text(json.dumps(newer))
    first, second = read_asv(folder).runs
    assert first.machine == second.machine
    assert first.torch != second.torch


def test_environments_of_asv_are_told_apart(folder):
    other = result("c" * 40, requirements={"torch": "2.13.0", "numpy": "2.0"}, env_vars={"MODE": "fast"})
    other["params"] |= {"numpy": "2.0"}
    (folder / "vm" / "cccccccc-other.json").write_text(json.dumps(other))
    first, second = read_asv(folder).runs
    assert (first.packages, second.packages) == ("Python 3.11", "Python 3.11, numpy 2.0, MODE fast")
    assert first.machine == second.machine
    assert first.environment != second.environment


def test_an_older_version_of_a_benchmark_is_left_out_and_named(folder):
    older = result("d" * 40, results={"loading.track_bytes": [[9.0], [], "v0"]})
    (folder / "vm" / "dddddddd-env.json").write_text(json.dumps(older))
    table = read_asv(folder)
    assert table.values[Metric("loading", "track_bytes", "B", asv=True)] == {0: 7.0}
    assert table.remarks == ("asv's results of an older version were left out: loading.track_bytes",)


@pytest.mark.parametrize(
    "text, words",
    [
        ('{"version": 2, "commit_ha', "expected JSON of asv, got a file that is cut off or is not JSON"),
        ("[]", "expected a file of asv in version 2, got other JSON. Use asv 0.6"),
        (json.dumps(result(version=1)), "expected a file of asv in version 2, got version 1"),
        (json.dumps({"version": 2, "theirs": 1}), "expected a result file of asv in version 2, got one without its"),
        (json.dumps(result(results={"a.b": [[1.0, 2.0], [["8"]], "v1"]})), "got one without its usual content"),
        (json.dumps(result(results=[1])), "got one without its usual content"),
        (json.dumps(result(date=1e30)), "got one without its usual content: ValueError a date of 1e[+]30"),
    ],
)
def test_a_damaged_or_foreign_file_is_named(folder, text, words):
    (folder / "vm" / "bad.json").write_text(text)
    with pytest.raises(ResultError, match=words) as caught:
        read_asv(folder)
    assert "bad.json" in str(caught.value)


def test_a_folder_without_results_is_said(tmp_path):
    assert not is_asv(tmp_path)
    (tmp_path / "benchmarks.json").write_text(json.dumps(BENCHMARKS))
    assert is_asv(tmp_path)
    with pytest.raises(ResultError, match=r"expected results of asv, got no result file\. Measure first: asv run\."):
        read_asv(tmp_path)
