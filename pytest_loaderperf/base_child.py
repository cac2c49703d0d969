"""In the child process: a pytest plugin that runs the tests it is asked for, and serves the loaders that they make."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_loaderperf.base import DESCRIPTOR, STATE
from pytest_loaderperf.errors import LoaderError, LoaderHangError
from pytest_loaderperf.measurement import ShortEpochError, Side, Watchdog, delivery, resolve_device
from pytest_loaderperf.options import Options
from pytest_loaderperf.results import describe
from pytest_loaderperf.session import session_of
from pytest_loaderperf.sources import BASE
from pytest_loaderperf.worktree import BaseError

_POLL_SECONDS = 1.0  # between two looks whether the parent is still there
_PARALLEL_ELEMENTS = 1 << 17  # so that torch's own threads start before the loader is made
_KINDS = {LoaderHangError: "hang", ShortEpochError: "short", LoaderError: "loader"}


def pytest_configure(config: pytest.Config) -> None:
    descriptor, parent, top, there = json.loads(os.environ.pop(DESCRIPTOR))
    server = Server(Connection(descriptor), parent, Path(top), Path(there))
    config.pluginmanager.register(server, "loaderperf-base-server")


class Server:
    """Answers the parent over ``connection``; ``there`` is the worktree inside the checkout ``top``."""

    def __init__(self, connection: Connection, parent: int, top: Path, there: Path) -> None:
        self._connection, self._parent = connection, parent
        self._top, self._there = top.resolve(), there.resolve()
        self._problems: dict[str, str] = {}
        self._failure = ""
        self._wanted = self._seen = 0
        self._replied = self._ended = self._leaving = False

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._problems[report.nodeid] = str(report.longrepr)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failure = report.longreprtext

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        hooks = session.config.pluginmanager.get_plugin("loaderperf-hooks")
        session.config.pluginmanager.unregister(hooks)  # this run measures nothing by itself, and reports nothing
        session_of(session.config).serve = self.serve

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        if foreign := self._foreign():
            self._problems |= {nodeid.partition("::")[0]: foreign for nodeid in items}
        self._connection.send((set(items), self._problems))
        while not self._leaving and (message := self._receive())[0] == "serve":
            _, nodeid, self._wanted = message
            self._seen, self._failure = 0, ""
            self._replied = self._ended = False
            items[nodeid].config.hook.pytest_runtest_protocol(item=items[nodeid], nextitem=None)
            if self._ended:
                self._connection.send(("ok", None))
            elif not self._replied:
                called = f"{self._wanted + 1} times" if self._wanted else "at all"
                self._send("base", f"{nodeid} ended without calling loaderperf(...) {called}.\n{self._failure}")
        return True

    def serve(self, make_loader: object, options: Options, count: Callable[[Any], int] | None) -> Any:
        """Called by the test in place of measuring: serve this loader until the parent has had enough of it."""
        if self._seen < self._wanted:
            self._seen += 1
            return _Anything()
        self._replied = True
        served = Served(make_loader, options, count, lambda report: self._send("hang", report))
        try:
            going_on = self._answer(served.begin, self._foreign)
            while going_on and (message := self._receive())[0] not in ("end", "leave"):
                self._answer(served.perform, *message)
            self._ended = going_on
            self._leaving = going_on and message[0] == "leave"
        finally:
            served.close()
        pytest.skip("served")

    def _answer(self, function: Callable[..., Any], *arguments: Any) -> bool:
        try:
            answer = function(*arguments)
        except Exception as error:  # noqa: BLE001 told to the parent
            known = next((kind for base, kind in _KINDS.items() if isinstance(error, base)), "")
            self._send(known or "base", str(error) if known or isinstance(error, BaseError) else traceback.format_exc())
            return False
        self._send("ok", answer)
        return True

    def _send(self, kind: str, content: Any) -> None:
        self._connection.send((kind, content))

    def _receive(self) -> Any:
        while not self._connection.poll(_POLL_SECONDS):
            if os.getppid() != self._parent:
                os._exit(1)
        try:
            return self._connection.recv()
        except EOFError:
            return ("leave",)

    def _foreign(self) -> str:
        """What is wrong with where modules come from; nothing if all of the worktree's are its own."""
        ours = {path.stem for folder in (self._there, self._there / "src") for path in folder.glob("*.py")}
        ours |= {
            path.parent.name for folder in (self._there, self._there / "src") for path in folder.glob("*/__init__.py")
        }
        found = {}
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file is None or name.partition(".")[0] == "pytest_loaderperf":
                continue
            path = Path(file).resolve()
            inside = path.is_relative_to(self._top) and not path.is_relative_to(Path(sys.prefix).resolve())
            named = name.partition(".")[0] in ours - sys.stdlib_module_names
            if (inside or named) and not path.is_relative_to(self._there):
                found[name] = path
        if not found:
            return ""
        shown = ", ".join(f"{name} from {path}" for name, path in list(found.items())[:3])
        return (
            f"{len(found)} modules do not come from the other commit's files, so the comparison would mean nothing: "
            f"{shown}. Expected them under {self._there}. Are they compiled, or imported by an absolute path?"
        )


class Served:
    """The loader of one test, as the parent asks for it."""

    def __init__(
        self,
        make_loader: object,
        options: Options,
        count: Callable[[Any], int] | None,
        abandon: Callable[[str], None],
    ) -> None:
        self._watchdog = Watchdog(options.timeout_seconds, abandon)
        torch.ones(_PARALLEL_ELEMENTS).sum()
        deliver = delivery(resolve_device(options.device))
        self._make: Callable[[], Side] = partial(Side, BASE, make_loader, self._watchdog, count=count, deliver=deliver)
        self._side: Side | None = None
        self._told = 0, 0

    def begin(self, foreign: Callable[[], str]) -> dict[str, Any]:
        """Make the loader and start it; ``foreign`` says what is wrong with where it came from."""
        side = self._side = self._make()
        side.start()
        if problem := foreign():
            raise BaseError(problem)
        return self._state(side) | {"kind": type(side.loader).__name__, "described": describe(side.loader)}

    def perform(self, verb: str, *arguments: Any) -> tuple[Any, dict[str, Any]]:
        """The answer to one message, and how the side stands then."""
        side = self._side
        assert side is not None
        if verb == "slow":
            (side.slow,) = arguments
            return None, self._state(side)
        return getattr(side, verb)(*arguments), self._state(side)

    def _state(self, side: Side) -> dict[str, Any]:
        starts, exits = self._told
        self._told = len(side.starts), len(side.exits)
        return {name: getattr(side, name) for name in STATE} | {
            "starts": side.starts[starts:],
            "exits": side.exits[exits:],
        }

    def close(self) -> None:
        """Release the loader."""
        if self._side is not None:
            self._side.close()
        self._watchdog.close()


class _Anything:
    """Stands for the runs before the one that is served: every claim on it holds."""

    def __getattr__(self, name: str) -> _Anything:
        return self

    def __call__(self, *_arguments: object, **_keywords: object) -> _Anything:
        return self

    def _itself(self, _other: object) -> _Anything:
        return self

    __getitem__ = __mul__ = __rmul__ = __truediv__ = _itself

    def _holds(self, _other: object) -> bool:
        return True

    __lt__ = __le__ = __gt__ = __ge__ = _holds
