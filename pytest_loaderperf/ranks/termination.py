"""How a rank ends when its launcher asks it to: it cleans up, and says which other rank was the reason."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)  # torchrun sends the first when a rank has failed, or what it got itself
_REASON_SECONDS = 1.0  # for news of another rank's death to arrive
_POLL_SECONDS = 0.02
_AGAIN_SECONDS = 0.1  # until code in which an exception is dropped has ended


class _Terminated(KeyboardInterrupt):
    """Raised for a signal; pytest ends as it does at Ctrl-C."""


class Termination:
    """While it is in force, SIGTERM raises KeyboardInterrupt, with what ``reason`` says, in the main thread.

    Nothing changes where the program handles the signal itself.
    """

    def __init__(self, reason: Callable[[], str]) -> None:
        self._reason = reason
        self._pid = os.getpid()
        self._ours = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
        self._set(self._end)
        self._hook = sys.unraisablehook
        if self._ours and threading.current_thread() is threading.main_thread():
            sys.unraisablehook = self._unraisable

    def ignore(self) -> None:
        """Ignore the signals: this rank is about to end by itself."""
        self._set(signal.SIG_IGN)

    def restore(self) -> None:
        """As before."""
        self._set(signal.SIG_DFL)
        if sys.unraisablehook == self._unraisable:
            sys.unraisablehook = self._hook

    def _set(self, handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
        if threading.current_thread() is threading.main_thread():  # only it may
            for number in self._ours:
                signal.signal(number, handler)

    def _end(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a forked process
            self._set(signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if frame is not None and frame.f_lineno is None:  # pytest cannot show an exception that is raised there
            self._send_again(number)
            return
        self.ignore()  # what follows is cleaning up, and the launcher kills if it takes long
        deadline_s = time.monotonic() + _REASON_SECONDS
        while not (reason := self._reason()) and time.monotonic() < deadline_s:
            time.sleep(_POLL_SECONDS)
        raise _Terminated(f"the launcher ended this rank ({signal.Signals(number).name}). {reason}".rstrip())

    def _unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Send the signal again if it came while an object was finalised, where Python drops the exception."""
        if not isinstance(unraisable.exc_value, _Terminated):
            self._hook(unraisable)
            return
        self._set(self._end)
        self._send_again(self._ours[0])

    def _send_again(self, number: int) -> None:
        threading.Timer(_AGAIN_SECONDS, os.kill, (self._pid, number)).start()
