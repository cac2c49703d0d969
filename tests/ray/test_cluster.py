"""Connecting to a cluster, without one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pytest_loaderperf.cli import main
from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.ray import job
from pytest_loaderperf.ray.cluster import connected
from pytest_loaderperf.ray.worker import Asked, Failed, Measured, Worker

ray = pytest.importorskip("ray")
FACTORY = f"{__name__}:make_loader"


def make_loader():
    return [[0.0] * 4] * 100


def asked(loader):
    return Asked(loader, None, None, "builtins:len", 0.2, "cpu", str(Path.cwd()))


@pytest.fixture
def started(monkeypatch):
    """The arguments of ``ray.init``, which fails."""
    calls = []

    def init(address, **options):
        calls.append((address, options, dict(os.environ)))
        raise ConnectionError("Could not find any running Ray instance. Please specify one.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return calls


@pytest.fixture
def worker(monkeypatch):
    """One that has this process to itself."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("WORLD_SIZE", "1")
    return Worker()


def connect(address):
    with connected(address, 3.5):
        raise AssertionError


def test_no_cluster_at_an_address_is_an_error(started):
    with pytest.raises(LoaderPerfError) as raised:
        connect("auto")
    assert str(raised.value) == (
        "expected a Ray cluster at auto, got ConnectionError: Could not find any running Ray instance. "
        "Start one with ray start --head, or leave --address out to measure on this machine alone."
    )
    ((address, options, environ),) = started
    assert (address, "_temp_dir" in options, "RAY_AUTH_TOKEN" in environ) == ("auto", False, False)


def test_a_cluster_of_this_machine_has_room_for_all_and_leaves_nothing(started):
    with pytest.raises(LoaderPerfError, match="expected a Ray cluster to start on this machine, got ConnectionError"):
        connect(None)
    ((address, options, environ),) = started
    assert address == "local"
    assert options["num_cpus"] >= 4
    assert options["include_dashboard"] is False
    assert not Path(options["_temp_dir"]).exists()
    assert environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert not {"RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"} & set(os.environ)


def test_the_cluster_of_the_environment_is_taken(started, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(LoaderPerfError, match=r"expected a Ray cluster at 10\.0\.0\.1:6379"):
        connect(None)


def test_a_connection_that_is_open_is_used_and_stays_open(monkeypatch, started):
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "shutdown", started.append)
    with connected("auto", 1):
        pass
    assert started == []


def test_ranks_are_told_what_torchrun_tells_them():
    first, second, third = job._environments(["10.0.0.1", "10.0.0.2", "10.0.0.1"], 1234)
    met = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1234", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    assert first == {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0"} | met
    assert second == {"RANK": "1", "WORLD_SIZE": "3", "LOCAL_RANK": "0"} | met
    assert third == {"RANK": "2", "WORLD_SIZE": "3", "LOCAL_RANK": "1"} | met


def test_a_worker_alone_measures(worker):
    found = worker.measure({"WORLD_SIZE": "1"}, asked(FACTORY))
    assert isinstance(found, Measured), found
    assert found.document["nodeid"] == FACTORY
    assert found.machine["python"]


@pytest.mark.parametrize(
    "loader, said",
    [
        ("no.such.module:make", "cannot import 'no.such.module'"),
        (f"{__name__}:nothing", "has no 'nothing'"),
        (f"{__name__}:asked", "raised TypeError"),
    ],
)
def test_a_worker_says_why_it_cannot_measure(loader, said, worker):
    found = worker.measure({}, asked(loader))
    assert isinstance(found, Failed)
    assert said in found.text


class Tasks:
    """Stands in for Ray: tasks are what they return, or what they raise."""

    def wait(self, tasks, timeout):
        return tasks[:1], tasks[1:]

    def get(self, task):
        if isinstance(task, Exception):
            raise task
        return task


def answers(monkeypatch, *tasks):
    stand_in = Tasks()
    monkeypatch.setattr(ray, "wait", stand_in.wait)
    monkeypatch.setattr(ray, "get", stand_in.get)
    return job._answers(tasks, [f"worker {rank} on host{rank}" for rank in range(len(tasks))], lambda: None)


def test_answers_are_those_of_all_workers_by_rank(monkeypatch):
    assert answers(monkeypatch, "a", None, "c") == ["a", None, "c"]


def test_the_first_worker_that_failed_is_named(monkeypatch):
    with pytest.raises(LoaderPerfError, match=r"^worker 1 on host1: it raised$"):
        answers(monkeypatch, "a", Failed("it raised"), Failed("rank 1 failed"))


def test_a_worker_that_died_is_named(monkeypatch):
    died = ray.exceptions.RayActorError()
    with pytest.raises(LoaderPerfError, match=r"^worker 1 on host1: its process died"):
        answers(monkeypatch, "a", died)


def test_a_worker_that_does_not_start_is_named(monkeypatch):
    monkeypatch.setattr(ray, "wait", lambda tasks, timeout: ([], tasks))
    with pytest.raises(LoaderPerfError, match=r"^worker 0, worker 1: expected to start within 0\.1 s, got no answer\."):
        job._answers(["a", "b"], ["worker 0", "worker 1"], lambda: None, 0.1)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "the following arguments are required: MODULE:FACTORY, --workers"),
        (["a:b", "--workers", "0"], "expected an integer of at least 1, got '0'"),
        (["a:b", "--workers", "2", "--cpus", "-1"], "expected a positive number such as 1 or 0.5, got '-1'"),
        (["a:b", "--workers", "2", "--placement", "far"], "invalid choice: 'far'"),
    ],
)
def test_bad_usage_is_refused(arguments, said, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["ray", *arguments])
    assert said in capsys.readouterr().err


def test_without_ray_the_install_command_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["ray", FACTORY, "--workers", "2"]) == 1
    assert "pip install 'pytest-loaderperf[ray]'" in capsys.readouterr().err
