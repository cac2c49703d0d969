"""What the threads of this process do when: the spans of a trace, and those from which the queue is known."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Collection, Iterator
from concurrent.futures import thread as pool
from pathlib import Path
from typing import Any

from pytest_loaderperf.diagnosis.passes.naming import callee_name, user_code
from pytest_loaderperf.diagnosis.timeline import ASK, SEND, Span, Timeline, Track, bounded

MOST_SPANS = 20_000  # of a process: what it keeps and writes stays small beside the batches
OF_QUEUE = frozenset({SEND, ASK})
EPOCH = "epoch"  # kept always: there are few
_NUMBER = re.compile(r"[-_ ]?\d+")


class Spans:
    """At most ``MOST_SPANS`` spans of this process, of ``stages`` (None: of all).

    ``batch`` and ``iteration`` are those that this process works on. ``full_ns``: when it stopped to keep spans, or 0.
    """

    def __init__(self, stages: Collection[str] | None) -> None:
        self._stages = stages
        self.forget()

    def forget(self) -> None:
        """In a forked worker: what the parent has seen is not this process's."""
        self.batch, self.iteration = -1, ""
        self.began_ns = time.perf_counter_ns()
        self.full_ns = 0
        self._kept: list[tuple[int, Span]] = []
        self._written = 0
        self._tracks: dict[tuple[int, str], int] = {}
        self._threads: list[int] = []
        self._alive: dict[threading.Thread, tuple[int, int, str]] = {}  # its track, since when, target
        self._local, self._lock = threading.local(), threading.RLock()  # a collection may begin inside

    @property
    def all(self) -> bool:
        """Whether spans of every stage are kept, for a trace."""
        return self._stages is None

    def add(  # noqa: PLR0917 the fields of a span
        self, stage: str, began_ns: int, ended_ns: int, batch: int | None = None, iteration: str = "", what: str = ""
    ) -> None:
        """Keep a span of the current thread. ``batch``: None is the one that this process works on."""
        if self._stages is not None and stage not in self._stages:
            return
        if len(self._kept) >= MOST_SPANS and stage != EPOCH:
            self.full_ns = self.full_ns or began_ns
            return
        number = self.batch if batch is None else batch
        self._kept.append((self._track(), Span(stage, began_ns, ended_ns, number, iteration, what)))

    def _track(self, name: str = "") -> int:
        """The number of this thread's track: threads of one kind that run one after another share it."""
        found: int | None = getattr(self._local, "track", None)
        if found is None:
            known = threading._active.get(threading.get_ident())  # type: ignore[attr-defined]  # noqa: SLF001 asking for the current thread would register one that has ended
            name = name or (known.name if known is not None else "thread")
            key = threading.get_ident(), _NUMBER.sub("", name)
            with self._lock:
                found = self._tracks.setdefault(key, len(self._tracks))
                if found == len(self._threads):
                    self._threads.append(threading.get_native_id())
            self._local.track = found
        return found

    def watch_threads(self) -> None:
        """Begin to keep from when to when each thread of Python runs, and each task of an executor."""
        spans: Spans = self
        kind: Any = threading.Thread
        work: Any = pool._WorkItem  # noqa: SLF001 Python has no public hook for these
        run_thread, run_task = kind._bootstrap_inner, work.run  # noqa: SLF001 likewise

        def thread_ran(thread: threading.Thread) -> None:
            began, target = time.perf_counter_ns(), _target(thread)
            spans._alive[thread] = spans._track(thread.name), began, target
            try:
                run_thread(thread)
            finally:
                if spans._alive.pop(thread, None) is not None:
                    spans.add("thread", began, time.perf_counter_ns(), -1, what=target)

        def task_ran(item: Any, *context: Any) -> Any:
            function, began = getattr(item, "fn", None), time.perf_counter_ns()
            try:
                return run_task(item, *context)
            finally:
                spans.add("task", began, time.perf_counter_ns(), what=_named(function))

        kind._bootstrap_inner, work.run = thread_ran, task_ran  # noqa: SLF001 likewise

    def collected(self, began_ns: int, generation: int) -> None:
        """A run of the garbage collector, which ends now."""
        self.add("gc", began_ns, time.perf_counter_ns(), -1, what=f"generation {generation}")

    def _so_far(self, *, final: bool) -> list[tuple[int, Span]]:
        kept = list(self._kept)
        if final and self.all:
            now = time.perf_counter_ns()
            alive = list(self._alive.values())
            kept += [(track, Span("thread", began, now, what=target)) for track, began, target in alive]
        return kept

    def write(self, file: Path, *, final: bool) -> None:
        """Append what is new to a file, a span a line. ``final``: threads that still run end here."""
        kept = self._so_far(final=final)
        if len(kept) == self._written:
            return
        with file.open("a", encoding="utf-8") as written:
            written.writelines(json.dumps([track, *span]) + "\n" for track, span in kept[self._written :])
        self._written = len(kept)

    def names(self) -> list[tuple[int, str]]:
        """Of each track: the thread that was its first, and the name."""
        return list(zip(self._threads, (name for _, name in self._tracks), strict=False))

    def timeline(self, folder: Path, pieces: list[dict[str, Any]]) -> Timeline:
        """What this process, the main one, and those that wrote ``pieces`` to a folder did."""
        found = list(_tracks(self.names(), self._so_far(final=True), os.getpid(), -1, main=True))
        for piece in pieces:
            spans = _read(folder / f"{piece['process']}.spans")
            found += _tracks(piece["tracks"], spans, piece["process"], piece["worker"], main=False)
        full_ns = (self.full_ns, *(piece["full_ns"] for piece in pieces))
        return bounded(found, filter(None, full_ns))


def _read(file: Path) -> list[tuple[int, Span]]:
    """What a worker has written; nothing if it could not."""
    if not file.exists():
        return []
    lines = file.read_text("utf-8").splitlines(keepends=True)
    parts = [json.loads(line) for line in lines if line.endswith("\n")]  # a process that is killed may stop in a line
    return [(track, Span(*span)) for track, *span in parts]


def _tracks(
    names: list[tuple[int, str]], kept: list[tuple[int, Span]], process: int, worker: int, *, main: bool
) -> Iterator[Track]:
    by_track: dict[int, list[Span]] = {}
    for track, span in kept:
        by_track.setdefault(track, []).append(span)
    for track, spans in by_track.items():
        thread, name = names[track]
        ordered = tuple(sorted(spans, key=lambda span: (span.began_ns, -span.ended_ns)))
        yield Track(process, thread, name, worker, main, ordered)


def _target(thread: threading.Thread) -> str:
    return _named(getattr(thread, "_target", None) or type(thread).run)


def _named(function: Any) -> str:
    """The name of a function, and where it is written if it is the user's."""
    if function is None:
        return ""
    return f"{callee_name(function, getattr(function, '__self__', None))} {user_code(function)}".strip()
