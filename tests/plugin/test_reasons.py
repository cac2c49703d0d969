"""A failed claim says why: the mistakes of its loader, or what it does that it did not do at the base."""

from __future__ import annotations

import json

import pytest

from pytest_loaderperf.plugin import reasons
from pytest_loaderperf.report.why import unobserved
from pytest_loaderperf.runs.diagnosed import Why
from tests.plugin.test_base import git

LOADER = """
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

class Rows(Dataset):
    def __init__(self):
        self.path = "rows.npy"
        np.save(self.path, np.zeros((64, 20_000), dtype=np.float32))
        self.rows = np.load(self.path, mmap_mode="r")
    def __len__(self):
        return 64
    def __getitem__(self, index):
        return torch.from_numpy(self.rows[index] * 2)

def make_loader():
    return DataLoader(Rows(), batch_size=8)
"""
SLOWER = LOADER.replace("self.rows[index]", "np.load(self.path)[index]")
TEST = """
from mydata import make_loader

def test_base(loaderperf):
    run = loaderperf(make_loader)
    assert run.throughput >= 0.9 * run.base.throughput

def test_alone(loaderperf):
    run = loaderperf(make_loader)
    assert run.batch_latency.p50 <= 1e-9

def test_of_others(loaderperf):
    run = loaderperf(make_loader)
    assert run.roofline.throughput >= 1e15
"""
OBSERVING = "-oloaderperf_doctor=0.5"
REOPENED = "mydata.py:14: file-reopened: numpy.load() opens the same file again: *"


def test_a_failed_claim_says_what_changed_or_what_is_wrong(pytester, quick_children):
    (pytester.path / "mydata.py").write_text(LOADER)
    (pytester.path / "test_mydata.py").write_text(TEST.replace("1e-9", "1e-9 * s").replace("1e15", "1e15 / s"))
    units = "from pytest_loaderperf import s\n"
    test = pytester.path / "test_mydata.py"
    test.write_text(units + test.read_text())
    git(pytester.path, "init")
    git(pytester.path, "add", ".")
    git(pytester.path, "commit", "-m", "base")
    (pytester.path / "mydata.py").write_text(SLOWER)
    result = pytester.runpytest_subprocess(
        "--loaderperf", "--loaderperf-base=HEAD", "--loaderperf-json=result.json", OBSERVING, timeout=120
    )
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        [
            "*- doctor: what the loader does that it did not do at the base -*",
            "mydata.py:14: numpy.load once a sample, at the base never; takes * a sample",
            REOPENED,
            "  fix: open it once, *",
            "*- doctor: what makes the loader slow -*",
            REOPENED,
        ]
    )
    assert result.stdout.str().count("- doctor: ") == 2  # none of a claim on other loaders
    of_base, alone, of_others = json.loads((pytester.path / "result.json").read_text())["runs"]
    (call,) = of_base["changes"]["calls"]
    assert (call["callee"], call["line"], call["count"], call["base_count"]) == ("numpy.load", 14, 1, 0)
    assert call["file"] == str(pytester.path / "mydata.py")
    assert [run["findings"][0]["rule"] for run in (of_base, alone)] == ["file-reopened"] * 2
    assert (alone["changes"], of_others["changes"], of_others["findings"]) == (None, None, [])


BROKEN = """
from pytest_loaderperf import s

class Once:
    made = 0
    def __iter__(self):
        import os
        if os.getpid() != self.pid:
            raise RuntimeError("not in a child")
        return iter([[0, 1]] * 50)
    def __init__(self):
        import os
        self.pid = os.getpid()

ONE = Once()

def test_it(loaderperf):
    assert loaderperf(ONE).batch_latency.p50 <= 1e-12 * s
"""


@pytest.mark.slow
def test_a_failure_that_a_test_expects_is_not_shown_with_the_next_one(pytester):
    pytester.makepyfile(
        """
        import pytest
        import torch
        from pytest_loaderperf import s

        def test_expects(loaderperf):
            run = loaderperf(lambda: [torch.zeros(4, 8)] * 50)
            with pytest.raises(AssertionError):
                assert run.batch_latency.p50 <= 1e-12 * s

        def test_other():
            assert False
        """
    )
    result = pytester.runpytest_subprocess("--loaderperf", OBSERVING, timeout=60)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.no_fnmatch_line("*- doctor: *")


