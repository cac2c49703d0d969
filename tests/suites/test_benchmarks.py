"""The benchmarks that asv finds: their names, versions and parameters are what results are kept under."""

from __future__ import annotations

import importlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_loaderperf.data.formats import FORMATS
from suites.benchmarks import _case, paths, stores, workloads

ROOT = Path(__file__).parents[2]
CLASSES = [workloads.Workloads, paths.Paths, stores.Stores, stores.Formats, stores.Tracks]
ONE = ("x", 1)


@pytest.fixture(scope="module")
def found():
    """What asv's own discovery finds, in a process of its own, and whether that has imported torch."""
    code = (
        "import io, json, sys; from asv_runner.discovery import list_benchmarks; out = io.StringIO();"
        f"list_benchmarks({str(ROOT / 'suites/benchmarks')!r}, out); print(out.getvalue());"
        "print(json.dumps('torch' in sys.modules))"
    )
    pytest.importorskip("asv_runner", reason="asv is not installed")
    told = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    listed, torch = told.stdout.splitlines()
    return {one["name"]: one for one in json.loads(listed)}, json.loads(torch)


def test_each_class_has_its_benchmarks_with_unit_words_and_version(found):
    benchmarks, torch = found
    assert not torch, "asv starts hundreds of processes that import the benchmarks"
    names = [f"{one.__module__.split('.')[-1]}.{one.__name__}.track_" for one in CLASSES]
    expected = {f"{name}{metric}" for name in names[:-1] for metric in _case.PAIRED}
    expected |= {f"{names[-1]}{metric}" for metric in stores.TRACKS}
    assert set(benchmarks) == expected
    assert {one["version"] for one in benchmarks.values()} == {"1"}
    assert all(one["unit"] != "unit" and one["pretty_name"] for one in benchmarks.values())
    assert len({one["setup_cache_key"] for one in benchmarks.values()}) == len(CLASSES)


def test_every_workload_format_and_store_is_measured():
    specs = {path.stem for path in (ROOT / "fixtures/workloads").glob("*.toml")}
    assert set(workloads.NAMES) == specs
    assert set(stores.FORMATS) == set(FORMATS)


def test_asv_installs_the_torch_that_is_pinned():
    pinned = (ROOT / "requirements/torch.txt").read_text().strip().partition("==")[2]
    assert json.loads((ROOT / "asv.conf.json").read_text())["matrix"]["req"]["torch"] == [pinned]


def failing(error):
    def one(*_case):
        raise error

    return one


def test_what_a_commit_lacks_is_skipped_and_a_failure_fails():
    def missing(_name, _number, _opened):
        return math.no_such_function()

    wrapped = RuntimeError("the factory failed")
    wrapped.__cause__ = ImportError("no optimize")
    cases = {
        "no optimize": failing(ImportError("no optimize")),
        "NotImplementedError": failing(NotImplementedError()),
        "no vortex": failing(NotImplementedError("no vortex")),
    }
    for reason, one in cases.items():
        with pytest.raises(NotImplementedError, match=reason):
            stores.Stores().setup(_case.measured([ONE], [], one), *ONE)
    assert _case.measured([ONE], [], failing(wrapped)) == {ONE: {"skipped": "no optimize"}}
    with pytest.raises(RuntimeError, match="ValueError: wrong"):
        stores.Stores().setup(_case.measured([ONE], [], failing(ValueError("wrong"))), *ONE)
    with pytest.raises(RuntimeError, match="no_such_function"):  # not a call in a suite
        stores.Stores().setup(_case.measured([ONE], [], missing), *ONE)
    with pytest.raises(NotImplementedError, match="there is no GPU, or this is a quick run without this case"):
        stores.Stores().setup({}, *ONE)


def test_a_commit_that_cannot_import_the_cases_skips_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "suites.dashboard.cases", None)
    monkeypatch.delattr("suites.dashboard.cases", raising=False)
    [figures] = _case.measured([ONE], [], _case.made_by("of_store")).values()
    assert "suites.dashboard.cases" in figures["skipped"]


def test_an_interface_that_an_earlier_commit_does_not_have_is_skipped(monkeypatch):
    cases = importlib.import_module("suites.dashboard.cases")
    monkeypatch.setattr(cases, "measure", lambda make: None)
    [figures] = _case.measured([("digits", "cpu")], [], cases.of_workload).values()
    assert re.match(r"this commit has another interface: .* unexpected keyword argument 'against'", figures["skipped"])


@pytest.mark.slow
def test_a_case_has_a_figure_for_every_benchmark(monkeypatch):
    cases = importlib.import_module("suites.dashboard.cases")
    monkeypatch.setattr(cases, "SECONDS", 0.05)
    monkeypatch.setattr(cases, "REPEATS", 1)
    monkeypatch.setattr(cases, "DOCTOR_SECONDS", 0.05)
    case = ("samples", 256, 0, "cpu")
    figures = _case.measured([case], [], cases.of_path)
    assert set(figures[case]) == set(_case.PAIRED)
    assert all(math.isfinite(figure) for figure in figures[case].values())
    assert figures[case]["copies_per_batch"] > 200  # one of each sample
    assert paths.Paths().track_seconds_per_sample(figures, *case) == figures[case]["seconds_per_sample"]
