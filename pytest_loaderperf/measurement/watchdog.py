"""Ends a loader that gives nothing for too long, and says what it and every thread were doing."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_loaderperf.errors import LoaderHangError

DEFAULT_TIMEOUT_SECONDS = 120.0  # longer than loaders take to build in practice, shorter than a CI job's patience
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 10.0  # what stays deaf to the interrupt for this long sits in native code and never returns
_DELIVERY_SECONDS = 0.05  # a signal reaches a running interpreter within a few instructions
_FRAMES = 12  # the innermost frames of a thread say where it stands
_ABANDONED_STATUS = 70


@contextmanager
def _unraisable_interrupts_raised() -> Iterator[None]:
    """Raise, at the end, an interrupt that came while an object was being finalised, where Python drops it."""
    previous, dropped = sys.unraisablehook, False

    def hook(unraisable: sys.UnraisableHookArgs) -> None:
        nonlocal dropped
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            dropped = True
        else:
            previous(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = previous
    if dropped:
        raise KeyboardInterrupt


@dataclass(slots=True)
class _Watch:
    """One stage under watch. ``report`` is set once it counts as hung."""

    stage: str
    progress: Sized
    thread: threading.Thread
    deadline_s: float
    seen: int = 0
    report: str | None = None


class Watchdog:
    """Watches one stage at a time; interrupts the main thread when the stage makes no progress for ``timeout`` seconds.

    ``abandon`` is called with the report before the process is ended, which happens only where the main thread does not
    come back from native code after the interrupt. A stage on another thread cannot be interrupted: it is reported.
    """

    def __init__(self, timeout_seconds: float, abandon: Callable[[str], None]) -> None:
        self._timeout_s = timeout_seconds
        self._abandon = abandon
        self._watch: _Watch | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._closing = threading.Event()

    @contextmanager
    def stage(self, name: str, progress: Sized = ()) -> Iterator[None]:
        """Watch the block under ``name``; it lives as long as ``progress`` grows. Raises LoaderHangError on a hang."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="loaderperf-watchdog", daemon=True)
            self._thread.start()
        watch = _Watch(name, progress, threading.current_thread(), time.monotonic() + self._timeout_s)
        failure: BaseException | None = None
        try:
            self._watch = watch
            with _unraisable_interrupts_raised():
                yield
        except BaseException as error:  # noqa: BLE001 raised below, unless it is the watchdog's own doing
            failure = error
        try:
            with self._lock:  # the interrupt has been sent, or will not be
                self._watch = None
            if watch.report is not None and not isinstance(failure, KeyboardInterrupt):
                time.sleep(_DELIVERY_SECONDS)  # the loader swallowed the interrupt, or it arrives here
        except KeyboardInterrupt as error:
            failure = error
        if watch.report is not None:
            raise LoaderHangError(watch.report) from None
        if failure is not None:
            raise failure

    def close(self) -> None:
        """End the watching thread. May be called twice."""
        self._closing.set()

    def _run(self) -> None:
        while not self._closing.wait(_POLL_SECONDS):
            watch = self._watch
            if watch is None:
                continue
            progress = len(watch.progress)
            if progress != watch.seen:
                watch.seen = progress
                watch.deadline_s = time.monotonic() + self._timeout_s
            elif time.monotonic() > watch.deadline_s:
                self._bite(watch)

    def _bite(self, watch: _Watch) -> None:
        batches = f" after {watch.seen} batches" if watch.seen else ""
        report = (
            f"the loader hangs: nothing came for {self._timeout_s:g} s in stage {watch.stage!r}{batches}. "
            "Expected a batch, an end or an error. Mend the loader, or set loaderperf_timeout (seconds) higher.\n"
            + _stacks(watch.thread)
        )
        if watch.thread is not threading.main_thread() or watch.thread.ident is None:
            sys.stderr.write(f"{report}\nThis stage is not on the main thread, which alone can be interrupted.\n")
            watch.deadline_s = math.inf
            return
        with self._lock:
            if self._watch is not watch:
                return
            watch.report = report
            signal.pthread_kill(watch.thread.ident, signal.SIGINT)
        deadline_s = time.monotonic() + _GRACE_SECONDS
        while self._watch is watch and not self._closing.is_set():
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
