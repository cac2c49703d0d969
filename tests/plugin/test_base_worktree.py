"""What the worktree of the base leaves alone, and the user's git settings."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_loaderperf.remote.worktree import BaseError, Worktree, _way_out
from tests.plugin.test_base import FAST, files, git, project, run

__all__ = ["project"]  # a fixture of those tests

KILLED = """
import os, signal, sys
from pathlib import Path
from pytest_loaderperf.remote.worktree import Worktree
print(Worktree("HEAD", Path(sys.argv[1])).path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
FILTER = 'test "$GIT_LFS_SKIP_SMUDGE" = 1 && cat'


@pytest.fixture
def checkout(project):
    return project(files(FAST), {}).path


@pytest.fixture
def filtered(project):
    """A checkout in which making ``data.bin`` fails, as LFS does without a server, unless it is told to skip that."""
    path = project({**files(FAST), "data.bin": "pointer"}, {}).path
    (path / ".gitattributes").write_text("*.bin filter=lfs\n")
    git(path, "add", ".")
    git(path, "commit", "-m", "filtered")
    git(path, "config", "filter.lfs.smudge", FILTER)
    git(path, "config", "filter.lfs.required", "true")
    return path


def test_folders_and_files_of_the_user_stay(checkout):
    folder = checkout / ".loaderperf"
    theirs = ["base-v1-results", "base-0123456789ab-c0ffee", "base-0123456789ab-0123456789abcdef"]
    for name in theirs:
        (folder / name).mkdir(parents=True)
        (folder / name / "results.csv").write_text("1,2,3")
        (folder / f"{name}.lock").write_text("")
    (folder / ".gitignore").write_text("base-*\n!results\n")
    Worktree("HEAD", checkout).close()
    assert [(folder / name / "results.csv").read_text() for name in theirs] == ["1,2,3"] * 3
    assert [(folder / f"{name}.lock").exists() for name in theirs] == [True] * 3
    assert (folder / ".gitignore").read_text() == "base-*\n!results\n"


def test_worktrees_of_the_user_in_that_folder_stay(checkout):
    theirs = checkout / ".loaderperf" / "base-v1-results"
    git(checkout, "worktree", "add", "--detach", str(theirs), "HEAD")
    Worktree("HEAD", checkout).close()
    assert (theirs / "mydata.py").exists()


@pytest.fixture
def killed(checkout):
    """The worktree of a run that was killed."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(checkout)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return Path(done.stdout.strip())


def names(checkout):
    return sorted(path.name for path in (checkout / ".loaderperf").iterdir())


def test_what_a_killed_run_left_is_removed(checkout, killed):
    assert (killed / "mydata.py").exists()
    Worktree("HEAD", checkout).close()
    assert names(checkout) == [".gitignore"]
    assert len(git(checkout, "worktree", "list").splitlines()) == 1


def test_what_a_killed_run_left_is_forgotten_where_only_its_folder_is_gone(checkout, killed):
    killed.rename(checkout / "moved")
    Worktree("HEAD", checkout).close()
    assert names(checkout) == [".gitignore"]
    assert len(git(checkout, "worktree", "list").splitlines()) == 1


def test_what_a_run_of_another_machine_left_stays(checkout, killed):
    """Its locks may not reach here, so nobody can tell whether it lives."""
    killed.with_name(f"{killed.name}.lock").write_text("loaderperf 00000000-another-kernel\n")
    Worktree("HEAD", checkout).close()
    assert (killed / "mydata.py").exists()


def test_a_live_run_keeps_its_worktree_whatever_the_clock_says(checkout):
    """Process numbers and times tell nothing: both may be another namespace's or machine's."""
    live = Worktree("HEAD", checkout)
    for path in (live.path, live.path.with_name(f"{live.path.name}.lock")):
        os.utime(path, (0, 0))
    Worktree("HEAD", checkout).close()
    assert (live.path / "mydata.py").exists()
    live.close()
    live.close()
    assert names(checkout) == [".gitignore"]


def test_nothing_is_removed_through_a_link_that_took_the_folders_place(checkout, tmp_path):
    made = Worktree("HEAD", checkout)
    (checkout / ".loaderperf").rename(tmp_path / "outside")
    (checkout / ".loaderperf").symlink_to(tmp_path / "outside")
    made.close()
    assert (tmp_path / "outside" / made.path.name / "mydata.py").exists()


@pytest.mark.slow
def test_the_base_of_a_run_that_is_killed_removes_its_worktree_by_itself(project):
    test = """
import os, signal
from mydata import Loader

def test_it(loaderperf):
    loaderperf(Loader).base
    os.kill(os.getpid(), signal.SIGKILL)
"""
    pytester = project({**files(FAST), "test_mydata.py": test}, {})
    run(pytester)
    deadline_s = time.monotonic() + 30
    while names(pytester.path) != [".gitignore"] and time.monotonic() < deadline_s:
        time.sleep(0.1)
    assert names(pytester.path) == [".gitignore"]


def test_a_symbolic_link_is_not_followed(checkout, tmp_path):
    outside = tmp_path / "outside"
    (outside / "base-v1-results").mkdir(parents=True)
    (outside / ".gitignore").write_text("theirs")
    (checkout / ".loaderperf").symlink_to(outside)
    with pytest.raises(BaseError, match=r"\.loaderperf, which is a symbolic link\. Expected a folder of this checkout"):
        Worktree("HEAD", checkout)
    assert sorted(path.name for path in outside.iterdir()) == [".gitignore", "base-v1-results"]
    assert (outside / ".gitignore").read_text() == "theirs"


def test_settings_of_the_users_git_hold(filtered, monkeypatch):
    monkeypatch.setenv("GIT_LFS_SKIP_SMUDGE", "1")
    monkeypatch.setenv("GIT_DIR", str(filtered / "elsewhere"))  # a hook's
    made = Worktree("HEAD", filtered)
    assert (made.path / "data.bin").read_text() == "pointer"
    made.close()


def test_settings_that_the_environment_gives_hold(filtered, monkeypatch):
    for name, value in {"COUNT": "1", "KEY_0": "filter.lfs.smudge", "VALUE_0": "cat"}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    made = Worktree("HEAD", filtered)
    assert (made.path / "data.bin").is_file()
    made.close()


def test_a_file_that_git_cannot_write_gets_advice_about_disks():
    assert _way_out("error: unable to write file big.bin", "1" * 40) == "Is that disk full, or may you not write there?"


def test_a_filter_that_fails_gets_advice_about_filters(filtered):
    with pytest.raises(BaseError) as caught:
        Worktree("HEAD", filtered)
    assert "`git lfs fetch origin " in str(caught.value)
    assert "lock" not in str(caught.value)
    assert not list((filtered / ".loaderperf").glob("base-*"))


@pytest.mark.parametrize("inside", [True, False])
def test_a_linked_folder_that_git_does_not_track_is_found(checkout, tmp_path, inside):
    place = checkout / "real" if inside else tmp_path / "real"
    place.mkdir()
    (place / "test_it.py").write_text("old")
    if inside:
        git(checkout, "add", "real")
        git(checkout, "commit", "-m", "real")
        (place / "test_it.py").write_text("new")
    (checkout / "linked").symlink_to(place)
    made = Worktree("HEAD", checkout)
    assert (made.path / "linked" / "test_it.py").read_text() == "old"
    made.close()
    assert [path.name for path in place.iterdir()] == ["test_it.py"]


def test_a_system_that_does_not_start_git_is_told_so(checkout, monkeypatch):
    def refused(*_arguments, **_keywords):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(subprocess, "run", refused)
    with pytest.raises(
        BaseError, match=r"^git cannot be started: .*Too many open files\. Raise the limit of open files"
    ):
        Worktree("HEAD", checkout)
