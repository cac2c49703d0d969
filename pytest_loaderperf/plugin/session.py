"""What one pytest session measures: one object, kept in pytest's stash."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

import pytest

from pytest_loaderperf.errors import lines_of, printable, refusal
from pytest_loaderperf.plugin.completeness import Completeness, Unpaired
from pytest_loaderperf.plugin.outputs import Written, write_outputs
from pytest_loaderperf.plugin.ranks import Ranks, ranks_of
from pytest_loaderperf.plugin.reasons import Reasons
from pytest_loaderperf.plugin.settings import ENVIRONMENT, SETTINGS, Settings
from pytest_loaderperf.report.progress import ProgressLine

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_loaderperf.remote.child import RemoteSide
    from pytest_loaderperf.remote.commit import Base
    from pytest_loaderperf.remote.naming import Call
    from pytest_loaderperf.runs.options import Options
    from pytest_loaderperf.runs.run import Run

Document = dict[str, Any]


@dataclass
class LoaderPerfSession:
    """Settings, the runs that are open, and the documents of those that are done."""

    settings: Settings
    progress: ProgressLine
    terminal: TextIO
    ranks: Ranks | None = None  # if this is a rank of a job
    open_runs: list[Run] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    places: dict[str, Document] = field(default_factory=dict)  # of tests, by the name of the run: file and line
    steal_before_seconds: float = 0.0
    json_error: str | None = None
    written: Written = field(default_factory=lambda: Written([], [], []))
    serve: Callable[..., Any] | None = None  # in the child process of another commit's loaders
    files: list[Path] = field(default_factory=list)  # of the tests that measure
    other_files: list[Path] = field(default_factory=list)  # of other tests, which may still measure
    unpaired: list[Unpaired] = field(default_factory=list)  # if a base was requested
    base_commit: str | None = None
    same_base: str = ""  # a commit to compare with that is what is checked out
    is_worker: bool = False  # of xdist, whose controller writes the result, or of a job, whose rank 0 does
    completeness: Completeness = field(init=False)
    reasons: Reasons = field(init=False)
    _machine: dict[str, object] = field(default_factory=dict)
    _repository: dict[str, str | None] = field(default_factory=dict)
    _ended: bool = False
    _bases: dict[str, Base] = field(default_factory=dict)
    _no_bases: dict[str, str] = field(default_factory=dict)  # and why
    _next_alpha: Callable[[], float] | None = None

    @property
    def is_follower(self) -> bool:
        """Whether this is a rank that does not report."""
        return self.ranks is not None and not self.ranks.leads

    def __post_init__(self) -> None:
        self.completeness = Completeness(self.add_documents)
        self.reasons = Reasons(self.settings.doctor_seconds)

    def options(
        self,
        *,
        budget: object = None,
        device: object = None,
        timeout: object = None,
        max_budget: object = None,
        inconclusive: object = None,
        silent: object = (),
        make_base: Callable[[], Any] | None = None,
    ) -> Options:
        """Options of one test; ``None`` means the session's own. Raises ClaimError for bad values."""
        from pytest_loaderperf.runs.options import Options, alpha_shares, known_rules, max_budget_for
        from pytest_loaderperf.units import as_seconds

        if self._next_alpha is None:
            self._next_alpha = alpha_shares(self.settings.alpha)

        def chosen(value: object, default: float, what: str) -> float:
            return default if value is None else as_seconds(value, what, "10 or 10 * s", bare=True)

        base: dict[str, Any] = {} if make_base is None else {"make_base": make_base}
        own, what = self.settings, "the marker's max_budget"
        budget_seconds = chosen(budget, own.budget_seconds, "the marker's budget")
        max_seconds = chosen(max_budget, own.max_budget_seconds, what)
        return Options(
            budget_seconds=budget_seconds,
            max_budget_seconds=max_budget_for(budget_seconds, max_seconds, what, own.max_budget_seconds),
            inconclusive=own.inconclusive if inconclusive is None else str(inconclusive),
            device=self.settings.device if device is None else str(device),
            timeout_seconds=chosen(timeout, self.settings.timeout_seconds, "the marker's timeout"),
            next_alpha=self._next_alpha,
            progress=self.progress.show,
            abandon=self.abandon,
            on_close=self.keep,
            silent=known_rules(silent),
            link=None if self.ranks is None else self.ranks.link_for_test(),
            **base,
        )

    def base_side(self, test: pytest.Item, call: Call, base: object) -> RemoteSide:
        """The loader that the same call of the same test makes at the base commit; skips if there is none."""
        from pytest_loaderperf.remote.commit import NoBaseError
        from pytest_loaderperf.remote.worktree import BaseError
        from pytest_loaderperf.runs.sides import BASE

        ref = self.settings.base if base is None else str(base)
        if ref is None:
            pytest.skip("run.base needs a commit to compare with: --loaderperf-base=REF")
        try:
            return self._base(test.config, ref).side(test.nodeid, test.path, call, BASE)
        except NoBaseError as error:
            self._note_unpaired(test, str(error), is_new=True)
            pytest.skip(str(error))
        except BaseError as error:
            self._note_unpaired(test, str(error), is_new=False)
            raise

    def _note_unpaired(self, test: pytest.Item, reason: str, *, is_new: bool) -> None:
        self.unpaired = [other for other in self.unpaired if other.nodeid != test.nodeid]
        self.unpaired.append(Unpaired(test.nodeid, reason, is_new))

    def _base(self, config: pytest.Config, ref: str) -> Base:
        from pytest_loaderperf.remote.commit import Base
        from pytest_loaderperf.remote.invocation import Invocation
        from pytest_loaderperf.remote.worktree import BaseError

        if ref in self._no_bases:
            raise BaseError(self._no_bases[ref])
        if ref not in self._bases:
            self.progress.show(f"checking out {ref}")
            environment, timeout_s = config.stash[ENVIRONMENT], self.settings.timeout_seconds
            invocation = Invocation.of(config, environment, device=self.settings.device, timeout_seconds=timeout_s)
            try:
                base = Base(ref, invocation, self.files, self.other_files, timeout_s)
            except BaseError as error:
                self._no_bases[ref] = str(error)
                raise
            self._bases[ref] = base
            self.base_commit = base.worktree.commit
            self.same_base = base.called if base.worktree.same_code() else self.same_base
        return self._bases[ref]

    def close_bases(self) -> None:
        """End the children and remove their worktrees. May be called twice."""
        with _interrupts_wait():
            while self._bases:
                self._bases.popitem()[1].close()

    def abandon(self, report: str) -> None:
        """Save the results so far before the process ends inside a loader that never returns."""
        self.terminal.write(
            f"\n{lines_of(report)}\nThe loader does not return from native code; the process ends here.\n"
        )
        self.terminal.flush()
        for run in list(self.open_runs):
            with suppress(BaseException):
                self.keep(run)
        with suppress(Exception):  # the main thread may be using it
            self.close_bases()
        if self.documents and not self.is_worker:
            with suppress(Exception):
                write_outputs(self.result(partial=True), self.settings)

    def keep(self, run: Run) -> None:
        """Keep the document of a run that is about to close; once. Fails the test whose loader cannot be described."""
        from pytest_loaderperf.runs.results import document_of

        if run not in self.open_runs:
            return
        try:
            document = document_of(run)
        except BaseException as error:
            self.completeness.cut_short = True
            self._kept(run, document_of(run, asks_loaders=False))
            if isinstance(error, KeyboardInterrupt):
                raise
            # Without a traceback, for which pytest would call the loader's repr again.
            pytest.fail(f"a loader of this test raised {type(error).__name__} when it was described", pytrace=False)
        self._kept(run, document)

    def _kept(self, run: Run, document: Document) -> None:
        self.open_runs.remove(run)
        self.add_documents([document | self.places.get(run.name, {})])

    def add_documents(self, documents: Sequence[Document]) -> None:
        """Add what has been measured, and write the file: the process may be killed at any time."""
        self.documents.extend(documents)
        if documents:
            self.write_json(partial=True)

    def take_unsent(self) -> list[Document]:
        """In xdist's worker: the documents that were not sent to the controller yet."""
        unsent, self.documents = self.documents, []
        return unsent

    def finish(self, exitstatus: int | None) -> None:
        """Write the result of a run that ends with ``exitstatus``, then release what it holds; once.

        None: the session's own end was cut short. An interrupted run also writes if nothing was measured, so that the
        file of an earlier run does not look like its result.
        """
        if self._ended:
            return
        self._ended = True
        runs = list(self.open_runs)
        with _interrupts_wait():
            for run in runs:
                with suppress(BaseException):  # its test is over, so nobody can get the error; the result is partial
                    self.keep(run)
            if self.documents or exitstatus in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR):
                partial = self.completeness.partial(exitstatus)
                self.write_json(partial=partial)
                if not self.is_worker:
                    self.written = write_outputs(self.result(partial=partial), self.settings)
        with ExitStack() as ends:  # each runs, even if others raise
            ends.callback(self.close_bases)
            for run in runs:
                ends.callback(run.close)

    def result(self, *, partial: bool) -> Document:
        """The whole result as one document."""
        from pytest_loaderperf.measurement import machine_facts
        from pytest_loaderperf.report import result_document
        from pytest_loaderperf.runs.results import head_commit, repository_root

        if not self._machine:
            self._machine = machine_facts()
            self._repository = {"commit": head_commit(), "root": repository_root()}
        return result_document(
            machine=self._machine | {"steal_seconds": self.steal_seconds()},
            **self._repository,
            base_commit=self.base_commit,
            alpha=self.settings.alpha,
            runs=self.documents,
            partial=partial,
            without_base=[test._asdict() for test in self.unpaired],
        )

    def steal_seconds(self) -> float:
        """Seconds stolen from this machine since the session began."""
        from pytest_loaderperf.measurement import steal_seconds

        return max(0.0, steal_seconds() - self.steal_before_seconds)

    def write_json(self, *, partial: bool) -> None:
        """Write the result file if one was requested; an error is kept for the summary."""
        from pytest_loaderperf.report import write_json

        if self.settings.json_path is None or self.is_worker:
            return
        self.json_error = None
        try:
            write_json(self.result(partial=partial), self.settings.json_path)
        except (OSError, ValueError) as error:
            self.json_error = printable(f"cannot write {self.settings.json_path}: {error}")


SESSION = pytest.StashKey[LoaderPerfSession]()


def begin(config: pytest.Config) -> None:
    """Put a new session object into pytest's stash."""
    # While a test runs, pytest captures the file descriptors; now they are still the terminal's.
    try:
        out = os.dup(sys.__stdout__.fileno() if sys.__stdout__ else 1)
    except OSError as error:
        raise pytest.UsageError(f"--loaderperf: {refusal(error)}") from None
    terminal = os.fdopen(out, "w", encoding="utf-8", errors="backslashreplace")
    ranks = ranks_of(config)
    progress = ProgressLine(terminal if ranks is None else ranks.shows(terminal))
    own = LoaderPerfSession(config.stash[SETTINGS], progress, terminal, ranks)
    own.is_worker = hasattr(config, "workerinput") or own.is_follower
    config.stash[SESSION] = own
    config.pluginmanager.register(own.completeness, "loaderperf-completeness")
    if ranks is not None:
        config.pluginmanager.register(ranks, "loaderperf-ranks")


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Delay a Ctrl-C in this block until its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
        if received:
            signal.raise_signal(signal.SIGINT)


def session_of(config: pytest.Config) -> LoaderPerfSession:
    """The session object of this pytest run."""
    return config.stash[SESSION]
