"""What a terminal shows while and after measuring, and what a log does not."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
import termios

import pytest
from pexpect.fdpexpect import fdspawn

from pytest_loaderperf.report import progress

MEASURING = """
    import time
    import torch

    class Loader:
        def __len__(self):
            return 12
        def __iter__(self):
            for _ in range(12):
                time.sleep({delay_s})
                yield torch.zeros(4, 8)

    def test_it(loaderperf):
        run = loaderperf(Loader, against=Loader)
        assert run.throughput <= 1000 * run.against.throughput
"""
SAVED = "\x1b7"
SLOW, QUICK = "0.002", "0.0001"
LONG = ("--loaderperf", "--loaderperf-budget=20", "--loaderperf-alpha=0.01")  # some rounds
IMPATIENT = """
    from pytest_loaderperf.report import progress
    progress._PATIENCE_SECONDS = progress._EVERY_SECONDS = 0.0
"""


@pytest.fixture
def long_measurement(pytester, quick_start):
    """One of which each step is shown at once, where anything is shown."""
    pytester.makeconftest(IMPATIENT)
    pytester.makepyfile(test_it=MEASURING.replace("{delay_s}", SLOW))
    return pytester


def on_a_terminal(pytester, *arguments, ci=""):
    env = {**os.environ, "TERM": "xterm", "CI": ci, "PY_COLORS": ""}
    command = [sys.executable, "-m", "pytest", *LONG, *arguments]
    screen, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    with subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        screen = fdspawn(screen, timeout=60, encoding="utf-8")
        shown = screen.read()
    screen.close()
    assert process.returncode == 0, shown
    return shown


@pytest.mark.parametrize("capture", ["--capture=fd", "--capture=no"])
def test_a_long_measurement_shows_its_progress_on_a_terminal(long_measurement, capture):
    shown = on_a_terminal(long_measurement, capture)
    assert f"{SAVED} throughput <= 1000 * against.throughput: " in shown
    assert " rounds, " in shown
    assert shown.rindex(SAVED) < shown.index("= loaderperf =")


def test_ci_shows_no_progress(long_measurement):
    assert SAVED not in on_a_terminal(long_measurement, ci="true")


def test_a_log_gets_neither_progress_nor_colour(long_measurement):
    result = long_measurement.runpytest_subprocess(*LONG, timeout=60)
    assert result.ret == 0
    assert "\x1b" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize("color", ["yes", "no"])
def test_a_verdict_is_coloured_where_colours_are_asked_for(pytester, color):
    pytester.makepyfile(test_it=MEASURING.replace("{delay_s}", QUICK))
    result = pytester.runpytest_subprocess("--loaderperf", f"--color={color}", timeout=60)
    green = "\x1b[32m  PASS  throughput <= 1000 * against.throughput"
    assert (green in result.stdout.str()) == (color == "yes")
    assert ("\x1b" in result.stdout.str()) == (color == "yes")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    return now


def test_progress_waits_a_second_and_then_shows_at_most_five_lines_a_second(clock):
    stream = Terminal()
    shown = progress.ProgressLine(stream)
    with shown:
        for _ in range(30):
            shown.show("working")
            clock[0] += 0.1
    assert 8 <= stream.getvalue().count("working") <= 10
    assert stream.getvalue().endswith("\x1b7\x1b[K\x1b8")


def test_progress_is_cut_to_the_room_that_is_left(clock):
    stream = Terminal()
    shown = progress.ProgressLine(stream, room=12)
    clock[0] += 100
    shown.show("a text of more than twelve columns")
    assert "a text of " in stream.getvalue()
    assert "a text of m" not in stream.getvalue()


@pytest.mark.parametrize(
    "stream, env", [(Terminal(), {"CI": "1"}), (Terminal(), {"TERM": "dumb"}), (io.StringIO(), {})]
)
def test_progress_is_silent_in_ci_and_where_no_terminal_is(clock, monkeypatch, stream, env):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    shown = progress.ProgressLine(stream)
    with shown:
        clock[0] += 100
        shown.show("working")
    assert stream.getvalue() == ""
