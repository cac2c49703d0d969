"""Run tasks ahead of the consumer on an executor, and give their results in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from itertools import islice
from typing import Generic, TypeVar

from pytest_loaderperf.loader.executor import PersistentExecutor

T = TypeVar("T")
Task = Callable[[], T]


class _Job(Generic[T]):
    """A task that exactly one thread runs: whichever claims it first."""

    __slots__ = ("_claim", "_done", "_error", "_task", "_value")
    _value: T

    def __init__(self, task: Task[T]) -> None:
        self._task = task
        self._error: BaseException | None = None
        self._claim = threading.Lock()
        self._done = threading.Lock()
        self._done.acquire()

    def run(self) -> bool:
        """Run the task in this thread unless it is claimed; say whether it was run."""
        if not self._claim.acquire(blocking=False):
            return False
        try:
            self._value = self._task()
        except BaseException as error:  # noqa: BLE001 re-raised in the consumer
            self._error = error
        self._done.release()
        return True

    def cancel(self) -> None:
        self._claim.acquire(blocking=False)

    def done(self) -> bool:
        return not self._done.locked()

    def result(self) -> T:
        self._done.acquire()
        if self._error is not None:
            raise self._error
        return self._value


class _Pumps(Generic[T]):
    """Up to ``workers`` executor threads that run jobs in turn and leave the executor when there are none.

    A job handed over while a pump runs costs two locks, not the ~10 us of a future of its own.
    """

    def __init__(self, executor: PersistentExecutor, workers: int) -> None:
        self._executor, self._workers = executor, workers
        self._jobs: deque[_Job[T]] = deque()
        self._running: list[Future[None]] = []
        self._active = 0
        self._lock = threading.Lock()

    def submit(self, job: _Job[T]) -> None:
        with self._lock:
            self._jobs.append(job)
            if self._active == self._workers:
                return
            self._active += 1
        self._running = [future for future in self._running if not future.done()]
        self._running.append(self._executor.submit(self._pump))

    def _pump(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._active -= 1
                    return
                job = self._jobs.popleft()
            job.run()

    def close(self) -> None:
        """Drop what waits, and wait for what runs."""
        with self._lock:
            self._jobs.clear()
        wait(self._running)


def prefetch(
    tasks: Iterator[Task[T]], executor: PersistentExecutor, *, workers: int, ahead: int, helps: bool
) -> Iterator[T]:
    """Yield each task's result in order, with up to ``ahead`` tasks on up to ``workers`` threads before they are due.

    ``tasks`` is advanced in the consumer's thread, and only when a task can start. A task's exception re-raises here.
    With ``helps``, a consumer whose next result is not ready runs a later task that no thread has begun, sooner than
    wait. When the consumer stops early, what waits is dropped and what runs is awaited: no task outlives the iteration.
    """
    pending: deque[_Job[T]] = deque()
    pumps: _Pumps[T] = _Pumps(executor, workers)

    def result() -> T:
        first = pending[0]
        if helps:
            while not first.done() and any(later.run() for later in islice(pending, 1, None)):
                pass
            first.run()
        return pending.popleft().result()

    try:
        for task in tasks:
            job = _Job(task)
            pending.append(job)
            pumps.submit(job)
            if len(pending) > ahead:
                yield result()
        while pending:
            yield result()
    finally:
        for job in pending:
            job.cancel()
        pumps.close()
