"""pytest at the ranks of a job: all run the same tests, rank 0 reports, and all end with the same status."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

import pytest

from pytest_loaderperf.plugin.settings import SETTINGS, Settings, measures
from pytest_loaderperf.ranks import RankError
from pytest_loaderperf.ranks.job import own_link, own_world
from pytest_loaderperf.ranks.world import World

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_loaderperf.ranks.link import Link

_MOST_LINES = 25  # of a failure at another rank
_END = "the end of the tests"


def ranks_of(config: pytest.Config) -> Ranks | None:
    """The plugin of this rank; None if this process measures by itself. Raises pytest.UsageError."""
    try:
        world = own_world()
    except RankError as error:
        raise pytest.UsageError(f"--loaderperf: {error}") from None
    if world is None:
        return None
    if getattr(config.option, "tx", None) or hasattr(config, "workerinput"):
        raise pytest.UsageError(
            f"--loaderperf at rank {world.rank} of {world.size}: expected no workers of pytest-xdist, got some. "
            "Measure with -n 0."
        )
    return Ranks(world, config.stash[SETTINGS])


class Ranks:
    """A plugin of the rank ``world`` of a job: what only one rank can do, and what all must do alike.

    It joins the others once the tests are collected.
    """

    def __init__(self, world: World, settings: Settings) -> None:
        self.world, self._settings = world, settings
        self._link: Link | None = None
        self._measuring: set[str] = set()  # tests
        self._out_of_step: RankError | None = None  # why the test that runs has no link
        self._muted = io.StringIO()  # what pytest writes at ranks that do not report
        self._agreed = False
        self._failures: dict[str, str] = {}
        self._others: list[tuple[str, str]] = []  # failures of other ranks: where, and the text

    @property
    def leads(self) -> bool:
        """Whether this rank reports."""
        return self.world.rank == 0

    def shows(self, terminal: TextIO) -> TextIO:
        """Where this rank shows progress."""
        return terminal if self.leads else self._muted

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        if not self.leads and reporter is not None:
            reporter._tw._file = self._muted  # noqa: SLF001 pytest has no public name for it

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        if session.config.option.collectonly:
            self._agreed = True
            return
        try:
            self._link = own_link(self._settings.timeout_seconds)
        except RankError as error:
            raise pytest.UsageError(f"--loaderperf: {error}") from None
        assert self._link is not None
        self._measuring = {item.nodeid for item in session.items if measures(item)}
        try:
            self._link.agree({"tests": [item.nodeid for item in session.items], **self._options()})
        except RankError as error:
            self._agreed = True  # each rank knows
            if self.leads:
                raise pytest.UsageError(f"--loaderperf: {error}") from None
            pytest.exit("the ranks differ", pytest.ExitCode.USAGE_ERROR)

    def _options(self) -> Mapping[str, object]:
        own = self._settings
        return {
            "--loaderperf-base": own.base,
            "--loaderperf-budget": own.budget_seconds,
            "--loaderperf-max-budget": own.max_budget_seconds,
            "--loaderperf-alpha": own.alpha,
            "--loaderperf-device": own.device,
            "--loaderperf-inconclusive": own.inconclusive,
        }

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """All ranks begin the test together, whatever it does on some of them, and however an earlier one ended."""
        if self._link is not None and nodeid in self._measuring:
            self._out_of_step = None
            try:
                self._link.begin(nodeid)
            except RankError as error:
                self._out_of_step = error

    def link_for_test(self) -> Link | None:
        """The link, for the test that runs. Raises RankError if not all ranks run it."""
        if self._out_of_step is not None:
            raise self._out_of_step
        return self._link

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failures.setdefault(report.nodeid, report.longreprtext)

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        """No test begins once a rank is lost: all of them would fail for the reason of the first."""
        if self._link is not None and self._link.lost:
            item.session.shouldfail = "a rank is lost"

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """If a rank is lost, torchrun ends the others, maybe now; it waits 30 s before it kills them."""
        if self._link is not None and self._link.lost:
            self._link.end()

    def end(self, session: pytest.Session) -> None:
        """Give this rank the status that all have: rank 0's, or that of the first other one that failed."""
        link = self._link
        if link is None or self._agreed:
            return
        self._agreed = True
        try:
            link.begin(_END)
            found = link.gather((int(session.exitstatus), self._failures, self.world.host), _END)
            session.exitstatus = self._decided(link, found) if self.leads else link.told(_END)
        except RankError as error:
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
            if self.leads and not any(str(error) in text for text in self._failures.values()):
                self._others.append(("the ranks have not ended together", str(error)))

    def _decided(self, link: Link, found: list[tuple[int, dict[str, str], str]]) -> int:
        for rank, (_, failures, host) in enumerate(found):
            for nodeid in failures.keys() - self._failures.keys():
                self._others.append((f"{nodeid} failed at rank {rank} on {host}", failures[nodeid]))
        status = next((status for status, *_ in found if status), 0)
        link.tell(status)
        return status

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for where, text in self._others:
            terminalreporter.section(where, red=True)
            for line in text.splitlines()[-_MOST_LINES:]:
                terminalreporter.write_line(line)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        if self.leads:
            return
        said = "" if self._agreed else self._muted.getvalue()  # it did not come to the end of its tests
        if self._link is not None and (lost := self._link.without_lead):  # which would have said it
            said += f"loaderperf: rank {self.world.rank} on host {self.world.host}: {lost}\n"
        with suppress(OSError):
            sys.stderr.write(said)
