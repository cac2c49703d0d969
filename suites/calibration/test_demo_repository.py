"""A commit that makes one ``__getitem__`` slower fails only its test, and a comment fails none, under a load."""

from __future__ import annotations

import os
import re

import pytest

from pytest_loaderperf.runs.calibration import noise_load
from suites.calibration.repository import git, make_repository, measure_repository

TIMES = int(os.environ.get("DEMO_TIMES", "1"))
LONGEST_SECONDS = 300  # two claims that may take 60 s, a confirmation of each, and two starts of torch

DATASETS = """
from collections import deque
from itertools import repeat


class Words:
    def __len__(self):
        return 64_000

    def __getitem__(self, index):
        deque(repeat(None, {words}), maxlen=0)
        return index


class Pixels:
    def __len__(self):
        return 64_000

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
    run = loaderperf(lambda: DataLoader(Pixels(), batch_size=32, num_workers=2))
    assert run.throughput >= 0.97 * run.base.throughput
"""
FAILED_CLAIM = "assert FAIL: throughput >= 0.97 * base.throughput"
# Some 20 us a sample: loading takes 2 us more, so that 5 % more steps cost 4.5 % of the throughput.
WORDS_STEPS = 16_000
# Some 100 us a sample, 3 ms a batch: its hand-over takes 0.2 to 0.5 ms more, so that 10 % more steps cost 8 to 9 %.
PIXELS_STEPS = 80_000
BEFORE = {"words": WORDS_STEPS, "pixels": PIXELS_STEPS, "comment": ""}
SLOWER_WORDS = BEFORE | {"words": WORDS_STEPS * 105 // 100}
SLOWER_PIXELS = BEFORE | {"pixels": PIXELS_STEPS * 110 // 100}
COMMENTED = BEFORE | {"comment": "  # a comment"}


@pytest.fixture(scope="module", autouse=True)
def noise():
    with noise_load():
        yield


@pytest.mark.parametrize("turn", range(TIMES))
@pytest.mark.parametrize(
    ("head", "failing"),
    [
        pytest.param(SLOWER_WORDS, ["test_words"], id="slower"),
        pytest.param(SLOWER_PIXELS, ["test_pixels"], id="slower-in-workers"),
        pytest.param(COMMENTED, [], id="comment"),
    ],
)
def test_the_slower_loader_fails_and_nothing_else(tmp_path, head, failing, turn):  # noqa: ARG001 one run a turn
    make_repository(tmp_path, TESTS, [DATASETS.format(**commit) for commit in (BEFORE, head)])
    outcome = measure_repository(tmp_path, LONGEST_SECONDS)
    print(outcome.output)  # noqa: T201 shown if this fails
    assert [name for name, verdicts in outcome.verdicts.items() if "FAIL" in verdicts] == failing
    assert {name: len(verdicts) for name, verdicts in outcome.verdicts.items()} == {"test_words": 1, "test_pixels": 1}
    assert re.findall(r"^(?:FAILED|ERROR) test_speed.py::(\w+)", outcome.output, re.MULTILINE) == failing
    assert (FAILED_CLAIM in outcome.output) == bool(failing)
    assert outcome.status == len(failing)
    assert not list((tmp_path / ".loaderperf").glob("base-*"))
    assert len(git(tmp_path, "worktree", "list").splitlines()) == 1
