"""A rank that its launcher ends cleans up and says why. In forked processes: a signal is for a whole process."""

from __future__ import annotations

import os
import signal
import time
import traceback
import weakref

import pytest

from pytest_loaderperf.ranks.termination import Termination


@pytest.fixture
def said_by():
    """What ``work(end)`` returns in a forked process, where ``end()`` sends SIGTERM to it; else what is raised."""

    def run(work, reason="rank 1 ended."):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            Termination(lambda: reason)
            try:
                text = str(work(lambda: os.kill(os.getpid(), signal.SIGTERM)))
            except BaseException as error:  # noqa: BLE001 the test looks at it
                text = f"{isinstance(error, KeyboardInterrupt)} {error}"
            os.write(writing, text.encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as file:
            text = file.read()
        os.waitpid(pid, 0)
        return text

    return run


def test_a_signal_of_the_launcher_interrupts_with_the_reason(said_by):
    def work(end):
        end()
        time.sleep(20)

    assert said_by(work) == "True the launcher ended this rank (SIGTERM). rank 1 ended."


def test_a_second_signal_does_not_disturb_cleaning_up(said_by):
    def work(end):
        try:
            end()
            time.sleep(20)
        except KeyboardInterrupt:
            end()
            time.sleep(0.05)
            return "cleaned up"

    assert said_by(work) == "cleaned up"


def test_a_signal_while_an_object_is_finalised_is_not_lost(said_by):
    class Thing:
        pass

    def work(end):
        thing = Thing()
        keep = weakref.ref(thing, lambda ref: end())
        del thing
        for _ in range(200):
            time.sleep(0.1)
        return keep

    assert said_by(work) == "True the launcher ended this rank (SIGTERM). rank 1 ended."


def test_a_signal_where_code_has_no_line_waits_until_it_has_one(said_by):
    def work(end):
        def without_line():
            os.kill(os.getpid(), signal.SIGTERM)
            return list(map(abs, range(9)))

        without_line.__code__ = without_line.__code__.replace(co_linetable=b"")
        without_line()
        time.sleep(20)

    assert said_by(lambda end: lines_of(work, end)) == "[True, True, True]"


def lines_of(work, end):
    """Whether each frame of the interrupt's traceback has a line."""
    try:
        work(end)
    except KeyboardInterrupt as interrupt:
        return [line is not None for _, line in traceback.walk_tb(interrupt.__traceback__)]


def test_a_forked_process_ends_as_if_nothing_were_installed(said_by):
    def work(end):
        pid = os.fork()
        if pid == 0:
            end()
            time.sleep(20)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert said_by(work) == str(-signal.SIGTERM)


def test_a_handler_of_the_program_stays():
    def own(number, frame):
        pass

    before = signal.signal(signal.SIGTERM, own)
    try:
        termination = Termination(lambda: "")
        assert signal.getsignal(signal.SIGTERM) is own
        termination.restore()
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)
