"""Messages between a run and a process that measures for it."""

from __future__ import annotations

import signal
import sys
import time

import pytest

from pytest_loaderperf.remote import RemoteError
from pytest_loaderperf.remote.child import Child

SCRIPT = """
import json, os, time
from multiprocessing.connection import Connection
pipe = Connection(json.loads(os.environ["LOADERPERF_CHILD"])[0])
while True:
    number, verb, *arguments = pipe.recv()
    if verb == "leave":
        break
    if verb == "silent":
        time.sleep(60)
    pipe.send((number - 1, "ok", "late"))
    pipe.send((number - 1, "hang", "late, too"))
    pipe.send((number, "ok", verb))
"""


class StruckError(BaseException):
    pass


@pytest.fixture
def child():
    made = Child("the other", [sys.executable, "-c", SCRIPT], [], timeout_seconds=30)
    yield made
    made.close()


def test_an_answer_that_is_late_is_never_taken_for_anothers(child):
    assert [child.ask("one"), child.ask("two"), child.ask("three")] == ["one", "two", "three"]


def test_an_interrupt_ends_the_process_at_once_and_later_questions_say_so(child):
    def strike(*_):
        raise StruckError

    before = signal.signal(signal.SIGALRM, strike)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(StruckError):
            child.ask("silent")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not child.alive
    began_s = time.monotonic()
    with pytest.raises(RemoteError, match="the other: its process was ended because StruckError was raised while it "):
        child.ask("one")
    assert time.monotonic() - began_s < 10
