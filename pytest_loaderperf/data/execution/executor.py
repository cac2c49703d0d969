"""A thread pool that is made once, on first use, and kept."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import ParamSpec, Self, TypeVar
from weakref import WeakSet

from pytest_loaderperf.data.execution.cores import usable_cores
from pytest_loaderperf.errors import LoaderPerfError

P = ParamSpec("P")
T = TypeVar("T")

MAX_DEFAULT_WORKERS = 4  # with more than four threads the memory bus limits a gather, not the cores
_log = logging.getLogger("pytest_loaderperf")
_all: WeakSet[PersistentExecutor] = WeakSet()


class PersistentExecutor:
    """A lazily made, thread-safe thread pool of ``max_workers`` (default min(4, cores)) that outlives epochs.

    It is remade on first use after a fork and after unpickling, and closed by ``close()``, by leaving its ``with``
    block, or at interpreter exit. ``submit`` after ``close`` raises LoaderPerfError.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        if max_workers is not None and (type(max_workers) is not int or max_workers < 1):
            raise LoaderPerfError(f"max_workers: expected an integer of at least 1 or None, got {max_workers!r}.")
        self.max_workers = max_workers or min(MAX_DEFAULT_WORKERS, usable_cores())
        self._start_empty()

    def _start_empty(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()
        self._inside = threading.local()
        self._closed = False
        _all.add(self)

    @property
    def pool(self) -> ThreadPoolExecutor:
        """The pool itself, made on first use. Raises LoaderPerfError after ``close``."""
        return self._pool or self._make_pool()

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run ``function`` on a thread of the pool; its exception re-raises in ``Future.result``."""
        return self.pool.submit(function, *args, **kwargs)

    @property
    def runs_here(self) -> bool:
        """Whether this thread is one of its own: it must not wait for what runs on it."""
        return getattr(self._inside, "runs", False)

    def _make_pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._closed:
                raise LoaderPerfError("this executor is closed. Make a new PersistentExecutor, or close it later.")
            if self._pool is None:
                enter = partial(setattr, self._inside, "runs", True)
                self._pool = ThreadPoolExecutor(self.max_workers, thread_name_prefix="loaderperf", initializer=enter)
                _log.info("executor: %d threads, made on first use, kept until close()", self.max_workers)
            return self._pool

    def close(self, *, wait: bool = True) -> None:
        """Finish running work, drop waiting work, and end the threads. May be called twice.

        ``wait=False`` returns before running work has ended.
        """
        with self._lock:
            pool, self._pool, self._closed = self._pool, None, True
        if pool is not None:
            pool.shutdown(wait=wait, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __getstate__(self) -> dict[str, int]:
        return {"max_workers": self.max_workers}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.max_workers = state["max_workers"]
        self._start_empty()


def _start_empty_after_fork() -> None:
    for executor in list(_all):
        executor._start_empty()  # noqa: SLF001 of this module. The parent's threads are not here, its lock may be held


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_empty_after_fork)
