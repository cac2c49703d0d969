"""In the child process: a pytest plugin that runs the tests it is asked for, and serves the loaders that they make."""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pytest

from pytest_loaderperf.measurement import Reading
from pytest_loaderperf.options import Options
from pytest_loaderperf.serving import Parent, Served
from pytest_loaderperf.session import session_of
from pytest_loaderperf.sources import BASE
from pytest_loaderperf.worktree import installed


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    # Before anything of the user's runs, which may never return.
    early_config.pluginmanager.register(Server(), "loaderperf-base-server")


class Server:
    """Answers the parent, which has the checkout ``top`` and its worktree ``there`` inside."""

    def __init__(self) -> None:
        self._parent = Parent()
        self._top, self._there = (Path(told).resolve() for told in self._parent.told)
        self._problems: dict[str, str] = {}
        self._failure = ""
        self._wanted = self._seen = 0
        self._replied = False
        self._left = ""

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._problems[report.nodeid] = str(report.longrepr)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failure = report.longreprtext
        elif report.skipped and not self._failure:
            self._failure = f"It was skipped there: {report.longrepr[2]}" if isinstance(report.longrepr, tuple) else ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session) -> None:
        # Before the collection's end, when a run that collected nothing to measure is refused.
        hooks = session.config.pluginmanager.get_plugin("loaderperf-hooks")
        session.config.pluginmanager.unregister(hooks)  # this run measures nothing by itself, and reports nothing
        session_of(session.config).serve = self.serve

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        if foreign := self._foreign():
            self._problems |= {nodeid.partition("::")[0]: foreign for nodeid in items}
        parent = self._parent
        parent.send("ok", (set(items), self._problems))
        while self._left != "leave" and (message := parent.receive())[0] == "serve":
            _, nodeid, self._wanted = message
            self._seen, self._failure, self._replied, self._left = 0, "", False, ""
            items[nodeid].config.hook.pytest_runtest_protocol(item=items[nodeid], nextitem=None)
            if self._left == "end":
                parent.send("ok", None)
            elif not self._replied:
                called = f"{self._wanted + 1} times" if self._wanted else "at all"
                parent.send("other", f"{nodeid} ended without calling loaderperf(...) {called}.\n{self._failure}")
        return True

    def serve(self, make_loader: object, options: Options, reading: Reading) -> Any:
        """Called by the test in place of measuring: serve this loader until the parent has had enough of it."""
        if self._seen < self._wanted:
            self._seen += 1
            return _Anything()
        served = Served(BASE, make_loader, options, lambda: reading, self._parent)
        self._replied = True
        self._left = self._parent.serve(served, self._foreign)
        pytest.skip("served")

    def _foreign(self) -> str:
        """What is wrong with where modules come from; nothing if all of the worktree's are its own."""
        folders = [Path(entry).resolve() for entry in sys.path]
        folders = [folder for folder in folders if folder.is_relative_to(self._there)]
        ours = {path.stem for folder in folders for path in folder.glob("*.py")}
        ours |= {path.parent.name for folder in folders for path in folder.glob("*/__init__.py")}
        ours |= _installed_from(self._top)
        found = {}
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            if file is None or name.partition(".")[0] == "pytest_loaderperf":
                continue
            path = Path(file).resolve()
            inside = path.is_relative_to(self._top) and not installed(path)
            named = name.partition(".")[0] in ours - sys.stdlib_module_names
            if (inside or named) and not path.is_relative_to(self._there):
                found[name] = path
        if not found:
            return ""
        shown = ", ".join(f"{name} from {path}" for name, path in list(found.items())[:3])
        return (
            f"{len(found)} modules do not come from the other commit's files, so the comparison would mean nothing: "
            f"{shown}. Expected them under {self._there}. Are they compiled, or imported by an absolute path? If they "
            "lie in another folder than the project's or its src, name that in pytest's ini key pythonpath."
        )


def _installed_from(top: Path) -> set[str]:
    """Modules and packages that are copies, made by an installer, of what lies in the checkout ``top``."""
    names = set()
    for distribution in metadata.distributions():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        place = urlsplit(origin.get("url", ""))
        if (
            place.scheme == "file"
            and not origin.get("dir_info", {}).get("editable")
            and Path(url2pathname(place.path)).resolve().is_relative_to(top)
        ):
            names |= {file.parts[0].partition(".")[0] for file in distribution.files or ()}
    return names


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
