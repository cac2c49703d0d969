"""One thread at a time, in the order in which they come."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import Any


class Turns:
    """A lock for a ``with`` block that goes to the thread that has waited longest. Pickled or forked, it is free."""

    def __init__(self) -> None:
        self._start_alone()

    def _start_alone(self) -> None:
        self._pid = os.getpid()
        self._lock, self._queue = threading.Lock(), threading.Lock()

    def __enter__(self) -> None:
        if self._pid != os.getpid():
            self._start_alone()  # in a forked child the parent's threads would keep the locks forever
        with self._queue:  # a lock alone would mostly go back to the thread that has just released it
            self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[Any, ...]:
        return Turns, ()
