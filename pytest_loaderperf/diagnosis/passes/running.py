"""Passes in child processes of their own: forked, limited in time, and ended with all that they started."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from torch.utils.data import dataloader as torch_dataloader

from pytest_loaderperf.diagnosis.ledger import Ledger
from pytest_loaderperf.diagnosis.passes.changes import Change, ratios
from pytest_loaderperf.diagnosis.passes.observe import EPOCHS, Pass
from pytest_loaderperf.diagnosis.passes.rewriting import is_users
from pytest_loaderperf.errors import LoaderError, printable

_POLL_SECONDS = 0.02
_GRACE_SECONDS = 20.0  # beyond its own limit: a factory or a batch may be slow
PAIRS, _MOST_PAIRS = 3, 9  # of passes, with and without a change; more if the loader is quick
EPOCHS_TIMED = 4
_ONE_BATCH_SECONDS = 0.05
_STACKS_SECONDS = 1.0  # before a pass is ended, its threads tell where they stand
_PR_SET_PDEATHSIG = 1  # see prctl(2)
_FRAME = re.compile(r'\s*File "(.+)", line \d+')
_MOST_SHOWN = 2000  # characters of what a failed pass wrote


def observe(
    source: object,
    seconds: float,
    *,
    epochs: int = EPOCHS,
    count: Callable[[Any], int] | None = None,
    threads: int | None = None,
    progress: Callable[[str], object] = lambda _text: None,
    patience_seconds: float = _GRACE_SECONDS,
    step_seconds: float = 0.0,
    traced: bool = False,
) -> Ledger:
    """The ledger of a loader: a pass that times, then one that counts, each for ``seconds`` at most.

    ``source`` is a factory or a loader. Each pass forks this process, so nothing of it stays here. ``threads``: of
    torch's operations while it times. ``step_seconds``: of a third pass, whose consumer takes so long for each batch;
    nothing but what this consumer waits for, its queue and its trace is taken from it. ``traced``: the ledger has a
    timeline. Raises LoaderError if the loader fails in a pass, or does not end
    ``patience_seconds`` after its time.
    """
    progress("timing its stages")
    how: dict[str, Any] = {"counts": False, "count": count, "threads": threads}
    timed = _forked(source, seconds, epochs, patience_seconds, **how, traced=traced and not step_seconds)
    paced = timed
    if step_seconds:
        progress("timing it with a training step")
        how |= {"step_seconds": step_seconds, "traced": traced}
        paced = _forked(source, seconds, epochs, patience_seconds + step_seconds, **how)
    progress("counting what its lines do")
    counted = _forked(source, seconds, epochs, patience_seconds, counts=True, count=count, threads=1)
    stages = replace(timed.stages, by_worker=counted.stages.by_worker, first_samples=counted.stages.first_samples)
    return replace(
        counted,
        stages=stages,
        timed=timed.timed,
        counted=counted.timed,
        gc_ns=timed.gc_ns,
        copy_ns=timed.copy_ns,
        step_ns=round(step_seconds * 1e9),
        stepped=paced.timed if step_seconds else (),
        queue=paced.queue,
        timeline=paced.timeline,
    )


def gain_of_change(
    source: object,
    change: Change,
    seconds: float,
    *,
    count: Callable[[Any], int] | None = None,
    threads: int | None = None,
) -> tuple[float, float, float] | None:
    """How many times faster the loader is with ``change``: low, median and high of pairs of passes, in turns.

    None if it cannot be made, or the loader fails with it.
    """
    try:
        return gain_in_pairs(source, change, seconds, count=count, threads=threads)
    except LoaderError:
        return None


def gain_in_pairs(
    source: object,
    change: Change,
    seconds: float,
    *,
    count: Callable[[Any], int] | None = None,
    threads: int | None = None,
) -> tuple[float, float, float] | None:
    """The same; None if there were too few epochs.

    Raises LoaderError if the loader fails with the change, or gives batches of another kind.
    """
    each, until = seconds / PAIRS, time.monotonic() + seconds
    ledgers: dict[bool, list[Ledger]] = {False: [], True: []}
    moves = "pin_memory" in change.settings  # it pays only on the way to the GPU
    for pair in range(_MOST_PAIRS):
        for changed in (False, True) if pair % 2 else (True, False):
            how: dict[str, Any] = {"change": change if changed else None, "compared": True, "moves": moves}
            done = _forked(
                source, each, EPOCHS_TIMED, each + _GRACE_SECONDS, counts=False, count=count, threads=threads, **how
            )
            ledgers[changed].append(done)
        slow = not ledgers[False][0].timed[0].whole  # so slow that other pairs would take long and say the same
        if slow or (pair + 1 >= PAIRS and time.monotonic() > until):
            break
    kinds = [ledgers[changed][0].loader.batch_kind for changed in (False, True)]
    if kinds[0] != kinds[1] and change.keeps_kind:
        raise LoaderError(f"it gives other batches: expected {kinds[0]}, got {kinds[1]}.")
    return ratios(ledgers[False], ledgers[True])


def with_keeping(source: object, ledger: Ledger, **how: Any) -> Ledger:
    """The ledger, with what a pass of one batch says of keeping the dataset in memory; as it is if that fails."""
    with suppress(LoaderError):
        facts = _forked(source, _ONE_BATCH_SECONDS, 1, _GRACE_SECONDS, counts=False, keeps=True, **how).loader
        known = {name: getattr(facts, name) for name in ("cuda", "store_nbytes", "free_nbytes", "not_kept")}
        return replace(ledger, loader=replace(ledger.loader, **known))
    return replace(ledger, loader=replace(ledger.loader, not_kept="reading a few samples failed"))


def _forked(source: object, seconds: float, epochs: int, patience_seconds: float, **how: Any) -> Ledger:
    folder = Path(tempfile.mkdtemp(prefix="loaderperf-doctor-"))
    try:
        return _in_child(source, seconds, epochs, seconds + patience_seconds, folder, how)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _in_child(source: object, seconds: float, epochs: int, limit: float, folder: Path, how: dict[str, Any]) -> Ledger:  # noqa: PLR0917 private, and called in one place
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads: they do not run in the child
        child = os.fork()
    if child == 0:
        _child(source, seconds, epochs, folder, limit, how)
    status = _wait(child, time.monotonic() + limit)
    written = folder / "ledger"
    if status == 0 and written.exists():
        return Ledger.from_json(json.loads(written.read_text()))
    said, output, stacks = (_read(folder / name) for name in ("error", "output", "stacks"))
    raise LoaderError(_failure(status, limit, said, output[-_MOST_SHOWN:] if status is not None else stacks))


def _read(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""


def _failure(status: int | None, limit: float, said: str, output: str) -> str:
    """What to tell of a pass that gave no ledger. ``output``: what it wrote, or where its threads stood at the end."""
    if status is None:
        at = next((line for line in output.splitlines()[::1] if (file := _FRAME.match(line)) and is_users(file[1])), "")
        where = f" It stood at{at.strip().removeprefix('File')}." if at else ""
        return (
            f"the loader gave no batch, or did not end, within {limit:.0f} s while it was observed.{where} Expected a "
            "batch in that time. Give the doctor more time, or a smaller dataset."
        )
    if said:
        return f"the loader failed while it was observed:\n{said}"
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    shown = f"\n{printable(output)}" if output.strip() else ""
    return f"the process in which the loader was observed ended with {how}, without a Python error.{shown}"


def _wait(child: int, deadline: float) -> int | None:
    """Its exit status, negative for a signal; None if it had to be ended. What it started ends as well."""
    status: int | None = None
    try:
        while time.monotonic() < deadline:
            pid, found = os.waitpid(child, os.WNOHANG)
            if pid:
                status = os.waitstatus_to_exitcode(found)
                return status
            time.sleep(_POLL_SECONDS)
        return None
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)
        if status is None:
            with suppress(ChildProcessError):
                os.waitpid(child, 0)


def _child(  # noqa: PLR0917 private, and called in one place
    source: object, seconds: float, epochs: int, folder: Path, limit: float, how: dict[str, Any]
) -> None:
    """In the forked process: one pass, whose ledger or error is written to ``folder``. Never returns."""
    status = 1
    try:
        os.setsid()
        _die_with_parent()
        tracker: Any = resource_tracker._resource_tracker  # noqa: SLF001 no public name
        tracker._fd = tracker._pid = None  # noqa: SLF001 the parent's removes what is left when the parent ends
        output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.settrace(None)
        sys.setprofile(None)
        stacks = (folder / "stacks").open("w")
        faulthandler.dump_traceback_later(max(_POLL_SECONDS, limit - _STACKS_SECONDS), file=stacks)
        ledger = Pass(source, folder, **how).run(seconds, epochs)
        part = folder / "ledger.part"
        part.write_text(json.dumps(ledger.to_json()))
        part.rename(folder / "ledger")
        status = 0
    except BaseException as error:  # noqa: BLE001 the parent tells it
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's own raises, for each worker that ended
        (folder / "error").write_text(_told(error))
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        with suppress(BaseException):  # it removes shared memory that the loader has left, unless it is killed first
            tracker._stop()  # noqa: SLF001 no public name
        os._exit(status)


def _die_with_parent() -> None:
    """Ask Linux to end this process if the one that started it is killed."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _told(error: BaseException) -> str:
    """An error with the lines of the user's code that it came through."""
    cause = error.__cause__ if isinstance(error, LoaderError) and error.__cause__ is not None else error
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if is_users(frame.filename)]
    said = str(error) if isinstance(error, LoaderError) else "".join(traceback.format_exception_only(error)).rstrip()
    return "".join([*traceback.format_list(frames), said, *_ends_of_workers()])


def _ends_of_workers() -> Iterator[str]:
    """How workers ended that did not end well: torch does not always say."""
    for found in gc.get_objects():
        if type(found) is torch_dataloader._MultiProcessingDataLoaderIter:  # noqa: SLF001 it has no public name
            for number, worker in enumerate(getattr(found, "_workers", [])):
                code = worker.exitcode
                if code:
                    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                    yield f"\nworker {number} ended with {how}"
