"""Tracers, profilers and coverage are off while a loader is made and timed, and on again afterwards."""

from __future__ import annotations

import cProfile
import multiprocessing.process
import os
import sys
import threading
from multiprocessing import spawn
from types import SimpleNamespace

import pytest

from pytest_loaderperf.errors import MeasureError
from pytest_loaderperf.measurement import Side, Watchdog
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.observations import Steady
from pytest_loaderperf.measurement.tracing import untraced


def trace(frame, event, arg):
    return trace


@pytest.fixture
def traced():
    """Everything that Python 3.11 can be traced by, and as it was afterwards."""
    before = sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()
    for put in (sys.settrace, sys.setprofile, threading.settrace, threading.setprofile):
        put(trace)
    yield
    sys.settrace(before[0])
    sys.setprofile(before[1])
    threading.settrace(before[2])
    threading.setprofile(before[3])


def tracers():
    return [sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()]


def test_all_are_off_in_the_block_and_on_again_after_it_also_when_it_raises(traced):
    inside = []

    def raises():
        inside.extend(tracers())
        raise OSError

    with pytest.raises(OSError), untraced():
        raises()
    after = tracers()
    assert inside == [None] * 4
    assert after == [trace] * 4


def test_a_tracer_that_the_block_has_set_stays(traced):
    def other(frame, event, arg):
        return None

    with untraced():
        sys.settrace(other)
    after = tracers()
    assert after == [other, trace, trace, trace]


def test_a_loader_is_made_started_and_timed_untraced(traced):
    seen = []

    class Loader:
        def __init__(self):
            seen.append(tracers())

        def __iter__(self):
            for _ in range(50):
                seen.append(tracers())
                yield [0]

    watchdog = Watchdog(30, print)
    side = Side("loader", Loader, watchdog, count=None, deliver=None)
    side.start()
    side.observe(Steady(), 8, Conditions.now())
    side.close()
    watchdog.close()
    assert len(seen) > 9
    assert all(found == [None] * 4 for found in seen)
    assert tracers() == [trace] * 4


def test_a_profiler_from_c_is_disabled_and_enabled():
    def before(): ...
    def inside(): ...
    def after(): ...

    profile = cProfile.Profile()
    profile.enable()
    try:
        before()
        with untraced():
            inside()
        after()
    finally:
        profile.disable()
    seen = {entry.code for entry in profile.getstats()}
    assert [function.__code__ in seen for function in (before, inside, after)] == [True, False, True]


@pytest.mark.skipif(
    not hasattr(threading, "settrace_all_threads"), reason="before Python 3.12 it slows no other thread"
)
def test_a_thread_that_runs_already_is_traced_no_more():
    def trace(frame, event, arg):
        return trace

    found, begun, asked = [], threading.Event(), threading.Event()

    def run():
        found.append(sys.gettrace())
        begun.set()
        asked.wait(10)
        found.append(sys.gettrace())

    threading.settrace(trace)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        begun.wait(10)
        with untraced():
            asked.set()
            thread.join(10)
        hook = threading.gettrace()
    finally:
        threading.settrace(None)
    assert (found, hook) == ([trace, None], trace)


def test_a_profiler_that_cannot_be_switched_off_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(sys, "getprofile", lambda: "an odd profiler")
    words = "a profiler is active, 'an odd profiler'. It slows down one side"
    with pytest.raises(MeasureError, match=words), untraced():
        raise AssertionError


def test_coverage_does_not_start_in_processes_that_a_loader_starts(monkeypatch):
    monkeypatch.setenv("COVERAGE_PROCESS_START", "coverage.cfg")
    monkeypatch.setenv("COV_CORE_SOURCE", "mypkg")
    with untraced(starting=True):
        inside = [name for name in os.environ if name.startswith("COV")]
    assert inside == []
    assert os.environ["COV_CORE_SOURCE"] == "mypkg"


def test_coverage_does_not_start_in_workers_that_it_has_patched(monkeypatch):
    process, original = multiprocessing.process.BaseProcess, multiprocessing.process.BaseProcess._bootstrap

    def patched(self):
        raise AssertionError

    def prepare(name):
        return {"name": name, "stowaway": 1}

    monkeypatch.setitem(sys.modules, "coverage.multiproc", SimpleNamespace(original_bootstrap=original))
    monkeypatch.setattr(process, "_bootstrap", patched)
    monkeypatch.setattr(spawn, "get_preparation_data", prepare)
    with untraced(starting=True):
        assert process._bootstrap is original
        assert spawn.get_preparation_data("x") == {"name": "x"}
    assert (process._bootstrap, spawn.get_preparation_data) == (patched, prepare)


class Monitoring:
    """The part of sys.monitoring that is asked, for one tool."""

    events = SimpleNamespace(NO_EVENTS=0, LINE=2, CALL=4, BRANCH=6)

    def __init__(self):
        self.set, self.callbacks = 2, {2: print, 4: None}

    def get_tool(self, tool):
        return "coverage" if tool == 1 else None

    def get_events(self, tool):
        return self.set

    def set_events(self, tool, events):
        self.set = events

    def register_callback(self, tool, event, callback):
        assert event in self.callbacks, "one event at a time"
        before, self.callbacks[event] = self.callbacks[event], callback
        return before


def test_tools_that_monitor_have_no_events_and_no_callbacks_meanwhile(monkeypatch):
    monitoring = Monitoring()
    monkeypatch.setattr(sys, "monitoring", monitoring, raising=False)
    with untraced():
        assert (monitoring.set, monitoring.callbacks) == (0, {2: None, 4: None})
    assert (monitoring.set, monitoring.callbacks) == (2, {2: print, 4: None})
