"""Keeping worker threads off the consumer's core.

A scheduler likes to wake a thread on the core of the thread that woke it. For work of some 100 us at a time it notices
too late that the two run in turns while another core is idle; two cores then do the work of one.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable


def _cpu_reader() -> Callable[[], int] | None:
    if not hasattr(os, "sched_setaffinity"):
        return None
    try:  # PyDLL keeps the interpreter lock, which a call of some nanoseconds should not give away
        reader: Callable[[], int] = ctypes.PyDLL(None).sched_getcpu
    except (AttributeError, OSError):
        return None
    return reader


_current_cpu = _cpu_reader()


class Placement:
    """Where the threads of one iteration may run; made in the consumer's thread. Does nothing where it cannot."""

    __slots__ = ("_allowed", "_consumer_cpu")

    def __init__(self) -> None:
        self._allowed = os.sched_getaffinity(0) if _current_cpu is not None else set()
        self._consumer_cpu = -1

    def note_consumer(self) -> None:
        """Remember the core that the calling thread, the consumer's, runs on."""
        if _current_cpu is not None:
            self._consumer_cpu = _current_cpu()

    def avoid_consumer(self, avoided: int) -> int:
        """Move the calling thread off the consumer's core, unless that is ``avoided`` already; return that core."""
        cpu = self._consumer_cpu
        if cpu != avoided and cpu in self._allowed and len(self._allowed) > 1:
            os.sched_setaffinity(0, self._allowed - {cpu})
        return cpu

    def leave(self) -> None:
        """Let the calling thread run wherever it might before."""
        if len(self._allowed) > 1:
            os.sched_setaffinity(0, self._allowed)
