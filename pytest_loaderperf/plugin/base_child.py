"""In the child process: a pytest plugin that runs the requested tests, and serves the loaders that they make."""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_loaderperf.measurement import Reading
from pytest_loaderperf.plugin.base_missing import why_missing
from pytest_loaderperf.plugin.base_modules import foreign, untracked
from pytest_loaderperf.plugin.session import session_of
from pytest_loaderperf.remote.invocation import neutral
from pytest_loaderperf.remote.naming import Call, call_name
from pytest_loaderperf.remote.server import Parent, Served
from pytest_loaderperf.remote.worktree import remove_abandoned
from pytest_loaderperf.runs.diagnosed import ledger_of
from pytest_loaderperf.runs.options import Options
from pytest_loaderperf.runs.sides import BASE

# Options that belong only to the parent's run, by the names under which pytest and its plugins keep them. Here they get
# their defaults, whether they are set on the command line, in PYTEST_ADDOPTS or in an ini file's addopts.
_ALONE = {
    # reports
    *("xmlpath", "pastebin", "durations", "htmlpath", "json_report", "json_report_file", "report_log", "csv_path"),
    *("allure_report_dir", "md_report", "md_report_output", "cov_source", "profile", "profile_svg", "memray"),
    *("benchmark_json", "benchmark_save", "benchmark_autosave", "benchmark_histogram"),
    *("loaderperf_json", "loaderperf_html", "loaderperf_asv", "loaderperf_base"),
    # caches
    *("lf", "failedfirst", "newfirst", "cacheclear", "cacheshow", "stepwise", "stepwise_skip", "stepwise_reset"),
    # other processes
    *("numprocesses", "maxprocesses", "tx", "px", "dist", "distload", "looponfail"),
    # the terminal's user
    *("usepdb", "trace", "collectonly", "setuponly", "setupplan", "setupshow", "pyargs"),
}
_COUNTS = {"copies_per_batch", "executors_made", "files_opened", "leaks", "syncs_per_batch"}  # of a Run
_TIDY_SECONDS = 20.0  # forked workers of a killed run end within 5 s, and keep its lock until then


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser) -> Generator[None]:
    # Before any code of the user runs, which may never return.
    server = Server(vars(parser.parse_known_args([])))
    server.keep_to_itself(early_config.known_args_namespace)
    early_config.pluginmanager.register(server, "loaderperf-base-server")
    return (yield)


