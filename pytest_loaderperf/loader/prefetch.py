"""Run tasks ahead of the consumer on an executor, and give their results in order."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from itertools import chain, islice
from typing import Generic, Self, TypeVar

from pytest_loaderperf.data.execution.executor import PersistentExecutor
from pytest_loaderperf.data.execution.job import Job, Task
from pytest_loaderperf.data.execution.placement import Placement
from pytest_loaderperf.data.execution.worth import Worth
from pytest_loaderperf.errors import LoaderPerfError

T = TypeVar("T")


class _Pumps(Generic[T]):
    """Up to ``workers`` executor threads that run jobs in turn and leave the executor when there are none.

    A job handed over while a pump runs costs two locks, not the ~10 us of a future of its own.
    """

    def __init__(self, executor: PersistentExecutor, workers: int, *, helps: bool) -> None:
        self._executor, self._workers, self._helps = executor, workers, helps
        self._jobs: deque[Job[T]] = deque()
        self._running: list[Future[None]] = []
        self._active = 0
        self._placement = Placement()
        # Re-entrant: garbage collection may close another iteration, or this one, in the middle of anything.
        self._lock = threading.RLock()

    def submit(self, job: Job[T]) -> None:
        if self._helps:
            self._placement.note_consumer()
        with self._lock:
            self._jobs.append(job)
            job.queued = True
            if self._active == self._workers:
                return
            self._active += 1
        try:
            future = self._executor.submit(self._pump)
        except (LoaderPerfError, RuntimeError) as error:  # it is closed
            self._left(error)
            return
        except BaseException:  # an interrupt: the next call starts a thread again
            job.queued = False
            with self._lock:
                self._active -= 1
            raise
        self._running = [*(old for old in self._running if not old.done()), future]
        future.add_done_callback(self._ended)

    def _pump(self) -> None:
        avoided = -1
        while True:
            with self._lock:
                if not self._jobs:
                    self._active -= 1
                    break
                job = self._jobs.popleft()
            if self._helps:  # only a consumer that works, too, needs a core of its own
                avoided = self._placement.avoid_consumer(avoided)
            job.run()
            del job
        if self._helps:
            self._placement.leave()

    def _ended(self, future: Future[None]) -> None:
        if future.cancelled():
            self._left(LoaderPerfError("the executor was closed during an iteration. Close it after the last batch."))

    def _left(self, error: Exception) -> None:
        """One thread less: without the last one, what waits ends by ``error``."""
        with self._lock:
            self._active -= 1
            orphans = list(self._jobs) if self._active == 0 else []
        for job in orphans:
            job.fail(error)

    def forget(self, job: Job[T]) -> None:
        """Let go of a job that the consumer ran itself, though no thread may come for a long time."""
        with self._lock:
            if job in self._jobs:
                self._jobs.remove(job)

    def close(self, timeout_s: float) -> bool:
        """Drop what waits, wait for what runs, and say whether nothing runs any more. ``timeout_s``: 0 waits for ever.

        A thread of the executor, in which garbage collection may end up here, cannot wait for itself.
        """
        with self._lock:
            self._jobs.clear()
        if self._executor.runs_here:
            return False
        running = [future for future in self._running if not future.cancel()]
        self._running = []  # they refer to this object, and so keep the executor's threads alive
        return not wait(running, timeout_s or None).not_done


class Prefetcher(Generic[T]):
    """Iterates over the results of ``tasks``, in order, up to ``ahead()`` of them begun before they are due.

    ``tasks`` is advanced in the consumer's thread, and only when a task can start; up to ``workers`` threads of
    ``executor`` run them. A task's exception re-raises in the consumer. With ``worth``, a consumer whose next result is
    not ready runs a later task that no thread has begun, sooner than wait, and all of them while threads are not worth
    it. ``timeout_s``: 0 waits for ever.

    Raises LoaderPerfError in a process forked during the iteration, and where the executor is closed meanwhile;
    RuntimeError where a result takes longer than ``timeout_s``; it can be asked for again.
    """

    def __init__(
        self,
        tasks: Iterator[Task[T]],
        executor: PersistentExecutor,
        *,
        workers: int,
        ahead: Callable[[], int],
        worth: Worth | None = None,
        timeout_s: float = 0,
    ) -> None:
        self._tasks, self._ahead, self._worth, self._timeout_s = tasks, ahead, worth, timeout_s
        self._pending: deque[Job[T]] = deque()
        self._pumps: _Pumps[T] = _Pumps(executor, workers, helps=worth is not None)
        self._pid = os.getpid()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if os.getpid() != self._pid:
            raise LoaderPerfError("this iteration began in the parent process, whose threads are not here. Begin anew.")
        if not (self._pending or self._hands_over()):
            return self._run_next()
        self._begin()
        if not self._pending:
            raise StopIteration
        if self._worth is not None:
            self._help()
        self._pending[0].wait(self._timeout_s)  # whoever is interrupted, or asks again after a timeout, gets this one
        return self._pending.popleft().result()

    def _begin(self) -> None:
        for job in self._pending:
            if not job.queued and self._hands_over():  # the consumer was interrupted
                self._pumps.submit(job)
        while self._hands_over() and len(self._pending) <= self._ahead():
            task = next(self._tasks, None)
            if task is None:
                break
            self._pending.append(Job(task))
            self._pumps.submit(self._pending[-1])

    def _hands_over(self) -> bool:
        return self._worth is None or self._worth.hands_over

    def _run_next(self) -> T:
        """The next result, without the locks that threads need, which cost more than small tasks."""
        task = next(self._tasks)
        try:
            return task()
        except BaseException as error:
            if not isinstance(error, Exception):  # an interrupt: the task is still to be run
                self._tasks = chain([task], self._tasks)
            raise

    def _help(self) -> None:
        first = self._pending[0]
        while not first.done and any(map(self._run_here, islice(self._pending, 1, None))):
            pass
        self._run_here(first)

    def _run_here(self, job: Job[T]) -> bool:
        ran = job.run(here=True)
        if ran:
            self._pumps.forget(job)
        return ran

    def close(self) -> bool:
        """Drop what waits and wait for what runs: no task outlives the iteration. May be called twice.

        False where a task may still run: this thread is in the middle of it, or it took longer than ``timeout_s``.
        """
        self._pending.clear()
        return os.getpid() != self._pid or self._pumps.close(self._timeout_s)
