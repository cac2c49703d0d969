"""A task for whoever comes first: a thread ahead of the consumer, or the consumer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")
Task = Callable[[], T]
_CONSUMER = object()


class Job(Generic[T]):
    """A task that exactly one thread runs: whichever claims it first.

    The consumer may be interrupted anywhere, also when it has just claimed a job or seen its end: neither is then lost.
    ``done``: it has ended. ``queued``: it was handed to a thread.
    """

    __slots__ = ("_claims", "_ended", "_error", "_task", "_value", "done", "queued")
    _value: T

    def __init__(self, task: Task[T]) -> None:
        self._task = task
        self._error: BaseException | None = None
        self._claims: list[object] = []  # the first one is who runs it
        self.done = self.queued = False
        self._ended = threading.Lock()
        self._ended.acquire()

    def _is_claimed_by(self, who: object) -> bool:
        self._claims.append(who)
        return self._claims[0] is who and not self.done

    def run(self, *, here: bool = False) -> bool:
        """Run the task in this thread unless it is claimed; say whether it was run.

        ``here``: in the consumer's thread, where an interrupt comes out at once, and the task is still to be run there.
        """
        if not self._is_claimed_by(_CONSUMER if here else object()):
            return False
        try:
            self._value = self._task()
        except BaseException as error:
            if here and not isinstance(error, Exception):
                raise
            self._error = error  # re-raised in the consumer
        self._end()
        return True

    def fail(self, error: BaseException) -> None:
        """End the job without running it, unless it is claimed."""
        if self._is_claimed_by(object()):
            self._error = error
            self._end()

    def _end(self) -> None:
        self.done = True
        self._ended.release()

    def wait(self, timeout_s: float) -> None:
        """For its end; one thread alone waits."""
        if not self.done and not self._ended.acquire(timeout=timeout_s or -1):
            raise RuntimeError(f"DataLoader timed out after {timeout_s} seconds")  # torch's words

    def result(self) -> T:
        """To be asked for once: a thread that has run the job, and lets go of it late, does not keep its value."""
        if self._error is not None:
            raise self._error
        value = self._value
        del self._value
        return value
