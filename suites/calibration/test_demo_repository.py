"""A commit that makes one ``__getitem__`` 5 % slower fails that test alone, and a comment fails none, beside a load."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from pytest_loaderperf.calibration import noise_load

TIMES = int(os.environ.get("DEMO_TIMES", "1"))
LONGEST_SECONDS = 120  # two claims of 10 s, a confirmation of each, and two starts of torch on a busy machine

DATASETS = """
from collections import deque
from itertools import repeat


class Words:
    def __len__(self):
        return 20_000

    def __getitem__(self, index):
        deque(repeat(None, {words}), maxlen=0)
        return index


class Pixels:
    def __len__(self):
        return 20_000

    def __getitem__(self, index):
        deque(repeat(None, {pixels}), maxlen=0){comment}
        return index
"""
TESTS = """
from torch.utils.data import DataLoader

from mypkg.datasets import Pixels, Words


def test_words(loaderperf):
    run = loaderperf(lambda: DataLoader(Words(), batch_size=32, num_workers=0))
    assert run.throughput >= 0.97 * run.base.throughput


def test_pixels(loaderperf):
    run = loaderperf(lambda: DataLoader(Pixels(), batch_size=32, num_workers=0))
    assert run.throughput >= 0.97 * run.base.throughput
"""
FAILED_CLAIM = "assert FAIL: throughput >= 0.97 * base.throughput"
STEPS = 16_000  # some 20 us a sample: loading takes 2 us more, so that 5 % more steps cost 4.5 % of the throughput
BEFORE = {"words": STEPS, "pixels": STEPS, "comment": ""}
SLOWER = BEFORE | {"words": STEPS * 105 // 100}
COMMENTED = BEFORE | {"comment": "  # a comment"}


@pytest.fixture(scope="module", autouse=True)
def noise():
    with noise_load():
        yield


def git(folder, *arguments):
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org", "-c", "init.defaultBranch=main"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603 our own


def make_repository(folder, *commits):
    """A repository with one commit for each of ``commits``: what fills in ``DATASETS``."""
    (folder / "mypkg").mkdir()
    (folder / "mypkg" / "__init__.py").touch()
    (folder / "test_speed.py").write_text(TESTS)
    git(folder, "init")
    for commit in commits:
        (folder / "mypkg" / "datasets.py").write_text(DATASETS.format(**commit))
        git(folder, "add", ".")
        git(folder, "commit", "-m", "more")


@pytest.mark.parametrize("turn", range(TIMES))
@pytest.mark.parametrize(
    ("head", "expected"),
    [
        pytest.param(SLOWER, {"test_words": "FAIL", "test_pixels": "PASS"}, id="slower"),
        pytest.param(COMMENTED, {"test_words": "PASS", "test_pixels": "PASS"}, id="comment"),
    ],
)
def test_the_slower_loader_fails_and_nothing_else(tmp_path, head, expected, turn):  # noqa: ARG001 one run a turn
    make_repository(tmp_path, BEFORE, head)
    command = [sys.executable, "-m", "pytest", "--loaderperf", "--loaderperf-base=HEAD~1"]
    result = subprocess.run(  # noqa: S603 our own
        [*command, "--loaderperf-json=result.json"],
        cwd=tmp_path,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONGEST_SECONDS,
    )
    print(result.stdout)  # noqa: T201 shown where this fails
    runs = json.loads((tmp_path / "result.json").read_text())["runs"]
    verdicts = {run["nodeid"].partition("::")[2]: [claim["verdict"].upper() for claim in run["claims"]] for run in runs}
    assert verdicts == {name: [verdict] for name, verdict in expected.items()}
    failing = [name for name, verdict in expected.items() if verdict == "FAIL"]
    assert re.findall(r"^(?:FAILED|ERROR) test_speed.py::(\w+)", result.stdout, re.MULTILINE) == failing
    assert (FAILED_CLAIM in result.stdout) == bool(failing)
    assert result.returncode == len(failing)
    assert not list((tmp_path / ".loaderperf").glob("base-*"))
    assert len(git(tmp_path, "worktree", "list").splitlines()) == 1