class Server:
    """Answers the parent, which has the checkout ``top``, its worktree ``there``, and a folder for this process."""

    def __init__(self, defaults: dict[str, Any]) -> None:
        self._parent = Parent(_tidy)
        top, there, self._folder = self._parent.told
        self._top, self._there = Path(top).resolve(), Path(there).resolve()
        self._defaults = {name: value for name, value in defaults.items() if name in _ALONE}
        self._spelled: list[str] = []
        self._problems: dict[str, str] = {}
        self._deselected: list[pytest.Item] = []
        self._failure = ""
        self._wanted = Call(0, "", 0, ())
        self._by_name, self._seen, self._served = True, list[str](), False
        self._left = ""

    def keep_to_itself(self, option: argparse.Namespace) -> None:
        """Reset the options that belong only to the parent's run."""
        for name, value in self._defaults.items():
            setattr(option, name, value)
        option.basetemp = os.path.join(self._folder, "basetemp")  # noqa: PTH118 pytest keeps a string
        option.log_file = os.devnull  # also if an ini file names one
        option.maxfail, option.continue_on_collection_errors = 0, True

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> Generator[None, Any, Any]:
        self.keep_to_itself(config.option)
        _, files, self._spelled = self._parent.receive()
        config.args = [_argument(Path(file), config.invocation_params.dir) for file in files]
        return (yield)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._problems[report.nodeid] = str(report.longrepr)
        elif report.skipped:
            self._problems[report.nodeid] = _skipped(report)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self._deselected += items

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failure = report.longreprtext
        elif report.skipped and not self._failure:
            self._failure = _skipped(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session) -> None:
        # Before the collection's end, when a run that collected nothing to measure is refused.
        hooks = session.config.pluginmanager.get_plugin("loaderperf-hooks")
        session.config.pluginmanager.unregister(hooks)  # this run measures nothing by itself, and reports nothing
        session_of(session.config).serve = self.serve

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        items = {self._key(item): item for item in session.items}
        if problem := self._foreign():
            self._problems |= {item.nodeid.partition("::")[0]: problem for item in session.items}
        parent = self._parent
        parent.send("ok", None)
        while (message := parent.receive())[0] != "leave":
            if message[0] == "serve":
                _, file, inside, self._wanted = message
                self._serve_test(session, items, (file, inside))
            else:  # a test that has ended meanwhile, for example by a time-out
                parent.send("other", f"the test has ended there.\n{self._failure}")
            if self._left == "leave":
                break
        # Without the end of a session, when plugins write reports and caches that would replace the parent's.
        # Each test has run as the last one, so all fixtures have had their ends.
        atexit._run_exitfuncs()  # noqa: SLF001 the user's temporary files
        os._exit(0)

    def _key(self, item: pytest.Item) -> tuple[str, str]:
        return str(item.path), neutral(item.nodeid.partition("::")[2], self._spelled)

    def _serve_test(
        self, session: pytest.Session, items: dict[tuple[str, str], pytest.Item], key: tuple[str, str]
    ) -> None:
        parent, item = self._parent, items.get(key)
        file = os.path.relpath(key[0], session.config.rootpath).replace(os.sep, "/")
        nodeid = f"{file}::{key[1]}"
        self._left = ""
        if item is None or any(_holds(problem, nodeid) for problem in self._problems):
            parent.send(*self._missing(items, key, nodeid))
            return
        self._run(item, by_name=True)
        called = self._seen[self._wanted.number :][:1]
        if called and not self._served:  # under another name
            if called[0] in self._wanted.others:
                parent.send("other", self._in_another_order(nodeid, called[0]))
                return
            self._run(item, by_name=False)
        if self._left == "end":
            parent.send("ok", None)
        elif not parent.answered and not self._left:
            number = self._wanted.number
            called_so = f"{number + 1} times" if number else "at all"
            reached = f"ended without calling loaderperf(...) {called_so}" if len(self._seen) <= number else "was ended"
            parent.send("other", self._with_error(f"{nodeid} {reached}.", self._failure))

    def _run(self, item: pytest.Item, *, by_name: bool) -> None:
        self._by_name, self._seen, self._served, self._failure = by_name, [], False, ""
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)

    def _in_another_order(self, nodeid: str, there: str) -> str:
        return (
            f"{nodeid} calls loaderperf({self._wanted.name}) here, which it does not there: its call "
            f"{self._wanted.number + 1} there is loaderperf({there}), another one of its calls here. "
            "Expected the same factories on both sides: put the new one into a test of its own."
        )

    def _missing(self, items: dict[tuple[str, str], pytest.Item], key: tuple[str, str], nodeid: str) -> tuple[str, str]:
        """The answer for a test that was not collected."""
        for problem, text in self._problems.items():
            if _holds(problem, nodeid):
                return "other", self._with_error(f"{nodeid.partition('::')[0]} cannot be collected there.", text)
        deselected = map(self._key, self._deselected)
        of_file = [[inside for file, inside in keys if file == key[0]] for keys in (items, deselected)]
        why = why_missing(Path(key[0]), key[1], *of_file)
        if not why:
            return "new", nodeid
        return (
            "other",
            f"{nodeid} exists there but was not collected: {why}. Expected it to be collected as it is here.",
        )

    def serve(self, make_loader: object, options: Options, reading: Reading) -> Any:
        """Called by the test instead of measuring: serve this loader until the parent is done with it."""
        if self._served:
            pytest.skip("served")  # the test went on after it: it catches what is raised, as subtests do
        name = neutral(call_name(make_loader), self._spelled)
        self._seen.append(name)
        wanted = self._wanted
        last = Call.last(self._seen)
        if (last[1:3] != wanted[1:3]) if self._by_name else (last.number != wanted.number):
            return Anything(1.0)
        self._served = True
        self._left = self._parent.serve(
            Served(
                BASE,
                make_loader,
                lambda: reading,
                self._parent,
                observe=lambda seconds: self._ledger(make_loader, reading, seconds),
                **options.there,
            ),
            self._foreign,
        )
        pytest.skip("served")

    def _ledger(self, make_loader: object, reading: Reading, seconds: float) -> dict[str, Any]:
        """What the doctor sees of the loader, in files as they are called in the checkout."""
        seen = json.dumps(ledger_of(make_loader, seconds, reading.count).to_json())
        there, top = (json.dumps(os.fspath(path))[1:-1] for path in (self._there, self._top))
        named: dict[str, Any] = json.loads(seen.replace(f"{there}/", f"{top}/"))
        return named

    def _with_error(self, what: str, error: str) -> str:
        return f"{what}{untracked(error, self._top, self._there)}\n{error}"

    def _foreign(self) -> str:
        return foreign(self._top, self._there)


def _argument(file: Path, start: Path) -> str:
    """``file`` as an argument: pytest takes brackets and colons of any folder in it for a test's."""
    return str(file.relative_to(start) if file.is_relative_to(start) else file)


def _tidy(told: Sequence[str]) -> None:
    """Remove what a killed parent can no longer remove: our own files, and the worktree that we run in."""
    top, there, folder = map(Path, told)
    shutil.rmtree(folder, ignore_errors=True)
    deadline_s = time.monotonic() + _TIDY_SECONDS
    while there.exists() and time.monotonic() < deadline_s:
        remove_abandoned(top)
        time.sleep(1.0)


def _holds(collector: str, nodeid: str) -> bool:
    """Whether the test belongs to that collector, whose name is a prefix: a folder, file, class or nothing."""
    collector = collector.removesuffix("/__init__.py")
    return collector in ("", ".") or nodeid.startswith((f"{collector}/", f"{collector}::"))


def _skipped(report: pytest.CollectReport | pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return f"It is an expected failure there (xfail): {report.wasxfail}\n{report.longreprtext}"
    return f"It was skipped there: {report.longrepr[2]}" if isinstance(report.longrepr, tuple) else ""


class Anything(float):
    """Replaces the runs before the one that is served, and their metrics: 1.0, and every claim on it passes.

    The doctor's counts are 0.
    """

    __hash__ = float.__hash__
    findings = verdicts = ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(0.0) if name in _COUNTS else self

    def __call__(self, *_arguments: object, **_keywords: object) -> Any:
        return self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def __index__(self) -> int:
        return 1

    def __iter__(self) -> Any:
        return iter(())

    def __len__(self) -> int:
        return 1

    def _itself(self, *_others: object) -> Any:
        return self

    __getitem__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _itself
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __abs__ = __neg__ = __pos__ = _itself

    def _holds(self, _other: object) -> bool:
        return True

    __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = __contains__ = _holds
