"""Ends a loader that gives nothing for too long, and says what it and every thread were doing."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager

from pytest_loaderperf.errors import LoaderHangError

DEFAULT_TIMEOUT_SECONDS = 120.0  # longer than loaders take to build in practice, shorter than a CI job's patience
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 10.0  # what stays deaf to the interrupt for this long sits in native code and never returns
_FRAMES = 12  # the innermost frames of a thread say where it stands
_ABANDONED_STATUS = 70


class Watchdog:
    """Watches one stage at a time; interrupts the main thread when the stage makes no progress for ``timeout`` seconds.

    ``abandon`` is called with the report before the process is ended, which happens only where the main thread does not
    come back from native code after the interrupt. A stage on another thread cannot be interrupted: it is reported.
    """

    def __init__(self, timeout_seconds: float, abandon: Callable[[str], None]) -> None:
        self._timeout_s = timeout_seconds
        self._abandon = abandon
        self._stage = ""
        self._progress: Sized = ()
        self._seen = 0
        self._deadline_s: float | None = None
        self._watched = threading.main_thread()
        self._thread: threading.Thread | None = None
        self._report: str | None = None
        self._closing = threading.Event()

    @contextmanager
    def stage(self, name: str, progress: Sized = ()) -> Iterator[None]:
        """Watch the block under ``name``; it lives as long as ``progress`` grows. Raises LoaderHangError on a hang."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="loaderperf-watchdog", daemon=True)
            self._thread.start()
        self._stage, self._progress, self._seen = name, progress, 0
        self._watched = threading.current_thread()
        self._deadline_s = time.monotonic() + self._timeout_s
        try:
            yield
        except KeyboardInterrupt:
            if self._report is None:
                raise
            report, self._report = self._report, None
            raise LoaderHangError(report) from None
        finally:
            self._deadline_s = None

    def close(self) -> None:
        """End the watching thread. May be called twice."""
        self._closing.set()

    def _watch(self) -> None:
        while not self._closing.wait(_POLL_SECONDS):
            deadline_s = self._deadline_s
            if deadline_s is None:
                continue
            progress = len(self._progress)
            if progress != self._seen:
                self._seen = progress
                self._deadline_s = time.monotonic() + self._timeout_s
            elif time.monotonic() > deadline_s:
                self._bite()

    def _bite(self) -> None:
        batches = f" after {self._seen} batches" if self._seen else ""
        report = (
            f"the loader hangs: nothing came for {self._timeout_s:g} s in stage {self._stage!r}{batches}. "
            "Expected a batch, an end or an error. Mend the loader, or set loaderperf_timeout (seconds) higher.\n"
            + _stacks(self._watched)
        )
        if self._watched is not threading.main_thread() or self._watched.ident is None:
            sys.stderr.write(f"{report}\nThis stage is not on the main thread, which alone can be interrupted.\n")
            self._deadline_s = None
            return
        self._report = report
        signal.pthread_kill(self._watched.ident, signal.SIGINT)
        deadline_s = time.monotonic() + _GRACE_SECONDS
        while self._deadline_s is not None and not self._closing.is_set():
            if time.monotonic() > deadline_s:
                self._abandon(report)
                os._exit(_ABANDONED_STATUS)
            time.sleep(_POLL_SECONDS)


def _stacks(watched: threading.Thread) -> str:
    frames = sys._current_frames()  # noqa: SLF001 the documented way to see other threads
    parts = []
    for thread in sorted(threading.enumerate(), key=lambda t: t is not watched):
        frame = frames.get(thread.ident or 0)
        if frame is None or thread is threading.current_thread():
            continue
        stack = "".join(traceback.format_list(traceback.extract_stack(frame)[-_FRAMES:]))
        parts.append(f"thread {thread.name!r} stands at (innermost last):\n{stack}")
    return "\n".join(parts)
