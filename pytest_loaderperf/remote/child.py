"""A side whose loader runs in another process: that process, which answers messages, and the side as a run uses it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Pipe
from tempfile import TemporaryFile
from typing import Any, ClassVar

from pytest_loaderperf.defaults import ALONE
from pytest_loaderperf.errors import LoaderError, LoaderHangError, LoaderPerfError, ShortEpochError, refusal
from pytest_loaderperf.measurement import Kind, Record
from pytest_loaderperf.measurement.conditions import Conditions
from pytest_loaderperf.measurement.record import EpochRecord, StartRecord, SteadyRecord
from pytest_loaderperf.remote import RemoteError

DESCRIPTOR = "LOADERPERF_CHILD"  # environment variable with the child's end of the pipe, and what else it needs
GRACE_SECONDS = 30.0  # after the watchdog's own time: then the child itself hangs
STATE = (
    "epoch_batches",
    "warmup_batches",
    "inline",
    "children",
    "batch_samples",
    "batch_nbytes",
    "taken",
    "build_seconds",
    "release_seconds",
    "own_helpers",
    "opaque",
)
_POLL_SECONDS = 0.2
_LAST_WORDS = 2000  # characters of a child's last output in an error


class Child:
    """A process that answers messages; ``called`` names it in errors.

    Each message has a number, and its answer has the same one, so a late answer is never used for another message. An
    interrupt during a message ends the process: half a message may be left in the pipe, and the process might continue
    with work that nobody waits for.

    ``told`` is passed as JSON in its environment, after the pipe's descriptor and our process id; ``outputs`` are
    descriptors where its loader prints (see ``output``), ``popen`` further arguments of subprocess.Popen.
    """

    error: type[RemoteError] = RemoteError
    error_types: ClassVar[Mapping[str, type[LoaderPerfError]]] = {
        "hang": LoaderHangError,
        "short": ShortEpochError,
        "loader": LoaderError,
    }

    def __init__(
        self, called: str, command: Sequence[str], told: Sequence[str], timeout_seconds: float, **popen: Any
    ) -> None:
        self.called = called
        self._number = 0  # of the message to answer; the start counts as message 0
        self._interrupted_by = ""
        self._patience_s = timeout_seconds + GRACE_SECONDS
        try:
            self._output = TemporaryFile()  # noqa: SIM115 closed with this object
            self._connection, theirs = Pipe()
        except OSError as error:
            raise self.error(f"{called}: its process cannot be started: {refusal(error)}") from None
        outputs = popen.pop("outputs", [])
        known = [theirs.fileno(), os.getpid(), outputs, *told]
        try:
            self._process = subprocess.Popen(  # noqa: S603 our own command
                list(command),
                env={**popen.pop("env", os.environ), ALONE: "1", DESCRIPTOR: json.dumps(known)},
                pass_fds=[theirs.fileno(), *outputs],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                **popen,
            )
        except OSError as error:
            self._output.close()
            way_out = (
                "Expected a Python interpreter."
                if isinstance(error, (FileNotFoundError, PermissionError))
                else refusal(error)
            )
            raise self.error(f"{called}: cannot start {command[0]}: {error}. {way_out}") from None
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def ask(self, verb: str, *arguments: Any) -> Any:
        """Its answer. Raises what it raised, and ``error`` if it is dead, silent or gives an invalid answer."""
        self._number += 1
        try:
            with self._uninterrupted():
                self._connection.send((self._number, verb, *arguments))
        except OSError:
            raise self._died() from None
        return self.answer()

    def answer(self) -> Any:
        """Its next answer; as ``ask``."""
        with self._uninterrupted():
            number, kind, content = self._receive()
            while number != self._number:
                number, kind, content = self._receive()
        if kind == "ok":
            return content
        raise self.error_types.get(kind, self.error)(f"{content}\n(at {self.called}, in its own process)")

    @contextmanager
    def _uninterrupted(self) -> Iterator[None]:
        """End the process if an interrupt, or a time-out of some plugin, is raised in this block."""
        try:
            yield
        except (LoaderPerfError, OSError):
            raise
        except BaseException as error:
            self._interrupted_by = type(error).__name__
            self._end()
            raise

    def _receive(self) -> tuple[int, str, Any]:
        deadline_s = time.monotonic() + self._patience_s
        while not self._connection.poll(_POLL_SECONDS):
            if self._process.poll() is not None and not self._connection.poll():
                raise self._died()
            if time.monotonic() > deadline_s:
                self._end()
                raise self.error(
                    f"{self.called}: its process did not answer for {self._patience_s:.0f} s, and was ended. "
                    f"Set loaderperf_timeout (seconds) higher if it needs longer.{self._last_words()}"
                )
        try:
            number, kind, content = self._connection.recv()
        except EOFError:
            raise self._died() from None
        except Exception as error:
            raise self._died() from error
        return number, kind, content

    def _died(self) -> RemoteError:
        self._end()
        if self._interrupted_by:
            return self.error(
                f"{self.called}: its process was ended because {self._interrupted_by} was raised while it measured. "
                "Make the claims that come after it in a new test, or on a new run."
            )
        return self.error(
            f"{self.called}: its process ended (status {self._process.returncode}) before it answered. "
            f"Run it there by itself to see why.{self._last_words()}"
        )

    def _last_words(self) -> str:
        self._output.seek(0)
        text = self._output.read().decode("utf-8", "replace").strip()
        return f"\nIts last output:\n{text[-_LAST_WORDS:]}" if text else ""

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def close(self) -> None:
        """End it and close the pipe. May be called twice."""
        if self._connection.closed:
            return
        with suppress(OSError):
            self._connection.send((self._number + 1, "leave"))
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        self._end()
        self._connection.close()
        self._output.close()


class RemoteSide:
    """A side whose loader runs in ``child``, which sends records, and its state after each."""

    rebuildable, elsewhere, least_trial_seconds = True, True, 0.0
    iterator: Iterator[Any] | None = None
    conditions: Conditions  # of the next trial
    epoch_batches: int | None
    warmup_batches: int
    batch_samples: int
    batch_nbytes: int
    taken: int
    inline: bool
    build_seconds: float
    release_seconds: float
    own_helpers: tuple[int, int]
    opaque: str

    def __init__(self, child: Child, name: str, state: dict[str, Any]) -> None:
        self._child, self.name = child, name
        self.starts: list[StartRecord] = []
        self.epochs: list[EpochRecord] = []
        self.loader_kind: str = state["kind"]
        self.loader = RemoteLoader(state["described"], state["declared"])
        self._open = True
        self._note(state)

    def _note(self, state: dict[str, Any]) -> None:
        for name in STATE:
            setattr(self, name, state[name])
        self.children: list[int] = [self._child.pid, *state["children"]]
        self.starts += state["starts"]
        self.epochs += state["epochs"]

    def _ask(self, verb: str, *arguments: Any) -> Any:
        if not self._open:
            raise self._child.error(
                f"{self.called} was released when another run needed its own. Make all claims on one run first."
            )
        try:
            answer, state = self._child.ask(verb, *arguments)
        except ShortEpochError:
            self._note(self._child.ask("state")[1])  # now the length of its epochs is known
            raise
        self._note(state)
        return answer

    @property
    def called(self) -> str:
        """The side's name in error texts."""
        return f"the {self.name} loader at {self._child.called}"

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
        return self._ask("observe", kind, batches, conditions)  # type: ignore[no-any-return]

    def start(self) -> StartRecord:
        """Begin a new epoch and take its first batch."""
        return self._ask("start")  # type: ignore[no-any-return]

    def ready(self, batches: int, *, warm: bool = True) -> bool:
        """Be in an epoch with ``batches`` more, and past the untimed ones, if ``warm``; False if it ends meanwhile."""
        return bool(self._ask("ready", batches, self.conditions, warm))

    def slice(self, batches: int, latencies: list[int]) -> tuple[int, int] | None:
        """Time the next ``batches`` batches, add to ``latencies``. Nanoseconds and samples; None if the epoch ends."""
        taken: SteadyRecord | None = self._ask("slice", batches, self.conditions)
        if taken is None:
            return None
        latencies.extend(taken.latencies_ns)
        return taken.wall_ns, taken.samples

    def take(self, batches: int) -> SteadyRecord | None:
        """The same, as a record."""
        return self._ask("take", batches)  # type: ignore[no-any-return]

    def relay(self, verb: str, *arguments: Any) -> Any:
        """The answer of the replay of this side's loader, which runs next to the loader: see ``replay.Relayed``."""
        return self._ask("replay", verb, *arguments)

    def ledger(self, seconds: float) -> dict[str, Any]:
        """What the doctor, in two passes of ``seconds`` at most, sees of the loader, as JSON values."""
        return dict(self._ask("ledger", seconds))

    def note_helpers(self) -> None:
        """Does nothing: helpers of this process are not that loader's."""

    def look_ahead(self, batch_seconds: float) -> None:
        """Find out whether the loader works in the background."""
        self._ask("look_ahead", batch_seconds)

    def build(self) -> None:
        """Make the loader again."""
        self._ask("build")

    def short_epoch_error(self) -> ShortEpochError:
        """The error for an epoch with fewer batches than a trial needs."""
        return ShortEpochError(f"{self.called} gives {self.epoch_batches} batches an epoch, too few for a trial.")

    def close(self) -> None:
        """Release the loader. May be called twice."""
        if self._open:
            self._open = False
            with suppress(LoaderPerfError):
                self._child.ask("end")


class RemoteLoader:
    """Represents the loader of the other process in reports, with what that one ``declared``."""

    def __init__(self, described: str, declared: dict[str, int]) -> None:
        self._described = described
        self.__dict__.update(declared)

    def __repr__(self) -> str:
        return self._described
