"""The link between the ranks of a job: rank 0 tells, the others answer, and a failure of one reaches all."""

from __future__ import annotations

import atexit
import pickle
import platform
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from queue import Empty
from typing import Any

from pytest_loaderperf.ranks import LostRankError, RankError
from pytest_loaderperf.ranks.agreement import differences
from pytest_loaderperf.ranks.joining import join
from pytest_loaderperf.ranks.listening import Failure, Listener
from pytest_loaderperf.ranks.peer import FOREVER, Peer
from pytest_loaderperf.ranks.termination import Termination
from pytest_loaderperf.ranks.world import World

__all__ = ["Link", "LostRankError", "RankError"]

_CLOSE_SECONDS = 20.0  # for the others to finish as well; torchrun kills 30 s after it has asked to end
_GRACE_SECONDS = 10.0  # that the others wait longer than rank 0, which knows more about a failure
_STACK_SECONDS = 2.0  # for a late rank to say where it is
_MOST_TRACEBACK = 8000  # characters: the innermost frames


class Link:
    """This rank's connection to the others; rank 0 leads.

    Joins the job: raises RankError if not all ranks do so within ``timeout_s``, or if their versions differ. A rank
    that is alive is waited for up to ``timeout_s``; one that has died is named at once, one that is cut off or stopped
    within 12 s (stopped on a host elsewhere: 60 s). Then every wait raises LostRankError.

    What is told and gathered belongs to a part of the work, such as a test: see ``begin``. While the link is open,
    SIGTERM raises KeyboardInterrupt with the reason, so that the process can clean up.
    """

    def __init__(self, world: World, timeout_s: float) -> None:
        self.world = world
        self._me = f"rank {world.rank} on host {world.host}"
        self._leads = world.rank == 0
        self._patience_s = timeout_s + (0 if self._leads else _GRACE_SECONDS)
        self._part = 0
        self._raised = ""  # the failure that a wait has raised: it is told once
        self._listener: Listener | None = None
        self._closed = False
        self._termination = Termination(self._reason)
        atexit.register(self._exit)
        try:
            self._peers, self._store = join(world, timeout_s)
            self._listener = Listener(self._me, self._peers, leads=self._leads)
            self.agree(_versions())
        except BaseException:
            self.close()
            raise

    def tell(self, message: object) -> None:
        """Rank 0: send ``message``, which can be pickled, to all others, who get them in order from ``told``."""
        self._open.send("say", self._part, pickle.dumps(message))

    def told(self, doing: str) -> Any:
        """Other ranks: the next message of rank 0. ``doing`` is this rank's stage, for errors."""
        (message,) = self._next(self._peers, doing)
        return message

    def gather(self, answer: object, doing: str) -> list[Any]:
        """All ranks call it; rank 0 gets the answers of all, by rank, and the others an empty list."""
        self._stage(doing)
        if self._leads:
            return [answer, *self._next(self._peers, doing)]
        self.tell(answer)
        return []

    def barrier(self, doing: str) -> None:
        """All ranks call it, and leave it once all have come."""
        self.gather(None, doing)
        if self._leads:
            self.tell(None)
        else:
            self.told(doing)

    def agree(self, what: Mapping[str, object]) -> None:
        """All ranks call it with the same names. Raises RankError, on all ranks, that says what differs, and where.

        A value that is a list or a tuple of texts, such as the names of tests, is compared entry by entry.
        """
        self._agree(what, "comparing with the other ranks")

    def _agree(self, what: Mapping[str, object], doing: str) -> None:
        given = self.gather(dict(what), doing)
        if self._leads:
            text = differences(given, [self._me, *map(str, self._peers)])
            self.tell(text)
        else:
            text = self.told(doing)
        if text:
            raise RankError(text)

    def begin(self, what: str) -> None:
        """Begin a new part of the work, such as the test ``what``, once all ranks do; all call it.

        What is left of earlier parts, messages and failures, is dropped, and whoever still waits in an earlier part
        gets a RankError. Raises RankError, on all ranks, if some begin something else.
        """
        self._part += 1
        self._stage(what)
        self._open.send("begin", self._part)  # it ends what others still wait for
        self._agree({"what comes next": what}, what)

    def fail(self, error: BaseException, doing: str) -> None:
        """Tell every rank that this one failed at ``doing``: their next wait in this part raises RankError."""
        if isinstance(error, RankError):
            text = str(error)  # names its rank already
        else:
            said = "".join(traceback.format_exception_only(error)).strip()
            stack = "".join(traceback.format_exception(error)).strip()[-_MOST_TRACEBACK:]
            text = f"{self._me} failed at {doing!r}: {said}\nIts traceback:\n{stack}"
        if self._listener:
            part = FOREVER if isinstance(error, LostRankError) else self._part
            self._listener.spread(Failure(part, text))

    def end(self) -> None:
        """From now on the launcher's signal does not interrupt this rank: it ends soon, and must write its results."""
        self._termination.ignore()

    @property
    def lost(self) -> bool:
        """Whether a rank is gone for good, so that nothing more can be measured."""
        failure = self._listener.failure if self._listener else None
        return failure is not None and failure.part == FOREVER

    @property
    def without_lead(self) -> str:
        """Other ranks: why the job cannot go on, if rank 0 is gone and cannot say it; else empty."""
        failure = self._listener.failure if self._listener and self.lost and not self._leads else None
        return failure.text if failure and any(peer.gone and not peer.left for peer in self._peers) else ""

    def close(self) -> None:
        """Leave the job, once all ranks do, or after 20 s. May be called twice, and is called at the process's end."""
        if self._closed:
            return
        self._closed = True
        self._termination.ignore()
        if self._listener:
            self._leave_together(self._listener)
            self._listener.close()
        self._store = None
        self._termination.restore()

    def _exit(self) -> None:
        """At the end of the process: its status is its own, not that of a signal that comes because others ended."""
        self.close()
        self._termination.ignore()

    def _leave_together(self, listener: Listener) -> None:
        """Wait until all others leave too: torchrun ends all ranks as soon as one has ended with a failure."""
        if not self._leads:
            listener.send("leave", self._part)
        deadline_s = time.monotonic() + _CLOSE_SECONDS
        while not all(peer.left or peer.gone for peer in self._peers) and (left_s := deadline_s - time.monotonic()) > 0:
            with suppress(Empty):
                listener.news.get(timeout=left_s)
        if self._leads:
            listener.send("leave", self._part)

    def _reason(self) -> str:
        """Why a launcher may end this rank, unless a wait has said so already."""
        failure = self._listener and self._listener.failure
        return failure.text if failure and failure.part >= self._part and failure.text != self._raised else ""

    def _stage(self, doing: str) -> None:
        self._open.doing = doing

    @property
    def _open(self) -> Listener:
        if self._listener is None or self._closed:
            raise RankError(f"{self._me}: the link to the other ranks is closed. Expected no more claims after that.")
        return self._listener

    def _next(self, peers: list[Peer], doing: str) -> list[Any]:
        """The contents of the next message of each of ``peers`` in this part."""
        self._stage(doing)
        contents: dict[Peer, Any] = {}
        deadline_s = time.monotonic() + self._patience_s
        while len(contents) < len(peers):
            for peer in peers:
                while peer.inbox and peer.inbox[0].part < self._part:
                    peer.inbox.popleft()
                if peer not in contents and peer.inbox and peer.inbox[0].part == self._part:
                    contents[peer] = pickle.loads(peer.inbox.popleft().content)  # noqa: S301 it knows the job's token
            missing = [peer for peer in peers if peer not in contents]
            if missing and (failure := self._open.failure) and failure.part >= self._part:
                self._raised = failure.text
                raise (LostRankError if failure.part == FOREVER else RankError)(failure.text)
            if missing and not self._hopeless(missing, doing, deadline_s):
                with suppress(Empty):
                    self._open.news.get(timeout=max(0.0, deadline_s - time.monotonic()))
        return [contents[peer] for peer in peers]

    def _hopeless(self, missing: list[Peer], doing: str, deadline_s: float) -> bool:
        """Whether one of ``missing`` will not send anything in this part; then all ranks know."""
        for peer in missing:
            if peer.part > self._part:
                self._give_up(
                    f"{peer} is at {peer.doing!r} while {self._me} waits for it at {doing!r}. Expected all ranks to "
                    "make the same claims in the same order: look for what a test does on some ranks only."
                )
            elif peer.left:
                self._give_up(
                    f"{peer} has left the run while {self._me} waits for it at {doing!r}. Look at its output.", FOREVER
                )
            elif time.monotonic() >= deadline_s:
                self._give_up(self._late(peer, doing))
            else:
                continue
            return True
        return False

    def _give_up(self, text: str, part: int | None = None) -> None:
        """Note a failure that this rank has found, and tell the others."""
        failure = Failure(self._part if part is None else part, text)
        self._open.spread(failure)
        self._open.note(failure)

    def _late(self, peer: Peer, doing: str) -> str:
        """That ``peer`` is alive but did not come, and where it is instead."""
        peer.stack = ""
        self._open.send("where", self._part, peers=[peer])
        deadline_s = time.monotonic() + _STACK_SECONDS
        while not peer.stack and time.monotonic() < deadline_s:
            time.sleep(0.02)
        return (
            f"{peer} is alive, but {self._me} waited for it at {doing!r} for {self._patience_s:g} s: it is at "
            f"{peer.doing!r}. Fix what it waits for, or set loaderperf_timeout (seconds) higher if it needs longer.\n"
            f"Its main thread stands at (innermost last):\n{peer.stack}"
        )


def _versions() -> dict[str, object]:
    import torch

    package = sys.modules[__name__.partition(".")[0]]
    return {
        "pytest-loaderperf": package.__version__,
        "Python": platform.python_version(),
        "torch": str(torch.__version__),
    }
