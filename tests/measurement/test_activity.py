"""Child processes, their CPU time, and waiting for silence."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from pytest_loaderperf.measurement import activity
from pytest_loaderperf.measurement.activity import Usage
from pytest_loaderperf.measurement.record import Effort

SPINS = "while True: pass"


@pytest.fixture
def child():
    with subprocess.Popen([sys.executable, "-c", SPINS]) as process:
        yield process.pid
        process.kill()


def test_children_are_listed_while_they_live():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.pid in activity.child_pids()
        process.communicate(b"\n")
    assert process.pid not in activity.child_pids()


def test_children_of_every_thread_are_listed():
    started, may_end = threading.Event(), threading.Event()
    processes = []

    def work():
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
            processes.append(process)
            started.set()
            may_end.wait()
            process.communicate(b"\n")

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    try:
        assert processes[0].pid in activity.child_pids()
    finally:
        may_end.set()
        thread.join()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system does not bind threads to a CPU")
def test_a_thread_that_shares_its_cpu_has_waited_for_it(child):
    mine = os.sched_getaffinity(0)
    try:
        for pid in (0, child):
            os.sched_setaffinity(pid, {min(mine)})
        before_ns, deadline_s = activity.waited_for_cpu_ns(), time.monotonic() + 30
        while activity.waited_for_cpu_ns() - before_ns < 1_000_000:
            assert time.monotonic() < deadline_s
    finally:
        os.sched_setaffinity(0, mine)


def test_a_system_that_does_not_say_how_long_threads_wait_for_a_cpu_counts_none(monkeypatch):
    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(activity, "_read", missing)
    assert activity.waited_for_cpu_ns() == 0


def test_cpu_time_counts_children_and_oneself(child):
    began = activity.cpu_ns([child])
    deadline = time.monotonic() + 20
    while activity.cpu_ns([child]) - began < 50_000_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    own = activity.cpu_ns([])
    while time.process_time_ns() < own + 20_000_000:
        pass
    assert activity.cpu_ns([]) - own >= 20_000_000


def test_a_process_that_has_ended_uses_no_cpu_time():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert activity._child_cpu_ns(process.pid) == 0


@pytest.mark.parametrize("share, idle", [(0.0, True), (0.01, True), (0.9, False), (4.0, False)])
def test_idle_means_that_cpu_time_stands_still(monkeypatch, share, idle):
    monkeypatch.setattr(activity, "_READING_NS", 0)
    monkeypatch.setattr(activity, "cpu_ns", lambda children: int(share * time.perf_counter_ns()))
    assert activity.wait_until_idle([], patience_seconds=0.1) is idle


@pytest.mark.parametrize("state, idle", [(b"R", False), (b"D", False), (b"S", True), (b"T", True), (b"", True)])
def test_who_only_waits_for_a_cpu_or_a_disk_is_not_idle(monkeypatch, state, idle):
    monkeypatch.setattr(activity, "cpu_ns", lambda children: 0)
    monkeypatch.setattr(activity, "_state", lambda task: state if task == "7" else b"S")
    assert activity.wait_until_idle([7], patience_seconds=0.1) is idle


def test_the_moment_at_which_work_ended_is_told(monkeypatch):
    worked_until_ns = time.perf_counter_ns() + 20_000_000
    monkeypatch.setattr(activity, "cpu_ns", lambda children: min(time.perf_counter_ns(), worked_until_ns))
    assert activity.active_until([]) == pytest.approx(worked_until_ns, abs=5_000_000)


def test_it_waits_as_long_as_work_goes_on(monkeypatch):
    busy = iter(range(0, 30 * 10**12, 10**12))
    last = [0]

    def cpu_ns(children):
        last[0] = next(busy, last[0])
        return last[0]

    monkeypatch.setattr(activity, "cpu_ns", cpu_ns)
    assert activity.wait_until_idle([], patience_seconds=30)
    assert next(busy, None) is None


def test_a_trial_is_delayed_by_the_thread_that_works_not_by_those_that_nobody_waits_for():
    before = Usage({0: 0, 7: 0}, {0: {1: 5, 2: 0}, 7: {7: 0, 8: 0}}, {1: 0, 2: 0})
    waits_ns = {0: {1: 25, 2: 90, 3: 4}, 7: {7: 30, 8: 40}}
    after = Usage({0: 50, 7: 10}, waits_ns, {1: 47, 2: 2, 3: 1})
    assert after.since(before, 100) == Effort(50, 10, busiest=(50 + 20 + 90 + 4) / 100, delayed=0.2)
    with_a_busy_child = Usage({0: 1, 7: 150}, waits_ns, {1: 1, 2: 0, 3: 0}).since(before, 100)
    assert (with_a_busy_child.busiest, with_a_busy_child.delayed) == (2.2, 0.3)
    assert (
        Usage({0: 9}, {0: {1: 205}}, {1: 9}).since(before, 100).delayed == 200 / 209
    )  # some of it was before the trial


def test_a_process_whose_threads_could_not_be_read_has_done_nothing():
    after = Usage({7: 30}, {7: {7: 0}})
    assert after.since(Usage({0: 5, 7: 10}, {0: {}, 7: {7: 0}}), 100) == Effort(0, 20, busiest=0.2, delayed=0.0)


def test_the_children_of_this_process_are_listed_where_the_system_has_no_such_list(monkeypatch):
    def no_such_file(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(activity, "_read", no_such_file)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.pid in activity.child_pids()
        assert process.pid in activity.child_pids(os.getpid())
        process.communicate(b"\n")
    assert activity.child_pids(process.pid) == []
