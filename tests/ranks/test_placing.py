"""Cores for the ranks of a host, drawn for each trial."""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections import Counter

import pytest

from pytest_loaderperf.ranks.placing import drawn_cores, on_cores

CORES = frozenset(range(4))
ORDER = random.Random(1)  # noqa: S311 no secret depends on it
NEEDS_TWO = pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: ())(0)) < 2, reason="needs two cores")


@pytest.mark.parametrize("ranks, each", [(2, 2), (3, 1), (4, 1), (6, 1)])
def test_every_rank_gets_as_many_cores_and_each_of_them_in_time(ranks, each):
    seen: list[Counter[int]] = [Counter() for _ in range(ranks)]
    for _ in range(200):
        drawn = drawn_cores(["a"] * ranks, [CORES] * ranks, ORDER)
        assert {len(cores) for cores in drawn} == {each}
        taken = Counter(core for cores in drawn for core in cores)
        assert max(taken.values()) - min(taken.values()) <= 1
        for rank, cores in enumerate(drawn):
            seen[rank].update(cores)
    assert all(set(counter) == CORES and max(counter.values()) < 2 * min(counter.values()) for counter in seen)


def test_each_host_is_divided_by_itself():
    drawn = drawn_cores(["a", "b", "a"], [CORES, frozenset({7}), CORES], ORDER)
    assert drawn[1] == {7}
    assert drawn[0] | drawn[2] == CORES


@pytest.mark.parametrize("cores", [[frozenset({0, 1}), frozenset({2, 3})], [frozenset({0})] * 2, [frozenset()] * 2])
def test_what_the_launcher_gave_to_ranks_stays(cores):
    assert drawn_cores(["a", "a"], cores, ORDER) == cores


@NEEDS_TWO
def test_threads_and_children_run_there_and_afterwards_where_they_did():
    before = os.sched_getaffinity(0)
    core = frozenset({min(before)})
    go, ended = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (go.set(), ended.wait()))
    thread.start()
    go.wait()
    children = [subprocess.Popen(["sleep", "60"])]
    try:
        with on_cores(core):
            assert all(os.sched_getaffinity(task) == core for task in (0, thread.native_id, children[0].pid))
            children.append(subprocess.Popen(["sleep", "60"]))
        assert all(os.sched_getaffinity(task) == before for task in (0, thread.native_id, *(c.pid for c in children)))
    finally:
        ended.set()
        thread.join()
        for child in children:
            child.kill()
            child.wait()


def test_without_cores_nothing_changes():
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    with on_cores(frozenset()):
        assert before is None or os.sched_getaffinity(0) == before
