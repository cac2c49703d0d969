"""``--loaderperf-asv``: results of asv, read back by the real asv; nothing of earlier results is lost."""

from __future__ import annotations

import ast
import importlib.util
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_loaderperf.errors import ResultError
from pytest_loaderperf.history import repository as asked_of_git
from pytest_loaderperf.history.asv import asv_target, write_asv
from tests.history.asv_results import make_repository, result

IT = "test_data.test_it.seconds_per_sample"
needs_asv = pytest.mark.skipif(importlib.util.find_spec("asv") is None, reason="asv is not installed")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """No machine that asv was told of, and no settings of git."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr("platform.node", lambda: "bench")
    return tmp_path / "home"


@pytest.fixture
def repository(tmp_path):
    """A folder of a repository, whose name is not plain, and the ids of its two commits."""
    folder = tmp_path / "ein Projekt für alle"
    return folder, make_repository(folder, 2)


def read(out, commit=""):
    """All benchmarks, and the rows of a commit."""
    rows = {}
    for path in out.glob(f"*/{commit[:8]}*-loaderperf-*.json"):
        rows |= json.loads(path.read_text())["results"]
    return json.loads((out / "benchmarks.json").read_text()), rows


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".git/" not in str(path)}


def test_a_result_has_machine_benchmark_and_row(repository):
    root, commits = repository
    message = write_asv(result(commits[0], {"test_data.py::test_it": 100.0}), root / "out", root=root)
    assert message == f"asv: 1 results of commit {commits[0][:8]} written to {root / 'out'}"
    benchmarks, rows = read(root / "out")
    assert benchmarks["version"] == 2
    assert benchmarks[IT]["pretty_name"] == "test_data.test_it: seconds per sample"
    assert (benchmarks[IT]["unit"], benchmarks[IT]["params"]) == ("seconds", [])
    assert rows[IT][:3] == [[0.01], [], benchmarks[IT]["version"]]
    assert len(rows[IT][11][0]) == 21
    machine = json.loads((root / "out/bench/machine.json").read_text())
    assert (machine["machine"], machine["cpu"], machine["version"]) == ("bench", "A CPU", 1)
    name = f"{commits[0][:8]}-loaderperf-py3.11-torch2.13.0+cpu.json"
    content = json.loads((root / "out/bench" / name).read_text())
    assert (content["commit_hash"], content["date"], content["python"]) == (commits[0], 1_700_000_000_000, "3.11")


def test_the_gpu_is_part_of_the_cpu_and_each_device_has_a_file(repository, home):
    root, commits = repository
    told = {"version": 1, "runner": {"machine": "runner", "os": "An OS", "ram": "1", "num_cpu": "8"}}
    (home / ".asv-machine.json").write_text(json.dumps(told))
    for device in ("cpu", "cuda"):
        write_asv(result(commits[1], {"t.py::t": 1.0}, gpu="A GPU", device=device), root / "out", root=root)
    files = sorted((root / "out/runner").glob("*-loaderperf-*"))
    assert [path.name.rpartition("+")[2] for path in files] == ["cpu-cuda.json", "cpu.json"]
    params = json.loads(files[0].read_text())["params"]
    assert (params["cpu"], params["device"], params["os"], params["num_cpu"]) == ("A CPU + A GPU", "cuda", "An OS", "8")


def test_a_new_kernel_is_the_same_machine_and_another_cpu_is_another_one(repository, monkeypatch):
    root, commits = repository
    out = root / "out"

    def params(commit):
        return json.loads(next(out.glob(f"bench/{commit[:8]}-*.json")).read_text())["params"]

    write_asv(result(commits[0], {"t.py::t": 1.0}), out, root=root)
    monkeypatch.setattr("platform.release", lambda: "99.0")
    for commit in commits:  # the first one is measured again
        write_asv(result(commit, {"t.py::t": 1.0}), out, root=root)
    assert params(commits[0]) == params(commits[1])
    with pytest.raises(ResultError, match=r"expected results of this machine and commit, got .*cpu: 'A CPU'"):
        write_asv(result(commits[1], {"t.py::t": 1.0}, cpu="Another"), out, root=root)


def test_ids_become_parameters_and_later_ids_are_added(repository):
    root, commits = repository
    for number, ids in enumerate((["a-8", "a-64"], ["a-8", "b-8"])):
        document = result(commits[number], {f"test_data.py::test_it[{one}]": 1.0 for one in ids})
        write_asv(document, root / "out", root=root)
    write_asv(result(commits[1], {"test_data.py::test_it[a-8]": 2.0}), root / "out", root=root)
    benchmarks, rows = read(root / "out", commits[1])
    assert benchmarks[IT]["params"] == [["'a'", "'b'"], ["8", "64"]]
    assert benchmarks[IT]["param_names"] == ["parameter 1", "parameter 2"]
    assert rows[IT][:2] == [[0.5, 1.0], [["'a'", "'b'"], ["8"]]]
    _, rows = read(root / "out", commits[0])
    assert rows[IT][1] == [["'a'"], ["8", "64"]]


def test_ids_that_cannot_be_split_as_before_make_one_parameter_also_of_earlier_results(repository):
    root, commits = repository
    write_asv(result(commits[0], {"test_data.py::test_it[a-8]": 1.0, "o.py::o[1-2]": 1.0}), root / "out", root=root)
    write_asv(result(commits[1], {"test_data.py::test_it[x]": 2.0}), root / "out", root=root)
    benchmarks, rows = read(root / "out", commits[0])
    assert (rows[IT][:2], benchmarks[IT]["params"]) == ([[1.0], [["'a-8'"]]], [["'a-8'", "'x'"]])
    assert rows["o.o.seconds_per_sample"][1] == [["1"], ["2"]]
    write_asv(result(commits[1], {"test_data.py::test_it[a-9]": 3.0}), root / "out", root=root)
    benchmarks, rows = read(root / "out", commits[1])
    assert benchmarks[IT]["params"] == [["'a-8'", "'x'", "'a-9'"]]
    assert rows[IT][:2] == [[0.5, pytest.approx(1 / 3, rel=1e-5)], [["'x'", "'a-9'"]]]


def test_entries_that_asv_dropped_come_back_and_its_own_stay(repository):
    root, commits = repository
    write_asv(result(commits[0], {"a.py::a[1-x]": 1.0, "b.py::b": 1.0}), root / "out", root=root)
    before, _ = read(root / "out")
    theirs = {"version": 2, "suite.time_it": {"name": "suite.time_it", "params": [], "version": "1"}}
    (root / "out/benchmarks.json").write_text(json.dumps(theirs))  # as `asv run` leaves it
    write_asv(result(commits[1], {"b.py::b": 2.0}), root / "out", root=root)
    after, _ = read(root / "out")
    assert after == before | theirs


def write_one(arguments):
    commit, root, number = arguments
    write_asv(result(commit, {f"t.py::test_{number}": 1.0}), root / "out", root=root)


def test_writers_at_the_same_time_lose_nothing(repository):
    root, commits = repository
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.map(write_one, [(commits[0], root, number) for number in range(12)], chunksize=1)
    benchmarks, rows = read(root / "out")
    assert len(rows) == 12
    assert set(rows) | {"version"} == set(benchmarks)
    assert [path for path in (root / "out").rglob("*") if path.suffix != ".json" and path.is_file()] == []


def test_files_that_differ_from_the_commit_keep_results_from_being_written(repository):
    root, commits = repository
    document, out = result(commits[-1], {"t.py::t": 1.0}), root / "out"
    (root / "code.py").write_text("changed")
    expected = (
        f"asv: nothing was written: 1 file differs from commit {commits[-1][:8]} (code.py), so these are not its "
        "results. Commit first, or set loaderperf_asv_dirty = true."
    )
    assert asv_target(out, root, dirty_ok=False).refusal == expected
    assert write_asv(document, out, root=root) == expected
    assert not out.exists()
    assert asv_target(out, root, dirty_ok=True).refusal == ""
    write_asv(document, out, root=root, dirty_ok=True)
    write_asv(result(commits[0], {"t.py::t": 1.0}), out, root=root)  # measured earlier, from a result file
    assert len(list(out.glob("bench/*-loaderperf-*"))) == 2


def test_results_that_git_keeps_do_not_count_as_changes(repository):
    root, commits = repository
    write_asv(result(commits[-1], {"t.py::t": 1.0}), root / "out", root=root)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "add", "out"], cwd=root, check=True)
    subprocess.run([*git, "commit", "-qm", "results"], cwd=root, check=True)
    (root / "out/benchmarks.json").write_text('{"version": 2}')
    assert asv_target(root / "out", root, dirty_ok=False).refusal == ""


@pytest.mark.parametrize(
    "file, text, error",
    [
        ("benchmarks.json", '{"version": 2, "a"', "expected a file of asv, got one that is cut off or is not JSON"),
        ("benchmarks.json", '{"version": 1}', "expected asv's version 2 of this file, got version 1. Nothing was"),
        ("benchmarks.json", "[]", "expected asv's version 2 of this file, got other JSON"),
        ("bench/machine.json", '{"version": 3}', "expected asv's version 1 of this file, got version 3"),
        ("bench/{commit}-loaderperf-py3.11-torch2.13.0+cpu.json", "{", "is cut off or is not JSON"),
        (
            "bench/{commit}-loaderperf-py3.11-torch2.13.0+cpu.json",
            '{"version": 2, "results": 1}',
            "expected a file of asv with commit_hash, params, results, got one without. Nothing was written. Remove",
        ),
        ("asv.conf.json", "{}", "expected the results_dir of asv.conf.json, got the folder"),
        ("bench/0123abcd-virtualenv.json", "{}", "has results of 1 commits, such as 0123abcd, and the repository at"),
    ],
)
def test_a_folder_that_cannot_be_merged_is_left_as_it_is(repository, file, text, error):
    root, commits = repository
    path = root / "out" / file.format(commit=commits[0][:8])
    path.parent.mkdir(parents=True)
    path.write_text(text)
    before = contents(root)
    with pytest.raises(ResultError, match=error):
        write_asv(result(commits[0], {"t.py::t": 1.0}), root / "out", root=root)
    assert contents(root) == before


def test_results_of_this_commit_that_are_cut_off_are_said_before_anything_is_measured(repository):
    root, commits = repository
    for commit in commits:
        path = root / "out" / "bench" / f"{commit[:8]}-loaderperf-py3.9-torch2.6.0.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"version": 2, "res')
    with pytest.raises(ResultError, match=r"is cut off or is not JSON: .* Restore that file, or give another folder\."):
        asv_target(root / "out", root, dirty_ok=True)


def test_results_of_another_machine_with_the_same_name_are_not_mixed(repository):
    root, commits = repository
    write_asv(result(commits[0], {"t.py::t": 1.0}), root / "out", root=root)
    before = contents(root)
    with pytest.raises(ResultError, match=r"expected results of this machine and commit, got cpu: 'A CPU'\. Give each"):
        write_asv(result(commits[0], {"t.py::t": 1.0}, cpu="Another"), root / "out", root=root)
    assert contents(root) == before


def test_where_nothing_was_measured_nothing_is_written(repository):
    root, commits = repository
    assert write_asv(result(commits[0], {}), root / "out", root=root) == (
        "asv: nothing was measured, so nothing was written"
    )
    assert not (root / "out").exists()


def test_a_join_that_was_interrupted_is_completed_by_the_next(repository):
    root, commits = repository
    write_asv(result(commits[0], {"test_data.py::test_it[a-8]": 1.0}), root / "out", root=root)
    before = (root / "out/benchmarks.json").read_bytes()
    write_asv(result(commits[1], {"test_data.py::test_it[x]": 1.0}), root / "out", root=root)
    (root / "out/benchmarks.json").write_bytes(before)  # the last file that is written
    write_asv(result(commits[1], {"test_data.py::test_it[y]": 1.0}), root / "out", root=root)
    benchmarks, _ = read(root / "out")
    assert benchmarks[IT]["params"] == [["'a-8'", "'x'", "'y'"]]


def shown(out, commit, identity):
    """What asv shows of a test's id: rows are matched with the benchmark's parameters, value by value."""
    benchmarks, rows = read(out, commit)
    row = rows[IT]
    at = {
        key: value
        for key, value in zip(product(*row[1]), row[0], strict=True)
        if key in {*product(*benchmarks[IT]["params"])}
    }
    bare = {"-".join(str(ast.literal_eval(part)) for part in key): value for key, value in at.items()}
    return bare.get(identity)


ids = st.lists(st.sampled_from(["a-1", "a-2", "b-1", "c", "d-1-2"]), min_size=1, max_size=3, unique=True)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["1" * 40, "2" * 40]), ids, st.booleans()), min_size=1, max_size=5))
def test_whatever_is_measured_in_whatever_order_asv_shows_the_last_of_each(writes):
    measured = {}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for name, value in {"commit_date_ms": 1, "head": "", "changed_files": [], "known": {"1"}}.items():
            patch.setattr(asked_of_git, name, lambda *_, value=value: value)
        out = Path(folder) / "out"
        for number, (commit, found, dropped) in enumerate(writes):
            tests = {f"test_data.py::test_it[{one}]": 1 / (number + 1) for one in found}
            write_asv(result(commit, tests), out, root=Path(folder))
            measured |= {(commit, one): number + 1 for one in found}
            if dropped and number + 1 < len(writes):
                (out / "benchmarks.json").write_text('{"version": 2}')
        assert {key: shown(out, *key) for key in measured} == measured


def test_a_commit_that_is_missing_or_unknown_is_an_error(repository, tmp_path):
    root, _ = repository
    with pytest.raises(ResultError, match=r"commit 0123456789 is not in the repository at .* Expected one of its"):
        write_asv(result("0123456789", {"t.py::t": 1.0}), root / "out", root=root)
    with pytest.raises(ResultError, match="expected the result of a git commit, got one that was measured outside"):
        write_asv(result(None, {"t.py::t": 1.0}), root / "out", root=root)
    with pytest.raises(ResultError, match=r"expected a git repository with a commit, .* Run git init and commit"):
        asv_target(tmp_path / "out", tmp_path, dirty_ok=False)
    assert not (root / "out").exists()


def test_a_place_that_cannot_be_written_is_an_error(repository, monkeypatch):
    root, commits = repository
    (root / "file").write_text("")
    with pytest.raises(ResultError, match=r"cannot write to .*file\. Expected a folder for asv's results"):
        asv_target(root / "file/out", root, dirty_ok=True)
    for system in ("/dev", "/dev/out", "/proc/out"):  # where root may write
        with pytest.raises(ResultError, match=r"cannot write to /(dev|proc)\. Expected a folder for asv's results"):
            asv_target(Path(system), root, dirty_ok=True)
    write_asv(result(commits[0], {"t.py::t": 1.0}), root / "out", root=root)
    before = contents(root)

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResultError, match=r"cannot write .*machine\.json: No space left on device. Expected a folder"):
        write_asv(result(commits[0], {"t.py::t": 2.0}), root / "out", root=root)
    assert contents(root) == before


def asv(root, *arguments):
    command = [sys.executable, "-m", "asv", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_asv
def test_the_real_asv_sees_a_loss_of_a_fifth_as_a_regression_and_a_gain_not(tmp_path):
    root, out = tmp_path / "projekt ä", tmp_path / "projekt ä/out"
    commits = make_repository(root, 30)
    settings = {"project": "a", "repo": ".", "branches": ["main"], "results_dir": "out", "html_dir": "html"}
    (root / "asv.conf.json").write_text(json.dumps({"version": 1, "environment_type": "virtualenv"} | settings))
    noise = random.Random(0)  # noqa: S311 no secret depends on it
    for number, commit in enumerate(commits):
        step = 0.8 if number >= 20 else 1.0
        levels = {"lost[a-32]": step, "gained[a-32]": 2 - step, "same[\U0001f600]": 1.0}
        tests = {f"a b/test_ä.py::{name}": 100 * level * noise.gauss(1, 0.01) for name, level in levels.items()}
        write_asv(result(commit, tests), out, root=root)
    asv(root, "publish")
    regressions = json.loads((root / "html/regressions.json").read_text())["regressions"]
    assert [regression[0] for regression in regressions] == ["a_20b.test_ä.lost.seconds_per_sample('a', 32)"]
    [[before, after, old, new]] = regressions[0][6]
    assert (before, after) == (None, 20)
    assert [old, new] == pytest.approx([0.01, 0.0125], rel=0.02)
    assert "a_20b.test_ä.lost.seconds_per_sample [bench/loaderperf-py3.11" in asv(root, "show", commits[-1])
    compared = asv(root, "compare", "--factor=1.1", commits[0], commits[-1])
    signs = {
        line.split("|")[5].split(".")[2]: line.split("|")[1].strip() for line in compared.splitlines() if "_20b" in line
    }
    assert signs == {"lost": "+", "gained": "-", "same": ""}
