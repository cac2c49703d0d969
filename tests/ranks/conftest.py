"""Ranks of one job as threads, or as forked processes, of this process."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from pytest_loaderperf.ranks.link import Link
from pytest_loaderperf.ranks.world import World


class Job:
    """Links between ranks in this process; rank r is on host "abc"[r]."""

    def __init__(self, size):
        self.size = size
        self.port = free_port()
        self.links = {}

    def world(self, rank):
        return World(rank, self.size, 0, "abcdefgh"[rank], "127.0.0.1", self.port)

    def join(self, rank, timeout_s=60.0):
        self.links[rank] = Link(self.world(rank), timeout_s)
        return self.links[rank]

    def run(self, *works):
        """``works[rank](link)`` on a thread for each rank: what each gives, or the error that it raises."""
        given = [None] * len(works)

        def run(rank):
            try:
                given[rank] = works[rank](self.links.get(rank) or self.join(rank))
            except Exception as error:  # noqa: BLE001 the test looks at it
                given[rank] = error

        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(works))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
        assert not any(thread.is_alive() for thread in threads), "a rank waits for ever"
        return given

    def all(self, work):
        return self.run(*[work] * self.size)

    def close(self):
        threads = [threading.Thread(target=link.close) for link in self.links.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def job_of():
    jobs = []

    def make(size):
        jobs.append(Job(size))
        return jobs[-1]

    yield make
    for job in jobs:
        job.close()
    assert not [t for t in threading.enumerate() if t.name == "loaderperf-link"]


@pytest.fixture
def forked():
    """``forked(work)`` runs ``work`` in a forked process and returns its id; all end with the test."""
    pids = []

    def fork(work):
        pid = os.fork()
        if pid == 0:
            try:
                work()
            finally:
                os._exit(1)
        pids.append(pid)
        return pid

    yield fork
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
