"""Which objects share a channel with other processes."""

from __future__ import annotations

import functools
import multiprocessing
import socket
import subprocess
import threading
import time
from multiprocessing import connection
from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import Subset, TensorDataset

from pytest_loaderperf.remote.shared_channels import held_channel


@pytest.fixture
def held(request):
    """What the parameter makes; a manager, process or socket among it ends with the test."""
    opened = []
    yield request.param(opened.append)
    for one in opened:
        one.close() if hasattr(one, "close") else one.__exit__(None, None, None)


def socket_pair(close):
    ours, theirs = socket.socketpair()
    close(ours)
    close(theirs)
    return ours


def pipe(close):
    ours, theirs = multiprocessing.Pipe()
    close(ours)
    close(theirs)
    return ours


def program(close):
    running = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    close(running)
    return running.stdin


def queue(close):
    made = multiprocessing.Queue()
    close(made)
    return made


def managed(what):
    def make(close):
        manager = multiprocessing.Manager()
        close(manager)
        return getattr(manager, what)()

    return make


CHANNELS = {
    "socket.socket": socket_pair,
    "multiprocessing.connection.Connection": pipe,
    "_io.FileIO": program,
    "multiprocessing.queues.Queue": queue,
    "multiprocessing.queues.SimpleQueue": lambda _close: multiprocessing.SimpleQueue(),
    "multiprocessing.synchronize.Barrier": lambda _close: multiprocessing.Barrier(2),
    "multiprocessing.managers.AutoProxy[Queue]": managed("Queue"),
}
NONE = {
    "a lock": lambda _close: multiprocessing.Lock(),
    "a value": lambda _close: multiprocessing.Value("q", 0),
    "an event": lambda _close: multiprocessing.Event(),
    "a managed dict": managed("dict"),
    "a lock of threads": lambda _close: threading.RLock(),
    "a file": lambda close: (file := open(__file__, "rb"), close(file))[0],  # noqa: PTH123, SIM115 closed with the test
    "tensors": lambda _close: Subset(TensorDataset(torch.zeros(4)), [0, 1]),
    "modules": lambda _close: {"module": connection, "type": connection.Connection},
}


@pytest.mark.parametrize(
    "held, name", [(make, name) for name, make in CHANNELS.items()], ids=CHANNELS, indirect=["held"]
)
def test_a_channel_is_found_wherever_it_is_held(held, name):
    here = SimpleNamespace(inner=[{"deep": (held,)}])
    here.itself = here
    assert held_channel(held) == held_channel(1, here) == name
    assert held_channel(lambda: held) == held_channel(functools.partial(print, held)) == name


@pytest.mark.parametrize("held", NONE.values(), ids=NONE, indirect=True)
def test_what_takes_no_messages_is_none(held):
    assert held_channel(SimpleNamespace(held=held), lambda: held) == ""


def test_the_globals_of_a_function_are_not_its_own(monkeypatch):
    monkeypatch.setitem(globals(), "of_the_module", multiprocessing.SimpleQueue())
    assert held_channel(test_what_takes_no_messages_is_none) == ""


def test_a_large_dataset_is_not_searched_through():
    rows = [[[number] for number in range(1000)] for _ in range(1000)]
    began = time.process_time()
    assert held_channel(rows) == ""
    assert time.process_time() - began < 0.5
