"""Calls in another process, because libraries in C, C++ or Rust may crash on damaged files."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

from pytest_loaderperf.errors import DataError

R = TypeVar("R")
_CODE = "from pytest_loaderperf.data.checks.isolated import serve; serve()"
_MOST_THREADS = 64  # of the child, one for each call


class CrashedError(DataError):
    """The process of a call ended before the call did."""


class _EndedError(Exception):
    """The child has ended. ``guilty``: no other call was running, so this one ended it."""

    def __init__(self, status: int, *, guilty: bool) -> None:
        super().__init__(status)
        self.status, self.guilty = status, guilty


class Isolated(Generic[R]):
    """``function`` called in a child process, from any number of threads. The child is started by the first call.

    A call whose process ends is repeated alone in another one, unless it was alone. If that ends as well, it raises
    CrashedError with the signal. Errors of ``function`` are raised unchanged. ``function``, its arguments and results
    must pickle. ``told`` receives what ``function`` passes to its keyword argument of that name, if it has one.
    """

    def __init__(self, function: Callable[..., R], told: Callable[[str], object] | None = None) -> None:
        self._function, self._told = function, told
        self._lock, self._lock_alone = threading.Lock(), threading.Lock()
        self._shared: _Child | None = None
        self._alone: _Child | None = None

    def __call__(self, *args: Any) -> R:
        """The result of the function. Raises CrashedError, or what the function raises."""
        with self._lock:
            if self._shared is None or self._shared.ended:
                self._shared = _Child()
            child = self._shared
        try:
            return cast("R", child.call(self._function, args, self._told))
        except _EndedError as error:
            if error.guilty:
                raise _crashed(error) from None
        with self._lock_alone:
            if self._alone is None or self._alone.ended:
                self._alone = _Child()
            try:
                return cast("R", self._alone.call(self._function, args, self._told))
            except _EndedError as error:
                raise _crashed(error) from None

    def close(self) -> None:
        """End the child. May be called twice."""
        for child in (self._shared, self._alone):
            if child is not None:
                child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _crashed(error: _EndedError) -> CrashedError:
    how = f"status {error.status}"
    if error.status < 0:
        how = signal.Signals(-error.status).name
    return CrashedError(f"crashes the library that reads it ({how}). Write it again, or give an undamaged file.")


class _Child:
    """A process that answers calls."""

    def __init__(self) -> None:
        paths = [path or str(Path.cwd()) for path in sys.path]
        self._process = subprocess.Popen(  # noqa: S603 our own interpreter and code
            [sys.executable, "-P", "-c", _CODE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries write long logs there when they crash
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
        self._lock = threading.Lock()
        self._waiting: dict[int, SimpleQueue[tuple[str, Any]]] = {}
        self._calls = 0
        self.ended = False
        self._receiver = threading.Thread(target=self._receive, name="loaderperf-isolated", daemon=True)
        self._receiver.start()

    def call(self, function: Callable[..., Any], args: tuple[Any, ...], told: Callable[[str], object] | None) -> Any:
        """The result of the function. Raises _EndedError, or what the function raises."""
        answers: SimpleQueue[tuple[str, Any]] = SimpleQueue()
        assert self._process.stdin is not None
        with self._lock:
            if self.ended:
                raise _EndedError(0, guilty=False)
            self._calls += 1
            number = self._calls
            self._waiting[number] = answers
            with suppress(BrokenPipeError):  # the receiver reports how it ended
                self._process.stdin.write(pickle.dumps((number, function, args, *([] if told is None else ["told"]))))
                self._process.stdin.flush()
        while True:
            kind, value = answers.get()
            if kind == "told":
                assert told is not None
                told(value)
            elif kind == "done":
                return value
            else:
                raise value

    def _receive(self) -> None:
        assert self._process.stdout is not None
        try:
            while True:
                number, kind, value = pickle.load(self._process.stdout)  # noqa: S301 our own child's
                with self._lock:
                    answers = self._waiting[number] if kind == "told" else self._waiting.pop(number)
                answers.put((kind, value))
        except Exception:  # noqa: BLE001 anything that is not an answer is the end
            self._process.kill()
        status = self._process.wait()
        with self._lock:
            self.ended = True
            for answers in self._waiting.values():
                answers.put(("failed", _EndedError(status, guilty=len(self._waiting) == 1)))
            self._waiting.clear()
            for pipe in (self._process.stdin, self._process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):  # while a call was written
                    pipe.close()

    def close(self) -> None:
        self._process.kill()
        self._receiver.join()


def serve() -> None:
    """The child: answer calls from its standard input, until that is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    calls, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the output of libraries is not an answer
    lock = threading.Lock()

    def answer(number: int, kind: str, value: Any) -> None:
        try:
            content = pickle.dumps((number, kind, value))
            pickle.loads(content)  # noqa: S301 some errors of libraries pickle, but cannot be read
        except Exception:  # noqa: BLE001 the text of an error is enough
            content = pickle.dumps((number, "failed", DataError(f"{type(value).__name__}: {value}")))
        with lock:
            answers.write(content)
            answers.flush()

    def work(number: int, function: Callable[..., Any], args: tuple[Any, ...], *told: str) -> None:
        keywords = {name: partial(answer, number, "told") for name in told}
        try:
            value = function(*args, **keywords)
        except BaseException as error:  # noqa: BLE001 raised in the parent
            answer(number, "failed", error)
        else:
            answer(number, "done", value)

    with ThreadPoolExecutor(_MOST_THREADS) as pool:
        while True:
            try:
                call = pickle.load(calls)  # noqa: S301 the parent's
            except EOFError:
                os._exit(0)  # without waiting for other threads
            pool.submit(work, *call)
