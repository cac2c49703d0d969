"""What a loader changes in this process is put back before each trial."""

from __future__ import annotations

import gc
import os
import pickle

import pytest
import torch

from pytest_loaderperf.measurement.conditions import Conditions

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no CPU affinity")


@pytest.fixture
def conditions():
    before = Conditions.now()
    yield before
    before.restore()


def test_torch_threads_are_put_back(conditions):
    torch.set_num_threads(conditions.torch_threads + 1)
    with conditions.hold():
        assert torch.get_num_threads() == conditions.torch_threads


@needs_affinity
def test_the_cpus_are_put_back(conditions):
    if len(conditions.cpus) == 1:
        pytest.skip("this process may use one CPU only")
    os.sched_setaffinity(0, {min(conditions.cpus)})
    with conditions.hold():
        assert os.sched_getaffinity(0) == conditions.cpus


@needs_affinity
def test_nothing_is_set_that_has_not_changed(conditions, monkeypatch):
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: pytest.fail("set"))
    monkeypatch.setattr(torch, "set_num_threads", lambda *_: pytest.fail("set"))
    conditions.restore()


@needs_affinity
def test_cpus_that_are_gone_are_let_go(conditions, monkeypatch):
    asked = []

    def refuse(pid, cpus):
        asked.append((pid, cpus))
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    gone = Conditions(conditions.torch_threads, frozenset({99_999}))
    gone.restore()
    assert asked == [(0, {99_999})]


def test_a_system_without_affinity_has_no_cpus_to_put_back(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    here = Conditions.now()
    assert here.cpus == frozenset()
    with here.hold():
        assert not gc.isenabled()


def test_they_travel_to_another_process(conditions):
    assert pickle.loads(pickle.dumps(conditions)) == conditions  # noqa: S301 our own
