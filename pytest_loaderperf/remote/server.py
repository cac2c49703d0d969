"""In a child process: serves one loader to the parent, which asks for its records."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from threading import Lock, Thread
from typing import Any

from pytest_loaderperf.errors import LoaderError, LoaderHangError, ShortEpochError
from pytest_loaderperf.measurement import Reading, Side, Watchdog, delivery, resolve_device
from pytest_loaderperf.measurement.ahead import torch_threads
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.factory import describe
from pytest_loaderperf.measurement.record import SteadyRecord
from pytest_loaderperf.measurement.tracing import untraced
from pytest_loaderperf.remote import RemoteError
from pytest_loaderperf.remote.child import DESCRIPTOR, STATE
from pytest_loaderperf.remote.output import printing_to
from pytest_loaderperf.remote.player import SETTLE_SECONDS
from pytest_loaderperf.remote.replay import Relayed

_LONG_SLICE_SECONDS = 0.001  # in which the kernel may run another process on the same CPU
_POLL_SECONDS = 1.0  # interval of checking that the parent still exists
_KINDS = {LoaderHangError: "hang", ShortEpochError: "short", LoaderError: "loader"}


class Parent:
    """The pipe to the parent, and ``told``, from the environment. This process ends when the parent is gone.

    ``answered`` is whether the last message has its answer; ``tidy`` is called, with ``told``, when the parent is gone.
    """

    def __init__(self, tidy: Callable[[Sequence[str]], None] = lambda told: None) -> None:
        self.answered = False
        self._number = 0  # of the message to answer
        self._lock = Lock()
        descriptor, self._pid, self._outputs, *self.told = json.loads(os.environ.pop(DESCRIPTOR))
        for inherited in (descriptor, *self._outputs):
            os.set_inheritable(inherited, False)  # not by programs that the loader starts
        self._connection = Connection(descriptor)
        self._tidy, self._tidying = tidy, Lock()  # both threads may find the parent gone
        Thread(target=self._outlive_not, name="loaderperf-parent", daemon=True).start()

    def _outlive_not(self) -> None:
        while os.getppid() == self._pid:
            time.sleep(_POLL_SECONDS)
        self._leave_nothing()
        os._exit(1)

    def _leave_nothing(self) -> None:
        with self._tidying, suppress(Exception):  # nobody is left to report it to
            self._tidy(self.told)

    def answer(self, function: Callable[..., Any], *arguments: Any) -> bool:
        """Send what the function returns, or that it raised; whether it returned."""
        try:
            answer = function(*arguments)
        except Exception as error:  # noqa: BLE001 sent to the parent
            known = next((kind for base, kind in _KINDS.items() if isinstance(error, base)), "")
            told = known or isinstance(error, RemoteError)
            self.send(known or "other", str(error) if told else traceback.format_exc())
            return False
        self.send("ok", answer)
        return True

    def send(self, kind: str, content: Any) -> None:
        """Send an answer to the last message."""
        with self._lock:  # the watchdog answers, too
            self._connection.send((self._number, kind, content))
            self.answered = True

    def receive(self) -> Any:
        """The next message; ("leave",) once the parent has closed its end."""
        try:
            self._number, *message = self._connection.recv()
        except (EOFError, ConnectionError):
            self._leave_nothing()
            return ("leave",)
        self.answered = False
        return tuple(message)

    def serve(self, served: Served, check: Callable[[], str]) -> str:
        """Answer until the parent is done; its last word, or nothing if the loader failed to start.

        ``check`` says what is wrong with the loader's origin.
        """
        try:
            with printing_to(self._outputs), untraced(starting=True):
                if not self.answer(served.begin, check):
                    return ""
                while (message := self.receive())[0] not in ("end", "leave"):
                    self.answer(served.perform, *message)
                return str(message[0])
        finally:
            served.close()


class Served:
    """The loader of one test, as the parent asks for it; ``reading`` says how its batches are read.

    ``observe``: has the doctor observe the loader for some seconds, and returns what it saw, as JSON values.
    """

    def __init__(
        self,
        name: str,
        make_loader: object,
        reading: Callable[[], Reading],
        parent: Parent,
        *,
        device: str,
        timeout_s: float,
        observe: Callable[[float], dict[str, Any]] | None = None,
    ) -> None:
        self._observe = observe
        self._watchdog = Watchdog(timeout_s, partial(parent.send, "hang"))
        torch_threads()  # they start now, so they do not count as a loader's
        self._name, self._source, self._device, self._reading = name, make_loader, device, reading
        self._side: Side | None = None
        self._replayed: Relayed | None = None
        self._slice_s = 0.0  # of the latest slice
        self._told = 0, 0
        self._conditions = Conditions.now()

    def begin(self, foreign: Callable[[], str]) -> dict[str, Any]:
        """Make the loader and start it; ``foreign`` says what is wrong with its origin."""
        reading = self._reading()
        deliver = reading.after(delivery(resolve_device(self._device)))
        side = self._side = Side(self._name, self._source, self._watchdog, count=reading.count, deliver=deliver)
        self._replayed = Relayed(side, self._watchdog)
        side.start()
        if problem := foreign():
            raise RemoteError(problem)
        said = {name: getattr(side.loader, name, None) for name in ("num_workers", "persistent_workers")}
        return self._state(side) | {
            "kind": type(side.loader).__name__,
            "described": describe(side.loader),
            "declared": {name: value for name, value in said.items() if isinstance(value, int)},
        }

    def perform(self, verb: str, *arguments: Any) -> tuple[Any, dict[str, Any]]:
        """The answer to one message, and the side's state afterwards."""
        side = self._side
        assert side is not None
        if verb in ("ready", "slice"):
            batches, conditions, *warm = arguments
            if self._slice_s > _LONG_SLICE_SECONDS:
                time.sleep(SETTLE_SECONDS)
            with conditions.hold():
                done = side.ready(batches, warm=warm[0]) if warm else side.take(batches)
            self._slice_s = done.wall_ns * 1e-9 if isinstance(done, SteadyRecord) else 0.0
            return done, self._state(side)
        if verb == "replay":
            assert self._replayed is not None
            return self._replayed.perform(*arguments), self._state(side)
        if verb == "state":
            return None, self._state(side)
        self._conditions.restore()
        if verb == "ledger":
            assert self._observe is not None
            return self._observe(*arguments), self._state(side)
        if verb == "slow":
            (side.slow,) = arguments
            return None, self._state(side)
        return getattr(side, verb)(*arguments), self._state(side)

    def _state(self, side: Side) -> dict[str, Any]:
        starts, epochs = self._told
        self._told = len(side.starts), len(side.epochs)
        return {name: getattr(side, name) for name in STATE} | {
            "starts": side.starts[starts:],
            "epochs": side.epochs[epochs:],
        }

    def close(self) -> None:
        """Release the loader."""
        if self._replayed is not None:
            self._replayed.close()
        if self._side is not None:
            self._side.close()
        self._watchdog.close()
