"""Ranks of a job on this machine, forked from this process: what each found, and when."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, Pipe, wait
from typing import NamedTuple

from pytest_loaderperf.ranks.link import Link
from pytest_loaderperf.ranks.world import World

_JOIN_SECONDS = 120.0
_JOINED = b"joined"
Work = Callable[[Link], object]
"""What a rank does; it returns what JSON can hold."""


class Said(NamedTuple):
    """What the work of a rank returned, or the error that it raised, and when: seconds of time.monotonic."""

    at_s: float
    value: object
    error: str


class Rank(NamedTuple):
    pid: int
    said: Connection


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@contextmanager
def ranks(size: int, work: Work) -> Iterator[list[Rank]]:
    """``size`` ranks that have joined and each do ``work``; none is left at the end."""
    import torch.distributed  # noqa: F401 so that each rank finds it imported

    port = free_port()
    started = [_start(World(rank, size, rank, "here", "127.0.0.1", port), work) for rank in range(size)]
    try:
        for rank in started:
            if not wait([rank.said], _JOIN_SECONDS) or rank.said.recv_bytes() != _JOINED:
                raise RuntimeError("a rank has not joined")
        yield started
    finally:
        for rank in started:
            with suppress(ProcessLookupError):
                os.kill(rank.pid, 9)
            os.waitpid(rank.pid, 0)
            rank.said.close()


def _start(world: World, work: Work) -> Rank:
    reading, writing = Pipe(duplex=False)
    pid = os.fork()
    if pid:
        writing.close()
        return Rank(pid, reading)
    value: object = None
    error = ""
    try:
        link = Link(world, _JOIN_SECONDS)
        writing.send_bytes(_JOINED)
        try:
            value = work(link)
        except Exception as raised:  # noqa: BLE001 told to the suite
            error = f"{type(raised).__name__}: {raised}"
        writing.send_bytes(json.dumps([time.monotonic(), value, error]).encode())
        link.close()
    finally:
        os._exit(0)


def said(rank: Rank, timeout_s: float) -> Said | None:
    """What a rank said within ``timeout_s``; None if nothing."""
    if not wait([rank.said], timeout_s):
        return None
    try:
        return Said(*json.loads(rank.said.recv_bytes()))
    except EOFError:
        return None
