"""Shared by all tests. No test asserts real speed."""

from __future__ import annotations

import signal

pytest_plugins = ["pytester"]


def pytest_configure():
    """Let Ctrl-C reach the tests about it, also where a shell started them in the background, deaf to it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
