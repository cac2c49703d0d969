"""Child processes that read mutants: restarted after a crash, ended after a time limit."""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Timer

from suites.mutants.reading import FOREIGN, Outcome, Reader

CRASH, HANG = "crash", "hang"
LIMIT_S = 30.0  # for a mutant; sound ones take milliseconds, and a child starts in some seconds on a busy machine
MEMORY_NBYTES = 8 << 30  # of a child's address space: damaged sizes must not use more
READ, CHECK = "read", "check"


class Child:
    """A process that reads mutants of one format, one after the other."""

    def __init__(self, name: str, sound: Path, scratch: Path, seed: int) -> None:
        self._command = [sys.executable, "-m", "suites.mutants.pool", name, str(sound), str(scratch), str(seed)]
        self._process: subprocess.Popen[str] | None = None

    def ask(self, verb: str, index: int) -> Outcome:
        """The result of the mutant ``index``: from the child, or how the child ended."""
        if self._process is None:
            self._process = subprocess.Popen(  # noqa: S603 our own interpreter and code
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
            )
        process, late = self._process, threading.Event()
        assert process.stdin is not None
        assert process.stdout is not None

        def end() -> None:
            late.set()
            os.killpg(process.pid, signal.SIGKILL)  # and what it started

        timer = Timer(LIMIT_S, end)
        timer.start()
        try:
            process.stdin.write(f"{verb} {index}\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if line:
            return Outcome(*json.loads(line))
        self.close()
        if late.is_set():
            return Outcome(HANG, "", f"longer than {LIMIT_S:g} s")
        return _ended(process.returncode)

    def close(self) -> None:
        """End the process. The next question starts another."""
        if self._process is not None:
            process, self._process = self._process, None
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
            if process.poll() is None:
                try:
                    process.wait(LIMIT_S)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _ended(status: int) -> Outcome:
    """The outcome of a mutant whose reader ended with ``status``."""
    if status < 0:
        return Outcome(CRASH, "", signal.Signals(-status).name)
    return Outcome(FOREIGN, "", f"status {status}: an error in what asks, or a library that exits")


def outcomes(
    name: str, folder: Path, seed: int, indices: range, *, workers: int, check_every: int
) -> Iterator[tuple[int, str, Outcome]]:
    """Index, verb and outcome of each mutant of the files in ``folder / "sound"``.

    A mutant that ends its child, and one in ``check_every``, is checked as well.
    """

    def work(worker: int) -> list[tuple[int, str, Outcome]]:
        child = Child(name, folder / "sound", folder / f"scratch-{worker}", seed)
        found = []
        for index in indices[worker::workers]:
            outcome = child.ask(READ, index)
            found.append((index, READ, outcome))
            if outcome.kind in (CRASH, HANG) or (check_every and index % check_every == 0):
                found.append((index, CHECK, child.ask(CHECK, index)))
        child.close()
        return found

    with ThreadPoolExecutor(workers) as pool:
        for found in pool.map(work, range(workers)):
            yield from found


def main() -> None:
    """The child: writes to standard output the result of each mutant that standard input names.

    It forks a process that reads them, and another one when that crashes: an interpreter takes seconds to start.
    """
    name, sound, scratch, seed = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_NBYTES, MEMORY_NBYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the output of libraries is not an answer
    with suppress(ImportError):
        importlib.import_module(name)  # once, and not again after each crash
    reader = Reader(name, Path(sound), Path(scratch), int(seed))
    while pid := os.fork():
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status == 0:
            os._exit(0)
        print(json.dumps(_ended(status)), file=answers, flush=True)
    verbs = {READ: reader.outcome, CHECK: reader.checked}
    for line in sys.stdin:
        verb, index = line.split()
        print(json.dumps(verbs[verb](int(index))), file=answers, flush=True)
    os._exit(0)  # threads of libraries may not end after damage


if __name__ == "__main__":
    main()
