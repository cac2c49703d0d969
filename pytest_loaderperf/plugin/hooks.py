"""The hooks of a pytest run that measures: registered only with --loaderperf."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pytest

from pytest_loaderperf.errors import MOST_OF_PATH, LoaderPerfError, MeasureError, printable, refusal
from pytest_loaderperf.plugin.completeness import Unpaired, attach
from pytest_loaderperf.plugin.outputs import Written
from pytest_loaderperf.plugin.session import session_of
from pytest_loaderperf.plugin.settings import measures
from pytest_loaderperf.ranks import RankError
from pytest_loaderperf.remote import RemoteError

if TYPE_CHECKING:
    from collections.abc import Generator

    from pytest_loaderperf.plugin.session import LoaderPerfSession

_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_UNPAIRED_KEY = "loaderperf_unpaired"
_CLAIMS = (">=", "<=", ">", "<")


def pytest_sessionstart(session: pytest.Session) -> None:
    own = session_of(session.config)
    try:
        from pytest_loaderperf.measurement import resolve_device, steal_seconds

        own.steal_before_seconds = steal_seconds()
        resolve_device(own.settings.device)
    except MeasureError as error:
        raise pytest.UsageError(f"--loaderperf-device: {error}") from None
    except (OSError, MemoryError) as error:  # torch is imported here, and needs files and memory
        raise pytest.UsageError(f"--loaderperf: {refusal(error)}") from None


def pytest_collection_finish(session: pytest.Session) -> None:
    own = session_of(session.config)
    own.files = list(dict.fromkeys(item.path for item in session.items if measures(item)))
    own.other_files = list(dict.fromkeys(item.path for item in session.items if not measures(item)))
    if not session.config.option.collectonly and not any(map(_may_measure, session.items)):
        if hasattr(session.config, "workerinput") or getattr(session.config.option, "tx", None):
            return  # under xdist the controller collects nothing; the end checks what was measured
        raise pytest.UsageError(
            "--loaderperf was given, but no collected test uses the loaderperf fixture: nothing would be measured. "
            "Name the folder or file with such tests, or leave --loaderperf out."
        )


def _may_measure(item: pytest.Item) -> bool:
    """Whether a test measures, or has a fixture that could ask for ours by ``request.getfixturevalue``."""
    found = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})  # pytest has no public name for it
    functions = [definition.func for definitions in found.values() for definition in definitions]
    return measures(item) or any("getfixturevalue" in _names_used(function) for function in functions)


def _names_used(function: object) -> tuple[str, ...]:
    return getattr(getattr(function, "__code__", None), "co_names", ())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Show progress after what the terminal's line shows already."""
    reporter = item.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and measures(item):
        writer = reporter._tw  # noqa: SLF001 as above
        session_of(item.config).progress.room = writer.fullwidth - writer.width_of_current_line - 1
    try:
        return (yield)
    finally:
        session_of(item.config).progress.clear()
        _report_undecided(item)


def _report_undecided(item: pytest.Item) -> None:
    """Add undecided claims that did not fail a test to its report, and so to JUnit's."""
    for run in session_of(item.config).open_runs:
        for verdict in run.verdicts:
            if verdict and verdict.ruling.outcome == "INCONCLUSIVE":
                from pytest_loaderperf.report import undecided

                item.user_properties.append(("loaderperf", undecided(verdict)))
                item.add_report_section("call", "loaderperf", verdict.words)


def pytest_assertrepr_compare(config: pytest.Config, op: str, left: object, right: object) -> list[str] | None:
    metrics = sys.modules.get("pytest_loaderperf.runs.metric")
    if (
        metrics is None
        or op not in _CLAIMS
        or (not isinstance(left, metrics.Metric) and not isinstance(right, metrics.Metric))
    ):
        return None
    from pytest_loaderperf.report import explain

    run = left.run if isinstance(left, metrics.Metric) else right.run  # type: ignore[attr-defined]
    verdict = run.last_verdict(left, op, right)
    if verdict is None:
        return None
    if not verdict and not session_of(config).is_follower:
        sides = [metric.side for metric in (left, right) if isinstance(metric, metrics.Metric)]
        session_of(config).reasons.ask(run, sides)
    return verdict.words.splitlines() or explain(verdict, run.stages)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    own = session_of(session.config)
    try:
        own.finish(exitstatus)  # an interrupt may have skipped the end of a fixture
    finally:
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            own.completeness.send(output, own.take_unsent())
            output[_UNPAIRED_KEY] = [tuple(test) for test in own.unpaired]
    if not own.is_worker:
        _set_status(session, exitstatus, own)
    if own.ranks is not None:
        own.ranks.end(session)


