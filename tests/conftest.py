"""Shared by all tests. No test asserts real speed."""

from __future__ import annotations

import signal
import sys

import pytest

from tests.quick_sessions import Source

pytest_plugins = ["pytester"]


def pytest_configure():
    """Let Ctrl-C reach the tests about it, also where a shell started them in the background, deaf to it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def _source():
    source = Source()
    yield source
    source.close()


@pytest.fixture
def pytester(pytester, request, monkeypatch, _source):
    """pytest's own; its sub-sessions find torch imported, but for tests marked ``own_interpreter``."""
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:hypothesispytest -p no:zarr")  # heavy to import
    start = pytester.popen

    def popen(command, **how):
        if tuple(command[:2]) == (sys.executable, "-mpytest") and how.get("stdin") is pytester.CLOSE_STDIN:
            return _source.start(command[2:], how["stdout"], how["stderr"])
        return start(command, **how)

    if request.node.get_closest_marker("own_interpreter") is None:
        pytester.popen = popen
    return pytester
