"""The same test at another commit: its loader runs in a child process and is measured in turns with this one's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Pipe
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from pytest_loaderperf.errors import LoaderError, LoaderHangError
from pytest_loaderperf.measurement import Kind, Record, ShortEpochError
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.record import StartRecord, SteadyRecord
from pytest_loaderperf.worktree import BaseError, Worktree

DESCRIPTOR = "LOADERPERF_BASE"  # environment variable that tells the child its end of the pipe, and where it runs
GRACE_SECONDS = 30.0  # beyond the watchdog's own time: then the child itself hangs
_POLL_SECONDS = 0.2
_LAST_WORDS = 2000  # characters of a child's output in an error
STATE = ("epoch_batches", "warmup_batches", "children", "batch_samples", "batch_nbytes", "build_seconds")


class NoBaseError(BaseError):
    """The commit has no such test, so there is nothing to compare with, and nothing has failed."""


class Base:
    """The tests of ``files`` as commit ``ref`` has them, collected in a child process that serves one loader at a time.

    ``root`` is pytest's rootdir, ``arguments`` what else the child's pytest is told. The child is started at once, with
    the worktree's modules first on its path. ``close`` ends it and removes the worktree.

    Raises BaseError where the commit cannot be checked out or collected.
    """

    def __init__(
        self, ref: str, root: Path, files: Sequence[Path], arguments: Sequence[str], timeout_seconds: float
    ) -> None:
        self.worktree = Worktree(ref, root)
        self._patience_s = timeout_seconds + GRACE_SECONDS
        self._process: subprocess.Popen[bytes] | None = None
        self._output = TemporaryFile()  # noqa: SIM115 closed with this object
        try:
            self._start(root, files, arguments)
        except BaseException:
            self.close()
            raise

    def _start(self, root: Path, files: Sequence[Path], arguments: Sequence[str]) -> None:
        top, there = self.worktree.top, self.worktree.path
        at_base = [there / file.resolve().relative_to(top) for file in files if file.resolve().is_relative_to(top)]
        self._tests: set[str] = set()
        self._problems: dict[str, str] = {}
        if not any(path.exists() for path in at_base):
            return
        self._connection, theirs = Pipe()
        root = there / root.resolve().relative_to(top) if root.resolve().is_relative_to(top) else there
        command = [sys.executable, "-m", "pytest", "-p", "pytest_loaderperf.base_child", "--loaderperf"]
        command += ["-p", "no:cacheprovider", "--continue-on-collection-errors", f"--rootdir={root}", *arguments]
        environment = os.environ | {
            DESCRIPTOR: json.dumps([theirs.fileno(), os.getpid(), str(top), str(there)]),
            "PYTHONPATH": os.pathsep.join(_import_path(top, there)),
        }
        self._process = subprocess.Popen(  # noqa: S603 our own command
            [*command, *(str(path) for path in at_base if path.exists())],
            cwd=root,
            env=environment,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
        )
        theirs.close()
        self._tests, self._problems = self._receive(self._patience_s)

    @property
    def pid(self) -> int:
        """The child's process id, 0 if there is none."""
        return self._process.pid if self._process is not None else 0

    def side(self, nodeid: str, call: int, name: str) -> BaseSide:
        """The loader that test ``nodeid`` gives to its ``call``-th ``loaderperf(...)``, counted from 0.

        Raises NoBaseError where the commit has no such test, BaseError where it fails there before that.
        """
        file = nodeid.partition("::")[0]
        if file in self._problems:
            raise BaseError(f"{self.called}: {file} cannot be collected there.\n{self._problems[file]}")
        if nodeid not in self._tests:
            raise NoBaseError(f"new: no base: {self.called} has no test {nodeid}")
        return BaseSide(self, name, self.ask("serve", nodeid, call))

    @property
    def called(self) -> str:
        """The commit in words."""
        return f"{self.worktree.ref} ({self.worktree.commit[:10]})"

    def ask(self, verb: str, *arguments: Any) -> Any:
        """What the child answers. Raises what it raised, and BaseError where it is dead, silent or answers nonsense."""
        try:
            self._connection.send((verb, *arguments))
        except OSError:
            raise self._died() from None
        kind, *answer = self._receive(self._patience_s)
        if kind == "ok":
            return answer[0]
        text = f"{answer[0]}\n(at {self.called}, in its own process)"
        raise {"hang": LoaderHangError, "short": ShortEpochError, "loader": LoaderError}.get(kind, BaseError)(text)

    def _receive(self, patience_s: float) -> Any:
        deadline_s = time.monotonic() + patience_s
        while not self._connection.poll(_POLL_SECONDS):
            assert self._process is not None
            if self._process.poll() is not None and not self._connection.poll():
                raise self._died()
            if time.monotonic() > deadline_s:
                self._end()
                raise BaseError(
                    f"{self.called}: its process gave no answer for {patience_s:.0f} s, and was ended. "
                    f"Set loaderperf_timeout (seconds) higher if it needs longer.{self._last_words()}"
                )
        try:
            return self._connection.recv()
        except Exception as error:
            died = self._died()
            raise died from error

    def _died(self) -> BaseError:
        self._end()
        status = self._process.returncode if self._process is not None else None
        return BaseError(
            f"{self.called}: its process ended (status {status}) before it answered. Run the test at that commit by "
            f"itself to see why.{self._last_words()}"
        )

    def _last_words(self) -> str:
        self._output.flush()
        self._output.seek(0)
        text = self._output.read().decode("utf-8", "replace").strip()
        return f"\nIts last words:\n{text[-_LAST_WORDS:]}" if text else ""

    def _end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def close(self) -> None:
        """End the child, close the pipe, remove the worktree. May be called twice."""
        if self._process is not None:
            with suppress(OSError):
                self._connection.send(("leave",))
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self._end()
            self._connection.close()
            self._process = None
        self._output.close()
        self.worktree.close()


