"""``--loaderperf-asv=DIR``: the measured tests as results of asv."""

from __future__ import annotations

import json
import subprocess

import pytest

TEST = """
    import pytest, torch
    from torch.utils.data import DataLoader

    @pytest.mark.parametrize("size", [4])
    def test_it(loaderperf, size):
        run = loaderperf(lambda: DataLoader(torch.zeros(64, 2), size))
        assert run.throughput >= 1
"""
RUN = ("--loaderperf", "--loaderperf-budget=1", "--loaderperf-asv=asv results", "-p", "no:cacheprovider")
KEY = "test_it.test_it.seconds_per_sample"


@pytest.fixture
def project(pytester, monkeypatch, tmp_path):
    """A repository with one commit, and a home without settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    pytester.makepyfile(test_it=TEST)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "test_it.py"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], cwd=pytester.path, check=True)
    return pytester


def test_a_run_writes_its_commit_unless_files_differ_from_it(project):
    ran = project.runpytest_subprocess(*RUN)
    ran.stdout.fnmatch_lines(["asv: * results of commit * written to *asv results"])
    [file] = (project.path / "asv results").glob("*/*-loaderperf-*.json")
    row = json.loads(file.read_text())["results"][KEY]
    assert (len(row[0]), row[1]) == (1, [["4"]])
    assert len(row[11][0]) > 1

    with (project.path / "test_it.py").open("a") as changed:
        changed.write("# changed\n")
    before = file.read_bytes()
    ran = project.runpytest_subprocess(*RUN)
    ran.stdout.fnmatch_lines(["asv: nothing was written: 1 file differs from commit * (test_it.py), so *"])
    assert (ran.ret, file.read_bytes()) == (0, before)


def test_without_git_nothing_is_measured(pytester):
    pytester.makepyfile(test_it=TEST)
    ran = pytester.runpytest_subprocess(*RUN)
    ran.stderr.fnmatch_lines(["ERROR: --loaderperf-asv: expected a git repository with a commit*Run git init and*"])
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
