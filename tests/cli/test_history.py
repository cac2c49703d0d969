"""``loaderperf history``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from pytest_loaderperf.cli import main
from tests.history.made import commits, fill

COUNT = 40
NODEID = "test_a.py::test_it[<script>alert(1)</script>-ä-🚀-$x$]"
ENDS = (20, 30)  # throughput falls by a fifth, then first_batch doubles together with an update of torch


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project in a folder with spaces, with a regression, and an update of torch."""
    folder = tmp_path_factory.mktemp("a project ä")
    names = commits(folder, COUNT)
    noise = np.exp(0.01 * np.random.default_rng(0).standard_normal((2, COUNT)))
    throughput = np.where(np.arange(COUNT) < ENDS[0], 1000.0, 800.0) * noise[0]
    first = np.where(np.arange(COUNT) < ENDS[1], 0.1, 0.2) * noise[1]
    series = {"throughput": throughput.tolist(), "first_batch": first.tolist(), "peak_memory": [3e6] * COUNT}
    fill(folder, names, series, machine_of=lambda i: {"torch": "2.14"} if i >= ENDS[1] else {}, nodeid=NODEID)
    return folder, names


@pytest.fixture
def project(made, monkeypatch):
    monkeypatch.chdir(made[0])
    monkeypatch.setenv("COLUMNS", "80")
    return made


def test_the_commit_of_a_regression_is_shown_and_gives_status_1(project, capsys):
    _, names = project
    assert main(["history"]) == 1
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0] == "40 commits, 2023-11-14 to 2023-12-23; 3 series of 1 test"
    assert f"{names[20][:10]}  2023-12-04  Change 20" in lines
    assert re.search(r"    REGRESSION: throughput -(19|20)\.\d %", shown)
    assert "samples/s -> 80" in shown
    assert "    another torch (2.13.0 -> 2.14): first_batch +" in shown
    assert lines[-1] == "1 regression"
    assert max(map(len, lines)) <= 80
    assert "▁" in shown
    assert "\x1b" not in shown


def test_since_and_metric_restrict_what_counts(project, capsys):
    assert main(["history", "--since", "HEAD~15"]) == 0
    assert "no regressions since HEAD~15" in capsys.readouterr().out
    assert main(["history", "--since", "HEAD~25"]) == 1
    assert main(["history", "--metric", "first_batch"]) == 0
    assert main(["history", "--test", "test_a.py", "--metric", "throughput"]) == 1
    assert "throughput" not in capsys.readouterr().out.partition("first_batch")[0].partition("series")[2]


def test_few_series_get_a_chart_of_several_lines(project, capsys):
    main(["history", "--metric", "throughput"])
    shown = capsys.readouterr().out.splitlines()
    assert sum("█" in line for line in shown) >= 6
    assert any(line.strip().startswith("1,0") and "samples/s" in line for line in shown)


def test_files_are_written_and_escaped(project, tmp_path, capsys):
    files = [tmp_path / f"out.{ending}" for ending in ("html", "png", "json", "svg")]
    options = ["--html", str(files[0]), "--png", str(files[1]), "--json", str(files[2])]
    assert main(["history", *options]) == 1
    assert main(["history", "--png", str(files[3])]) == 1
    assert capsys.readouterr().out.count("written to") == 4
    page = files[0].read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;-ä-🚀-$x$" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ).replace("https://matplotlib.org", "")
    assert files[1].read_bytes().startswith(b"\x89PNG")
    assert ET.parse(files[3]).getroot().tag.endswith("svg")  # noqa: S314 our own
    found = json.loads(files[2].read_text())
    assert found["schema"] == "loaderperf-history/1"
    assert len(found["commits"]) == COUNT
    changes = {series["metric"]: series["changes"] for series in found["series"]}
    assert [change["commit"] for change in changes["throughput"]] == [project[1][20]]
    assert changes["first_batch"][0]["coincides"] == ["another torch (2.13.0 -> 2.14)"]
    assert changes["peak_memory"] == []


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--html", "test_a.py"], "expected a name that ends in .html or .htm, got 'test_a.py'"),
        (["--png", "x.py"], "expected a name that ends in .png or .svg or .pdf, got 'x.py'"),
    ],
)
def test_a_wrong_ending_is_a_usage_error(project, capsys, arguments, words):
    with pytest.raises(SystemExit) as ended:
        main(["history", *arguments])
    assert ended.value.code == 2
    assert words in capsys.readouterr().err