class BaseSide:
    """A side whose loader lives in the child; it is asked for records, and tells how it stands after each."""

    rebuildable = True
    iterator = None
    epoch_batches: int | None
    batch_samples: int

    def __init__(self, base: Base, name: str, state: dict[str, Any]) -> None:
        self._base, self.name = base, name
        self.starts: list[StartRecord] = []
        self.exits: list[Any] = []
        self.loader_kind: str = state["kind"]
        self.loader = BaseLoader(state["described"])
        self._note(state)
        self._open = True

    def _note(self, state: dict[str, Any]) -> None:
        for name in STATE:
            setattr(self, name, state[name])
        self.children: list[int] = [self._base.pid, *state["children"]]
        self.starts += state["starts"]
        self.exits += state["exits"]

    def _ask(self, verb: str, *arguments: Any) -> Any:
        answer, state = self._base.ask(verb, *arguments)
        self._note(state)
        return answer

    @property
    def called(self) -> str:
        """The side in an error's words."""
        return f"the {self.name} loader at {self._base.called}"

    @property
    def slow(self) -> bool:
        """Whether a batch takes so long that caches need no warming."""
        return self._slow

    @slow.setter
    def slow(self, slow: bool) -> None:
        self._slow = slow
        self._ask("slow", slow)

    def observe(self, kind: Kind, batches: int, conditions: Conditions) -> Record:
        """One record of ``kind``."""
        record: Record = self._ask("observe", kind, batches, conditions)
        return record

    def start(self) -> StartRecord:
        """Begin a new epoch and take its first batch."""
        record: StartRecord = self._ask("start")
        return record

    def take(self, batches: int) -> SteadyRecord | None:
        """Time the next ``batches`` batches; None if the epoch ends before."""
        record: SteadyRecord | None = self._ask("take", batches)
        return record

    def build(self) -> None:
        """Make the loader anew."""
        self._ask("build")

    def short_epoch_error(self) -> ShortEpochError:
        """That the epoch has fewer batches than a trial wants."""
        return ShortEpochError(f"{self.called} gives {self.epoch_batches} batches an epoch, too few for a trial.")

    def close(self) -> None:
        """Release the loader, and let the test at the other commit end. May be called twice."""
        if self._open:
            self._open = False
            with suppress(BaseError):
                self._base.ask("end")


class BaseLoader:
    """Stands for the loader at the other commit, in reports."""

    def __init__(self, described: str) -> None:
        self._described = described

    def __repr__(self) -> str:
        return self._described


def _import_path(top: Path, there: Path) -> list[str]:
    """The import path that finds the worktree's modules first: every folder of the checkout on ours, as it is there."""
    ours = [Path(entry or os.curdir).resolve() for entry in sys.path]
    inside = [path for path in ours if path.is_relative_to(top) and not path.is_relative_to(Path(sys.prefix).resolve())]
    mapped = [there / path.relative_to(top) for path in inside if not path.is_relative_to(there.parent)]
    inherited = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    candidates = [*mapped, there, there / "src"]
    return [str(path) for path in dict.fromkeys(candidates) if path.is_dir()] + inherited
