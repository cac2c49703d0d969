"""Whether a pytest run has measured everything that it collected, by what its hooks report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import pytest

_DOCUMENTS, _CUT_SHORT = "loaderperf_documents", "loaderperf_cut_short"  # in what xdist's worker sends
_INTERRUPTED = (None, pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR)


class Unpaired(NamedTuple):
    """A test that needs a base and has none, and why; ``is_new`` if the commit has no such test."""

    nodeid: str
    reason: str
    is_new: bool


class Completeness:
    """A plugin that compares what was collected with what has run to its end.

    Under xdist the tests run in a worker. Its documents are sent with the reports of its tests and passed to ``add``,
    so that a lost worker loses no earlier ones.
    """

    def __init__(self, add: Callable[[Sequence[dict[str, Any]]], None]) -> None:
        self._add = add
        self._expected: set[str] = set()
        self._finished: set[str] = set()
        self.cut_short = False  # something was not collected, not kept, or lost with a worker

    def partial(self, exitstatus: int | None) -> bool:
        """Whether a session with that exit status was interrupted, or a collected test has not run to its end."""
        return exitstatus in _INTERRUPTED or self.cut_short or not self._expected <= self._finished

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.cut_short |= report.failed

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._expected.update(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Iterable[str]) -> None:
        self._expected.update(ids)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._finished.add(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if hasattr(report, "node"):  # xdist's controller: a worker's report
            self._add(vars(report).pop(_DOCUMENTS, []))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        output = getattr(node, "workeroutput", {_CUT_SHORT: True})
        self.cut_short |= output.get(_CUT_SHORT, False)
        self._add(output.get(_DOCUMENTS, []))

    def send(self, message: dict[str, Any], documents: list[dict[str, Any]]) -> None:
        """Put into a worker's last ``message`` those ``documents`` that were not sent with a report."""
        message |= {_DOCUMENTS: documents, _CUT_SHORT: self.cut_short}


def attach(report: pytest.TestReport, documents: list[dict[str, Any]]) -> None:
    """Send ``documents`` to the controller with a worker's ``report``."""
    vars(report)[_DOCUMENTS] = documents
