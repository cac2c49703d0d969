"""Runs the children of one regime in turns, and records what each trial took."""

from __future__ import annotations

import json
import os
import random
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from suites.peers.loaders import IN_PROCESS, LIMIT, OURS
from suites.peers.process_tree import Tree
from suites.peers.record import Row, Trial, calibrated

BUILD_WITHIN_S, REPLY_WITHIN_S, QUIT_WITHIN_S = 120.0, 60.0, 10.0
WARM_BATCHES = 16  # more than any of them prefetches on few cores
WARM_A_CORE = 4
EXTRA = 2  # more trials a round for the rows that the figures compare
COMPARED = (LIMIT, OURS, IN_PROCESS)
TAIL = 160  # characters of a dead child's last output

# No library may use the network. One intra-op thread: more make gathers of this size slower, on a busy machine many
# times.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LITDATA_DISABLE_VERSION_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "PYTHONWARNINGS": "ignore",
}


class ChildError(Exception):
    """The child answered with a problem, hung, or is dead; the text says which."""


class Child:
    """A loader in its own process. ``row`` is its result."""

    def __init__(self, name: str, regime: str, chosen: int, cores: int, shared: Path) -> None:
        self.row = Row(name, regime)
        self._folder = shared / f"{regime}-{name.replace(' ', '_')}-{chosen}"
        self._folder.mkdir()
        self._log = self._folder / "log.txt"
        command = [sys.executable, "-m", "suites.peers.child", name, regime, str(chosen), str(cores)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 our own command
                [*command, str(shared), str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **ENVIRONMENT, "HF_HOME": str(self._folder)},
            )
        self._tree = Tree(self._process.pid)
        self._warm = max(WARM_BATCHES, WARM_A_CORE * cores)
        self._batches = 0
        self.variants = 1
        self._rested: tuple[float, float] | None = None

    def _died(self) -> ChildError:
        words = self._log.read_text(errors="replace").strip().splitlines() or ["it left no message"]
        return ChildError(f"died: {words[-1]}"[:TAIL])

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
            raise ChildError(str(answer["problem"])[:TAIL].replace("\n", " "))
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

    def attempt(self, step: Callable[[], None]) -> None:
        """Do ``step``; if it fails, the reason becomes the row's text and the child ends."""
        if self.row.problem is not None:
            return
        try:
            step()
        except ChildError as error:
            self.row.problem = str(error)
            self._tree.end()

    def started(self) -> None:
        answer = self._answer(BUILD_WITHIN_S)
        if "unable" in answer:
            self.row.unable = True
            raise ChildError(answer["unable"])
        self.variants = int(answer["variants"])
        self.row.how, self.row.batch_size = answer["how"], answer["batch_size"]
        self.row.epoch_batches = -(-answer["samples"] // answer["batch_size"])
        self.row.base_nbytes = self._tree.pss_nbytes()

    def prepared(self) -> None:
        """Check an epoch, and choose how many batches a trial takes."""
        self._ask("check")
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
        self.attempt(lambda: self._trial(number))
        if times_first:
            self.attempt(self._first)

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

    def end(self) -> None:
        """Ask it to end, then make sure."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if self.row.problem else QUIT_WITHIN_S)
        self._tree.end()
        self._process.wait()
        self._process.stdout.close()


def schedule(names: Sequence[str], compared: Sequence[str], rounds: int, rng: random.Random) -> list[list[str]]:
    """The order of the trials, one list for each turn: a round is all, then EXTRA times the compared ones."""
    return [rng.sample(list(chosen), len(chosen)) for _ in range(rounds) for chosen in (names, *[compared] * EXTRA)]


def _started(regime: str, names: Sequence[str], cores: int, shared: Path, *, all_variants: bool) -> list[Child]:
    """A child for each name, and one for each further variant if they are wanted; some may have failed already."""
    children = [Child(name, regime, 0, cores, shared) for name in names]
    try:
        for child in children:
            child.attempt(child.started)
        for child in children[:] if all_variants else ():
            more = [Child(child.row.name, regime, i, cores, shared) for i in range(1, child.variants)]
            children += more
            for other in more:
                other.attempt(other.started)
        for child in children:
            child.attempt(child.prepared)
    except BaseException:
        for child in children:
            child.end()
        raise
    return children


def run(
    regime: str, names: Sequence[str], *, rounds: int, cores: int, shared: Path, all_variants: bool = False
) -> list[Row]:
    """Measure the loaders ``names`` in turns; a row for each, also if it failed."""
    children = _started(regime, names, cores, shared, all_variants=all_variants)
    try:
        able = {str(number): child for number, child in enumerate(children) if child.row.problem is None}
        compared = [key for key, child in able.items() if child.row.name in COMPARED]
        for turn, keys in enumerate(schedule(list(able), compared, rounds, random.Random(0))):  # noqa: S311 an order
            for key in keys:
                able[key].turn(turn, times_first=turn % (1 + EXTRA) == 0)
    finally:
        for child in children:
            child.end()
    return [child.row for child in children]