def _set_status(session: pytest.Session, exitstatus: int, own: LoaderPerfSession) -> None:
    ended = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    if ended and not own.documents and not _collects_only(session):
        session.exitstatus = pytest.ExitCode.USAGE_ERROR
    if own.json_error or own.written.problems:
        session.exitstatus = session.exitstatus or pytest.ExitCode.INTERNAL_ERROR
    if own.settings.inconclusive == "fail" and any(not is_new for _, _, is_new in own.unpaired):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def _collects_only(session: pytest.Session) -> bool:
    return bool(session.config.option.collectonly)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    whole = item.config.getoption("fulltrace", default=False)  # there is none without the terminal plugin
    _in_its_own_words(call, whole=whole)
    report = yield
    own = session_of(item.config)
    if call.when == "call":
        said = own.reasons.take()  # also if the test passes in spite of it
        for title, lines in said if report.failed else ():
            add = getattr(report.longrepr, "addsection", lambda *section: report.sections.append(section))
            add(title, "\n".join(lines))
    if own.is_worker and call.when == "teardown":
        attach(report, own.take_unsent())
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist: send its one worker how pytest was called, so that the base's child is called the same way."""
    from pytest_loaderperf.remote.invocation import ARGUMENTS_KEY

    node.workerinput[ARGUMENTS_KEY] = [os.fspath(argument) for argument in node.config.invocation_params.args]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """xdist: take over what its one worker measured."""
    own, output = session_of(node.config), getattr(node, "workeroutput", {})
    own.unpaired.extend(Unpaired(*test) for test in output.get(_UNPAIRED_KEY, []))


def _in_its_own_words(call: pytest.CallInfo[None], *, whole: bool) -> None:
    """Show an error that this package explains without its own lines, which would not help; ``whole``: with them.

    An error about the base, or another rank, has no traceback at all.
    """
    error = call.excinfo.value if call.excinfo is not None else None
    if call.excinfo is not None and isinstance(error, (RemoteError, RankError)):
        failed = pytest.fail.Exception(str(error), pytrace=False)
        call.excinfo = pytest.ExceptionInfo.from_exc_info((type(failed), failed, call.excinfo.tb))
    elif isinstance(error, LoaderPerfError) and not whole:
        call.excinfo = pytest.ExceptionInfo.from_exception(error.with_traceback(_without_ours(error)))
        while (error := error.__cause__) is not None:
            error.__traceback__ = _without_ours(error)


def _without_ours(error: BaseException) -> TracebackType | None:
    """An error's traceback without the lines of this package."""
    kept: TracebackType | None = None
    parts, part = [], error.__traceback__
    while part is not None:
        parts.append(part)
        part = part.tb_next
    for one in reversed(parts):
        if not one.tb_frame.f_code.co_filename.startswith(_PACKAGE):
            kept = TracebackType(kept, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return kept


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    own = session_of(config)
    if config.option.collectonly:
        return
    write = terminalreporter.write_line
    if not own.documents:
        terminalreporter.section("loaderperf", red=True)
        write("--loaderperf was given, but nothing was measured: no test called loaderperf(...) to its end.", red=True)
        if own.unpaired:
            from pytest_loaderperf.report import unpaired_lines

            for line in unpaired_lines(own.unpaired):
                write(line.text, yellow=True)
        _show_written(terminalreporter, own.written)
        return
    from pytest_loaderperf.report import summary_lines, table_lines, unheeded_lines

    terminalreporter.section("loaderperf")
    width = terminalreporter._tw.fullwidth  # noqa: SLF001 as above
    summary = summary_lines(own.documents, own.settings.alpha, own.unpaired)
    summary += unheeded_lines(own.documents, _passed(terminalreporter))
    for line in [*table_lines(own.documents, width), *summary]:
        write(line.text, **({line.color: True} if line.color else {}))
    if new := sum(is_new for _, _, is_new in own.unpaired):
        who, them = ("test has", "it") if new == 1 else ("tests have", "them")
        write(f"{new} {who} no base: new, the base commit does not have {them}")
    if own.same_base:
        write(
            f"no tracked file differs from the base, {printable(own.same_base)}: both sides are the same code",
            yellow=True,
        )
    if own.json_error:
        write(f"--loaderperf-json: {own.json_error}", red=True)
    elif own.settings.json_path is not None:
        write(f"result written to {printable(own.settings.json_path, MOST_OF_PATH)}")
    _show_written(terminalreporter, own.written)


def _passed(terminalreporter: pytest.TerminalReporter) -> set[str]:
    """Tests that passed, at their first try, in all subtests and with all their fixtures."""
    found = [report for reports in terminalreporter.stats.values() for report in reports]
    reports = [report for report in found if isinstance(report, pytest.TestReport)]
    called = {report.nodeid for report in reports if report.when == "call"}
    return called - {report.nodeid for report in reports if not report.passed}


def _show_written(terminalreporter: pytest.TerminalReporter, written: Written) -> None:
    for text in written.lines:
        terminalreporter.write_line(text)
    for note in written.notes:
        terminalreporter.write_line(note, yellow=True)
    for problem in written.problems:
        terminalreporter.write_line(problem, red=True)


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    own = session_of(config)
    try:
        own.finish(None)  # if a plugin, or Ctrl-C, stopped the session's end before us
    finally:
        own.terminal.close()
