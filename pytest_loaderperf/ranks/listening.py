"""The thread that hears the other ranks: their messages, that they are alive, and that they are not."""

from __future__ import annotations

import os
import selectors
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Iterable
from queue import SimpleQueue
from typing import NamedTuple

from pytest_loaderperf.ranks.peer import FOREVER, SILENT_SECONDS, Peer

_PING_SECONDS = 2.0
_DEAD = "Its exit status is in the output of the launcher, such as torchrun: -9 is often a limit of memory."
_BUSY_SECONDS = 60.0  # a rank's native code, such as json.load of a large file, may stop its other threads
_CUT_OFF = "Its host does not answer: the network between the hosts is cut, or the host is down."
_STOPPED = "Its process is stopped, for example by a debugger or by SIGSTOP."
_BUSY = "Native code in it does not let its other threads run, or the process is stopped."


class Failure(NamedTuple):
    """Why the ranks cannot go on in ``part`` of the work; with FOREVER, in none."""

    part: int
    text: str


class Listener:
    """Hears ``peers`` on a thread of its own, and shows them that this rank, called ``me``, is alive.

    Every message and failure puts something into ``news``. Rank 0, which ``leads``, passes failures on to the others.
    """

    def __init__(self, me: str, peers: list[Peer], *, leads: bool) -> None:
        self._me, self._peers, self._leads = me, peers, leads
        self.doing = "joining"  # this rank's stage, which the others are told
        self.failure: Failure | None = None
        self.news: SimpleQueue[None] = SimpleQueue()
        self._closing = False
        self._selector = selectors.DefaultSelector()
        for peer in peers:
            self._selector.register(peer, selectors.EVENT_READ, peer)
        if hasattr(os, "register_at_fork"):
            _close_in_forks(peers)
        self._thread = threading.Thread(target=self._run, name="loaderperf-link", daemon=True)
        self._thread.start()

    def send(self, kind: str, part: int, content: object = None, peers: Iterable[Peer] | None = None) -> None:
        """Send a message to ``peers``, else to all; whom it does not reach is found dead by this thread."""
        for peer in self._peers if peers is None else peers:
            if not peer.gone:
                try:
                    peer.send(kind, part, self.doing, content)
                except OSError:
                    peer.hang_up()

    def spread(self, failure: Failure, besides: Peer | None = None) -> None:
        """Tell all ranks but ``besides`` of a failure."""
        self.send("fail", failure.part, failure.text, [peer for peer in self._peers if peer is not besides])

    def note(self, failure: Failure) -> None:
        """Keep a failure for those who wait; of one part, the first counts."""
        if self.failure is None or failure.part > self.failure.part:
            self.failure = failure
        self.news.put(None)

    def close(self) -> None:
        """End the connections and the thread."""
        self._closing = True
        for peer in self._peers:
            peer.hang_up()
        self._thread.join(SILENT_SECONDS)
        for peer in self._peers:
            peer.close()
        self._selector.close()

    def _run(self) -> None:
        ping_s = heard_s = time.monotonic()
        while self._selector.get_map():
            for key, _ in self._selector.select(max(0.0, ping_s - time.monotonic())):
                self._hear(key.data)
            now_s = time.monotonic()
            if now_s - heard_s > 2 * _PING_SECONDS:  # this rank was away itself, and may not blame the others
                for peer in self._peers:
                    peer.heard_s = now_s
            heard_s = now_s
            if now_s >= ping_s:
                ping_s = now_s + _PING_SECONDS
                self.send("ping", 0)
            for peer in self._peers:
                if not peer.gone and (silent_s := now_s - peer.heard_s) > SILENT_SECONDS:
                    self._doubt(peer, silent_s)

    def _doubt(self, peer: Peer, silent_s: float) -> None:
        """Give up a rank that has been silent, unless it may be at work."""
        why = _STOPPED if peer.is_stopped else _CUT_OFF if peer.is_unanswered else ""
        if why or silent_s > _BUSY_SECONDS:
            self._lose(peer, f"gave no sign of life for {silent_s:.0f} s", why or _BUSY)

    def _hear(self, peer: Peer) -> None:
        try:
            message = peer.receive()
        except TimeoutError:
            self._lose(peer, f"sent half a message, and nothing more for {SILENT_SECONDS:.0f} s", _CUT_OFF)
        except (OSError, EOFError):
            self._lose(peer, "ended", _DEAD)
        else:
            if message.kind == "fail":
                failure = Failure(message.part, message.content)
                self._pass_on(failure, peer)
            elif message.kind == "where":
                self.send("here", 0, _stack(), [peer])
            elif message.kind == "here":
                peer.stack = message.content
            elif message.kind == "leave":
                peer.left = True
                self.news.put(None)
            elif message.kind in ("begin", "say"):
                peer.part = message.part
                if message.kind == "say":
                    peer.inbox.append(message)
                self.news.put(None)

    def _lose(self, peer: Peer, what: str, why: str) -> None:
        self._selector.unregister(peer)
        peer.gone = True
        if not (peer.left or self._closing):
            stage = f"Its stage was {peer.doing!r}, and {self._me} was at {self.doing!r}."
            failure = Failure(FOREVER, f"{peer} {what}. {stage} {why}")
            self._pass_on(failure, peer)
        self.news.put(None)

    def _pass_on(self, failure: Failure, origin: Peer) -> None:
        """Rank 0 tells the others first: once it is noted, this rank may go on and tell them of the next part."""
        if self._leads:
            self.spread(failure, origin)
        self.note(failure)


def _stack() -> str:
    """Where the main thread of this process stands."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)  # noqa: SLF001 the documented way
    return "".join(traceback.format_stack(frame)) if frame else ""


def _close_in_forks(peers: list[Peer]) -> None:
    """A forked process, such as a worker, must not keep the connections open once this rank has died."""
    mine = weakref.WeakSet(peers)

    def close() -> None:
        for peer in mine:
            peer.close()

    os.register_at_fork(after_in_child=close)