def test_what_is_not_there_is_said_and_gives_status_2(project, capsys, tmp_path):
    def refused(*arguments):
        assert main(["history", *arguments]) == 2
        return capsys.readouterr().err

    assert "expected a project with .loaderperf/history.sqlite3, or results of asv, got neither" in refused(
        str(tmp_path)
    )
    assert refused("--metric", "nothing") == (
        "loaderperf: --metric: expected one of first_batch, peak_memory, throughput, got 'nothing'.\n"
    )
    assert "--metric base_ratio: it compares with another commit in each run" in refused("--metric", "base_ratio")
    assert refused("--test", "zzz").startswith(
        "loaderperf: --test: expected a part of the name of a test, got 'zzz'. There are test_a.py::test_it[<script>"
    )
    assert "--since: expected a commit of HEAD's history, or one that was measured, got --all." in refused(
        "--since=--all"
    )
    (tmp_path / "theirs.json").write_text("{}")
    assert "was not written by loaderperf" in refused("--json", str(tmp_path / "theirs.json"))
    assert "cannot write the plot" in refused("--png", str(tmp_path / "theirs.json" / "x.png"))
    (tmp_path / "result.json").write_text('{"schema": "loaderperf/1"}')
    assert "got one document of loaderperf. `loaderperf report` and" in refused(str(tmp_path / "result.json"))
    (tmp_path / "theirs.html").write_text("<p>")
    assert "theirs.html was not written by loaderperf" in refused("--html", str(tmp_path / "theirs.html"))
    (tmp_path / ".loaderperf").mkdir()
    (tmp_path / ".loaderperf" / "history.sqlite3").touch()
    assert "expected results of earlier runs, got an empty file. Remove it" in refused(str(tmp_path))
    (tmp_path / ".loaderperf" / "history.sqlite3").unlink()
    fill(tmp_path, ["a" * 40], {})
    assert "no results are kept there yet. Measure first: pytest --loaderperf." in refused(str(tmp_path))
    (tmp_path / ".loaderperf" / "history.sqlite3").write_bytes(b"x" * 5000)
    assert "expected results of earlier runs, got a damaged or foreign file" in refused(str(tmp_path))


def test_results_of_asv_are_read_from_the_folder_that_asv_uses(project, tmp_path, capsys):
    _, names = project
    results = tmp_path / ".asv" / "results"
    (results / "vm").mkdir(parents=True)
    (results / "benchmarks.json").write_text(
        json.dumps({"version": 2, "loading.track_time": {"unit": "seconds", "version": "1"}})
    )
    for i, name in enumerate(names):
        value = (1.0 if i < 20 else 1.2) + 0.001 * (i * 7 % 5)
        content = {"version": 2, "commit_hash": name, "date": 1000 * i, "params": {"cpu": "x"}, "requirements": {}}
        content |= {
            "result_columns": ["result", "params", "version"],
            "results": {"loading.track_time": [[value], [], "1"]},
        }
        (results / "vm" / f"{name[:8]}-env.json").write_text(json.dumps(content))
    assert main(["history", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert f"{names[20][:10]}  1970-01-01  Change 20" in shown
    assert "REGRESSION: track_time +20." in shown
    assert "1.00 s -> 1.20 s" in shown


def test_environments_that_were_both_measured_are_a_series_each(project, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    _, names = project
    (tmp_path / "vm").mkdir()
    (tmp_path / "benchmarks.json").write_text('{"version": 2, "s.time_it": {"unit": "seconds", "version": "1"}}')
    for python, value, count in (("3.11", 1.0, COUNT), ("3.12", 0.5, COUNT // 2)):  # the second was given up
        for i, name in enumerate(names[:count]):
            cells = {"s.time_it": [[value + 0.001 * (i * 7 % 5)], [], "1"]}
            content = {"version": 2, "commit_hash": name, "date": 1000 * i, "params": {"cpu": "x", "python": python}}
            content |= {"python": python, "requirements": {}, "result_columns": ["result", "params", "version"]}
            (tmp_path / "vm" / f"{name[:8]}-{python}.json").write_text(json.dumps(content | {"results": cells}))
    assert main(["history", str(tmp_path), "--html", str(tmp_path / "page.html")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "40 commits, 1970-01-01 to 1970-01-01; 2 series of 1 test"
    assert [line for line in lines if "Python" in line] == ["    Python 3.11", "    Python 3.12"]
    assert "<td>time_it, Python 3.12</td>" in (tmp_path / "page.html").read_text()


def test_each_device_of_a_test_is_a_series(tmp_path, capsys):
    names = commits(tmp_path, 8)
    for device, value in (("cpu", 5.0), ("cuda", 9.0)):
        fill(tmp_path, names, {"throughput": [value] * 8}, device=device)
    assert main(["history", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "test_a.py::test_it[8-ä]\n  throughput           5.00 samples/s" in shown
    assert "test_a.py::test_it[8-ä] (cuda)\n  throughput           9.00 samples/s" in shown


def test_a_store_outside_this_folder_is_in_its_own_repository(project, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["history", str(project[0] / ".loaderperf" / "history.sqlite3"), "--since", "HEAD~25"]) == 1
    assert "ordered by time" not in capsys.readouterr().out


def test_without_git_it_works_by_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    fill(tmp_path, [None] * 5, {"throughput": [5.0] * 5})
    assert main(["history"]) == 0
    shown = capsys.readouterr().out
    assert "the commits are ordered by time: there is no git repository here" in shown
    assert "steps are found from 6 commits on" in shown


def test_it_imports_no_torch(project):
    code = "import sys; from pytest_loaderperf.cli import main; main(['history']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, timeout=60).returncode == 0


def test_a_drift_is_shown_and_is_no_regression(tmp_path, capsys):
    names = commits(tmp_path, 100)
    noise = np.exp(0.01 * np.random.default_rng(1).standard_normal(100))
    fill(tmp_path, names, {"throughput": (1000 * np.exp(-0.003 * np.arange(100)) * noise).tolist()})
    assert main(["history", str(tmp_path)]) == 0
    assert " % in 100 commits" in capsys.readouterr().out
