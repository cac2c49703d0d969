"""What a run adds to the results of earlier runs, and that it never changes the run's own outcome."""

from __future__ import annotations

import sqlite3
import subprocess

import hypothesis  # noqa: F401 else its plugin imports it anew in every inner run, a second each
import pytest

import pytest_loaderperf.plugin.hooks
import pytest_loaderperf.runs.results  # noqa: F401 torch bears to be imported only once in a process
from pytest_loaderperf.history import Store

MEASURING = """
    import pytest, torch
    from torch.utils.data import DataLoader, TensorDataset

    @pytest.mark.parametrize("size", [4], ids=["ä [/🚀"])
    def test_it(loaderperf, size):
        run = loaderperf(lambda: DataLoader(TensorDataset(torch.zeros(48, 8)), batch_size=size))
        assert run.throughput >= 0.001
"""


@pytest.fixture
def measure(pytester):
    """Run the test above in this process; ``ini``: more lines of pytest's settings."""
    pytester.makepyfile(test_it=MEASURING)

    def run(ini="", *arguments):
        pytester.makeini(f"[pytest]\n{ini}")
        options = ("--loaderperf", "--loaderperf-budget=0.3", "-p", "no:cacheprovider")
        return pytester.runpytest_inprocess(*options, *arguments)

    run.file = pytester.path / ".loaderperf" / "history.sqlite3"
    return run


def test_a_run_is_kept_with_its_commit_and_found_by_test(measure, pytester):
    def git(*arguments):
        command = ["git", "-c", "user.name=n", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, cwd=pytester.path, check=True, capture_output=True, text=True).stdout.strip()

    pytester.makeini("[pytest]\n")
    git("init", "-q", "-b", "work")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    assert measure().ret == 0
    with Store(measure.file) as store:
        (run,) = store.table().runs
        row = store._database.execute("SELECT branch, dirty, partial FROM results").fetchone()
        kept = store.newest(git("rev-parse", "HEAD"), r"test_it.py::test_it[\xe4 [/\U0001f680]")
    assert (run.commit, run.dirty, row) == (git("rev-parse", "HEAD"), False, ("work", 0, 0))
    assert kept.metrics["loader", "throughput"]["value"] > 0
    assert ("roofline", "throughput") in kept.metrics
    assert [claim["verdict"] for claim in kept.claims] == ["PASS"]
    assert git("status", "--porcelain", "--", ".", ":!*__pycache__*") == ""
    (pytester.path / "test_it.py").write_text((pytester.path / "test_it.py").read_text("utf-8") + "\n", "utf-8")
    measure()
    with Store(measure.file) as store:
        assert [run.dirty for run in store.table().runs] == [0, 1]


@pytest.mark.parametrize(
    "ini, kept",
    [("loaderperf_history = 1", 1), ("loaderperf_history = off", None), ("", 2)],
    ids=["1", "off", "default"],
)
def test_the_ini_key_says_how_many_are_kept(measure, ini, kept):
    assert [measure(ini).ret for _ in range(2)] == [0, 0]
    assert measure.file.exists() == (kept is not None)
    if kept is not None:
        with Store(measure.file) as store:
            assert len(store.table().runs) == kept


def test_a_bad_ini_key_is_a_usage_error(measure):
    result = measure("loaderperf_history = few")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*ini key loaderperf_history: expected off or the number of results to keep, got 'few'*"]
    )


def _damaged(file):
    file.write_bytes(b"theirs" * 999)
    return "*history.sqlite3: expected results of earlier runs, got a damaged or foreign file*"


def _of_another_program(file):
    database = sqlite3.connect(file)
    database.execute("CREATE TABLE theirs (x)")
    database.close()
    return "*history.sqlite3: expected results of earlier runs, got a database of another program*"


def _newer(file):
    with Store(file, writes=True) as store:
        store._database.execute("PRAGMA user_version = 9")
    return "*history.sqlite3: expected results in version 1, got version 9*"


def _no_folder(file):
    file.parent.rmdir()
    file.parent.write_text("a file")
    return "*not kept for `loaderperf history`: *File exists*"


@pytest.mark.parametrize("spoil", [_damaged, _of_another_program, _newer, _no_folder])
def test_a_store_that_cannot_be_written_is_one_line_and_no_failure(measure, spoil):
    measure.file.parent.mkdir()
    words = spoil(measure.file)
    content = measure.file.read_bytes() if measure.file.is_file() else None
    result = measure()
    assert result.ret == 0
    result.stdout.fnmatch_lines([words])
    assert str(result.stdout).count("not kept for `loaderperf history`") == 1
    if content is not None:
        assert measure.file.read_bytes() == content


def test_a_run_that_does_not_measure_keeps_nothing(measure, pytester):
    pytester.runpytest_inprocess("-p", "no:cacheprovider")
    assert measure("", "--collect-only").ret == 0
    assert not measure.file.parent.exists()