def test_a_loader_that_fails_while_it_is_observed_still_fails_by_its_claim(pytester):
    pytester.makepyfile(BROKEN)
    result = pytester.runpytest_subprocess("--loaderperf", "--loaderperf-json=result.json", OBSERVING, timeout=60)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "E *assert FAIL: batch_latency.p50 <= *",
            "*- doctor: the loader could not be observed -*",
            "*.py:8: the loader failed while it was observed: RuntimeError: not in a child",
        ]
    )
    (run,) = json.loads((pytester.path / "result.json").read_text())["runs"]
    (unseen,) = run["unobserved"]
    assert unseen == {
        "side": "loader",
        "reason": "the loader failed while it was observed: RuntimeError: not in a child",
        "file": str(next(pytester.path.glob("test_*.py"))),
        "line": 8,
    }


AGAINST = """
import sys

import mydata
from pytest_loaderperf.remote.interpreter import OtherInterpreter
from torch.utils.data import DataLoader

class Slower(mydata.Rows):
    def __getitem__(self, index):
        return mydata.torch.from_numpy(mydata.np.load(self.path)[index] * 2)

def slower():
    return DataLoader(Slower(), batch_size=8)

def test_another_loader(loaderperf):
    run = loaderperf(slower, against={"mine": mydata.make_loader})
    assert run.throughput >= 0.9 * run.against["mine"].throughput

def test_another_interpreter(loaderperf):
    other = OtherInterpreter("mydata:make_loader", sys.executable, device="cpu", timeout_s=60)
    run = loaderperf(slower, against=other)
    assert run.throughput >= 0.9 * run.against.throughput
"""


@pytest.mark.slow
def test_a_failed_claim_on_another_loader_says_what_that_does_not_do(pytester, quick_children):
    (pytester.path / "mydata.py").write_text(LOADER)
    pytester.makepyfile(AGAINST)
    result = pytester.runpytest_subprocess("--loaderperf", "--loaderperf-json=result.json", OBSERVING, timeout=120)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            "*- doctor: what the loader does that mine does not -*",
            "*.py:9: numpy.load once a sample, in mine never; takes * a sample",
            "*.py:9: file-reopened: *",
            "*- doctor: what makes the loader slow -*",
            "*.py:9: file-reopened: *",
            "  fix: *",
            "against could not be observed: its loader runs in another interpreter, *",
        ]
    )
    here, there = json.loads((pytester.path / "result.json").read_text())["runs"]
    assert [call["callee"] for call in here["differences"]["mine"]["calls"]] == ["numpy.load"]
    assert (here["changes"], here["unobserved"], there["differences"]) == (None, [], {})
    assert [one["side"] for one in there["unobserved"]] == ["against"]


class Run:
    """A run that counts how often it is asked."""

    asked = 0

    def why(self, seconds, other):
        self.asked += 1
        return Why(unseen=unobserved("loader", f"{seconds:g} s, {other}"))


@pytest.fixture
def clock(monkeypatch):
    """The seconds that each question takes."""
    took = [0.0]
    now = iter(range(1000))
    monkeypatch.setattr(reasons.time, "monotonic", lambda: next(now) % 2 * took[0])
    return took


def test_the_doctor_is_asked_for_a_minute(clock):
    run, found = Run(), reasons.Reasons(3.0)
    clock[0] = 40.0
    for _ in range(4):
        found.ask(run, ["loader", "base"])
    titles = [title for title, _ in found.take()]
    assert titles == ["doctor: the loader could not be observed"] * 2 + ["doctor: not asked"] * 2
    assert run.asked == 2
    assert found.take() == []


@pytest.mark.parametrize(("seconds", "sides"), [(0.0, ["loader"]), (3.0, ["roofline"]), (3.0, ["base"])])
def test_the_doctor_is_not_asked(seconds, sides):
    run, found = Run(), reasons.Reasons(seconds)
    found.ask(run, sides)
    assert (run.asked, found.take()) == (0, [])


def test_a_wrong_number_of_seconds(pytester):
    pytester.makepyfile("def test_it(loaderperf): pass")
    result = pytester.runpytest_subprocess("--loaderperf", "-oloaderperf_doctor=-1")
    result.stderr.fnmatch_lines(
        ["ERROR: ini key loaderperf_doctor: expected a number of seconds such as 3, or 0 for none, got '-1'"]
    )
