"""Threads, processes and opened files, each at the line that caused it, and garbage collections."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pytest_loaderperf.diagnosis.ledger import Event
from pytest_loaderperf.diagnosis.passes.rewriting import users_frame, users_frame_of

_KINDS = {
    "os.fork": "process",
    "os.forkpty": "process",
    "os.posix_spawn": "process",
    "subprocess.Popen": "process",
    "open": "open",
}
_NOT_DATA = (".py", ".pyc", ".so")
_NOT_FILES = ("/proc/", "/sys/", "/dev/")
_MOST_PATHS = 4096
Place = tuple[str, str, int, str]  # kind, file, line, function


class Events:
    """Counts what the audit hook reports, once ``install`` was called; it cannot be removed from this process."""

    def __init__(self) -> None:
        self.starting = True
        self.is_worker = False
        self._counts: Counter[Place] = Counter()
        self._starts: Counter[Place] = Counter()
        self._paths: dict[Place, set[str]] = {}
        self._threads: list[tuple[Place, threading.Thread]] = []
        self._processes: list[tuple[Place, Any]] = []
        self._alive: dict[Place, list[int]] = {}
        self._busy = threading.local()
        self.gc_ns = 0
        self._gc_began = 0

    def install(self) -> None:
        """Begin to listen, here and in processes forked from here."""
        sys.addaudithook(self._heard)
        start = threading.Thread.start

        def started(thread: threading.Thread) -> None:
            place = self._place("thread")
            start(thread)
            if place is not None:
                (self._starts if self.starting else self._counts)[place] += 1
                self._threads.append((place, thread))

        threading.Thread.start = started  # type: ignore[method-assign, assignment]
        self._wrap_processes()

    def watch_collections(self, note: Callable[[int, int], None]) -> None:
        """Begin to time the garbage collector. ``note`` is told when each run began, and of which generation."""
        self._note = note
        gc.callbacks.append(self._collected)

    def _wrap_processes(self) -> None:
        import multiprocessing.process
        import subprocess

        for kind, name in ((multiprocessing.process.BaseProcess, "start"), (subprocess.Popen, "__init__")):
            self._wrap(kind, name)

    def _wrap(self, kind: Any, name: str) -> None:
        original = getattr(kind, name)

        def started(process: Any, *args: Any, **kwargs: Any) -> Any:
            place = self._place("process")
            result = original(process, *args, **kwargs)
            if place is not None:
                self._processes.append((place, process))
            return result

        setattr(kind, name, started)

    def forget(self) -> None:
        """In a forked worker: what the parent has seen is not this process's."""
        kept: Any
        for kept in (self._counts, self._starts, self._paths, self._threads, self._processes, self._alive):
            kept.clear()
        self.gc_ns = 0

    def _place(self, kind: str) -> Place | None:
        frame = users_frame(3)
        return None if frame is None else (kind, frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)

    def _waiting(self, kind: str) -> Place | None:
        """Of a thread of a library: the line of the main thread, which waits for it."""
        main = threading.main_thread()
        frame = None if threading.current_thread() is main else sys._current_frames().get(main.ident or 0)  # noqa: SLF001 torch and the interpreter have no public name for it
        frame = users_frame_of(frame)
        return None if frame is None else (kind, frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        kind = _KINDS.get(event)
        if kind is None or getattr(self._busy, "now", False):
            return
        self._busy.now = True
        try:
            self._count(kind, arguments)
        except Exception:  # noqa: BLE001, S110 code of the user's or a library's, which may raise anything
            pass
        finally:
            self._busy.now = False

    def _count(self, kind: str, arguments: tuple[Any, ...]) -> None:
        path = ""
        if kind == "open":
            path = os.fsdecode(arguments[0]) if isinstance(arguments[0], (str, bytes, os.PathLike)) else ""
            if not path or path.endswith(_NOT_DATA) or path.startswith(_NOT_FILES):
                return
        place = self._place(kind) or self._waiting(kind)
        if place is None:
            return
        if self.starting:
            self._starts[place] += 1
            return
        self._counts[place] += 1
        if path and len(paths := self._paths.setdefault(place, set())) < _MOST_PATHS:
            paths.add(path)

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._gc_began = time.perf_counter_ns()
        elif not self.starting:
            self.gc_ns += time.perf_counter_ns() - self._gc_began
            self._note(self._gc_began, info["generation"])

    def epoch_ended(self) -> None:
        """Count which threads and processes of each line still run."""
        alive: Counter[Place] = Counter(place for place, thread in self._threads if thread.is_alive())
        alive += Counter(place for place, process in self._processes if _runs(process))
        self._threads = [(place, thread) for place, thread in self._threads if thread.is_alive()]
        for place in {*alive, *self._alive}:
            self._alive.setdefault(place, []).append(alive[place])

    def found(self) -> list[dict[str, Any]]:
        """What was heard so far, as plain values."""
        places = {*self._counts, *self._starts, *self._alive}
        return [
            asdict(
                Event(
                    *place,
                    count=self._counts[place],
                    distinct=len(self._paths.get(place, ())),
                    in_workers=self._counts[place] if self.is_worker else 0,
                    in_start=self._starts[place],
                    alive=tuple(self._alive.get(place, ())),
                )
            )
            for place in sorted(places)
        ]


def _runs(process: Any) -> bool:
    try:
        return bool(process.is_alive()) if hasattr(process, "is_alive") else process.poll() is None
    except (AssertionError, ValueError):  # another process's child, or a closed one
        return False
