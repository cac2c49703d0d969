"""The end of the pipe that asks: a loader's process, its trials, and what is recorded of them."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pytest_loaderperf.engines.process_tree import Tree
from pytest_loaderperf.engines.record import Row, Trial, calibrated

BUILD_WITHIN_S = REPLY_WITHIN_S = 120.0  # some start processes for each epoch, on a machine that may be busy
QUIT_WITHIN_S = 10.0
WARM_BATCHES = 16  # more than any of them prefetches on few cores
WARM_A_CORE = 4
TAIL = 160  # characters of a reason: the width of a table


class ChildError(Exception):
    """The child answered with a problem, hung, or is dead; the text says which."""


class Child:
    """A loader in its own process, which ``command`` starts. ``row`` is its result, ``facts`` its first answer."""

    def __init__(
        self, row: Row, command: Sequence[str], folder: Path, *, cores: int, environment: Mapping[str, str]
    ) -> None:
        self.row = row
        self.facts: dict[str, Any] = {}
        self._log = folder / "log.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 our own command
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **environment},
            )
        self._tree = Tree(self._process.pid)
        self._warm = max(WARM_BATCHES, WARM_A_CORE * cores)
        self._batches = 0
        self._rested: tuple[float, float] | None = None

    def _died(self) -> ChildError:
        words = self._log.read_text(errors="replace").strip().splitlines() or ["it left no message"]
        return ChildError(f"died: {words[-1]}")

    def _answer(self, within_s: float) -> dict[str, Any]:
        pipe = self._process.stdout
        assert pipe is not None
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            if not selector.select(within_s):
                raise ChildError(f"no answer within {within_s:.0f} s")
        line = pipe.readline()
        if not line:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        if "problem" in answer:
            raise ChildError(str(answer["problem"]))
        return answer

    def _ask(self, do: str, **more: int) -> dict[str, Any]:
        pipe = self._process.stdin
        assert pipe is not None
        try:
            pipe.write(json.dumps({"do": do, **more}).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError:
            raise self._died() from None
        return self._answer(REPLY_WITHIN_S)

    def attempt(self, step: Callable[[], object]) -> None:
        """Do ``step``; if it fails, the reason becomes the row's text and the child ends."""
        if self.row.problem is not None:
            return
        try:
            step()
        except ChildError as error:
            self.row.problem = str(error)[:TAIL].replace("\n", " ")
            self._tree.end()

    def started(self) -> None:
        """Wait for the loader. Raises ChildError with the reason if it cannot be built."""
        self.facts = self._answer(BUILD_WITHIN_S)
        if "unable" in self.facts:
            self.row.unable = True
            raise ChildError(self.facts["unable"])
        self.row.how, self.row.batch_size = self.facts["how"], self.facts["batch_size"]
        self.row.base_nbytes = self._tree.pss_nbytes()

    def checked(self) -> None:
        """Let the child check its batches; the answer joins ``facts``."""
        self.facts |= self._ask("check")

    def prepared(self) -> None:
        """Choose how many batches a trial takes."""
        self.row.epoch_batches = -(-self.facts["samples"] // self.row.batch_size)
        few = min(self._warm, self.row.epoch_batches)
        self._ask("trial", warm=0, batches=few)
        took_ns = self._ask("trial", warm=0, batches=few)["ns"]
        self._batches = calibrated(self.row.epoch_batches, took_ns / few)
        self._rest()

    def _rest(self) -> float:
        cpu_s = self._tree.settled_cpu_s()
        self._rested = (cpu_s, time.monotonic())
        return cpu_s

    def turn(self, number: int, *, times_first: bool) -> None:
        """One trial, and the time to the first batch if wanted."""
        began_s = time.monotonic()
        self.attempt(lambda: self._trial(number))
        if times_first:
            self.attempt(self._first)
        self.row.spent_s += time.monotonic() - began_s

    def _trial(self, number: int) -> None:
        before_s, now_s = self._tree.cpu_s(), time.monotonic()
        if self._rested is not None:
            self.row.idle_cpu_s += before_s - self._rested[0]
            self.row.idle_s += now_s - self._rested[1]
        answer = self._ask("trial", warm=self._warm, batches=self._batches)
        cpu_s = self._rest() - before_s
        trial = Trial(number, answer["ns"], self._batches, answer["taken"], cpu_s)
        self.row.trials.append(trial)
        self.row.pss_nbytes.append(self._tree.pss_nbytes())

    def _first(self) -> None:
        self.row.first_ns.append(self._ask("first")["ns"])
        self._rest()

    def end(self, within_s: float = QUIT_WITHIN_S) -> None:
        """Ask it to end, then make sure. Without ``within_s`` it need not end well."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if self.row.problem else within_s)
        self._tree.end()
        self._process.wait()
        self._process.stdout.close()
