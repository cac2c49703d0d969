"""Ends a loader that yields nothing for too long, and reports what it and every thread were doing."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sized
from types import TracebackType

from pytest_loaderperf.errors import LoaderHangError

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 10.0  # code that ignores the interrupt for this long is native and never returns
_DELIVERY_SECONDS = 0.05  # a signal reaches a running interpreter within a few instructions
_DEATH_SECONDS = 0.2  # after a worker's connection has closed, until the system reports its death
_FRAMES = 12  # of a thread: enough to see where it is
_ABANDONED_STATUS = 70
_NOT_SEEN = -1  # progress before the first check


class _Stage:
    """The block under watch; ``report`` is set once it counts as hung.

    A class, not a generator, that does little work itself: one is made for every slice of a trial.
    """

    __slots__ = ("_dog", "_dropped", "_hook", "deadline_s", "name", "progress", "report", "seen", "thread_id")
    deadline_s: float  # known from the first check on
    thread_id: int

    def __init__(self, dog: Watchdog, name: str, progress: Sized) -> None:
        self._dog, self.name, self.progress = dog, name, progress
        self._dropped = False
        self.seen = _NOT_SEEN
        self.report: str | None = None

    def __enter__(self) -> None:
        self._hook, sys.unraisablehook = sys.unraisablehook, self._unraisable
        self.thread_id = threading.get_ident()
        self._dog.watched = self

    def _unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Keep an interrupt that was raised while an object was finalised, where Python would drop it."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._dropped = True
        else:
            self._hook(unraisable)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        sys.unraisablehook = self._hook
        interrupted = self._dropped
        try:
            with self._dog.lock:  # from here on no interrupt is sent
                self._dog.watched = None
            if self.report is not None and not interrupted and not isinstance(error, KeyboardInterrupt):
                time.sleep(_DELIVERY_SECONDS)  # the loader caught the interrupt, or it is raised here
        except KeyboardInterrupt:
            interrupted = True
        if self.report is not None:
            raise LoaderHangError(self.report) from None
        if interrupted:
            raise KeyboardInterrupt
        if isinstance(error, (ConnectionError, EOFError)):
            time.sleep(_DEATH_SECONDS)  # torch raises when a worker has died: here, not in pytest's report


class Watchdog:
    """Watches one stage at a time; interrupts the main thread when the stage makes no progress for ``timeout`` seconds.

    ``abandon`` is called with the report before the process is ended, which happens only if the main thread does not
    return from native code after the interrupt. A stage on another thread cannot be interrupted, only reported.
    """

    def __init__(self, timeout_seconds: float, abandon: Callable[[str], None]) -> None:
        self.timeout_s = timeout_seconds
        self._abandon = abandon
        self.watched: _Stage | None = None
        self._thread: threading.Thread | None = None
        self.lock = threading.Lock()
        self._closing = threading.Event()

    def stage(self, name: str, progress: Sized = ()) -> _Stage:
        """Watch the block under ``name``, as long as ``progress`` grows. Raises LoaderHangError on a hang."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="loaderperf-watchdog", daemon=True)
            self._thread.start()
        return _Stage(self, name, progress)

    def close(self) -> None:
        """End the watching thread. May be called twice."""
        self._closing.set()

    def _run(self) -> None:
        while not self._closing.wait(_POLL_SECONDS):
            stage = self.watched
            if stage is None:
                continue
            progress = len(stage.progress)
            if progress != stage.seen:
                stage.seen = progress
                stage.deadline_s = time.monotonic() + self.timeout_s
            elif time.monotonic() > stage.deadline_s:
                self._interrupt(stage)

    def _interrupt(self, stage: _Stage) -> None:
        batches = f" after {stage.seen} batches" if stage.seen else ""
        report = (
            f"the loader hangs: got nothing for {self.timeout_s:g} s in stage {stage.name!r}{batches}. "
            "Expected a batch, an end or an error. Fix the loader, or set loaderperf_timeout (seconds) higher.\n"
            + _stacks(stage.thread_id)
        )
        if stage.thread_id != threading.main_thread().ident:
            sys.stderr.write(f"{report}\nThis stage is not on the main thread, so it cannot be interrupted.\n")
            stage.deadline_s = math.inf
            return
        with self.lock:
            if self.watched is not stage:
                return
            stage.report = report
            signal.pthread_kill(stage.thread_id, signal.SIGINT)
        deadline_s = time.monotonic() + _GRACE_SECONDS
        while self.watched is stage and not self._closing.is_set():
            if time.monotonic() > deadline_s:
                self._abandon(report)
                os._exit(_ABANDONED_STATUS)
            time.sleep(_POLL_SECONDS)


def _stacks(first_id: int) -> str:
    frames = sys._current_frames()  # noqa: SLF001 the documented way to see other threads
    parts = []
    for thread in sorted(threading.enumerate(), key=lambda t: t.ident != first_id):
        frame = frames.get(thread.ident or 0)
        if frame is None or thread is threading.current_thread():
            continue
        stack = "".join(traceback.format_list(traceback.extract_stack(frame)[-_FRAMES:]))
        parts.append(f"thread {thread.name!r} stands at (innermost last):\n{stack}")
    return "\n".join(parts)
