"""A line that shows what is being measured, only on a terminal."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import TextIO

from pytest_loaderperf.errors import printable

_EVERY_SECONDS = 0.2
_PATIENCE_SECONDS = 1.0  # shorter work needs no progress
_SAVE, _RESTORE, _CLEAR = "\x1b7", "\x1b8", "\x1b[K"


class ProgressLine:
    """Writes after the cursor and removes it again, so that the rest of the line does not change.

    Silent if ``stream`` is not a terminal, and in CI. ``room`` is how many columns are left on the line.
    """

    def __init__(self, stream: TextIO, room: int = 79) -> None:
        self._stream = stream
        self.room = room
        self._on = stream.isatty() and not os.environ.get("CI") and os.environ.get("TERM") != "dumb"
        self._began_s = self._shown_s = 0.0
        self._visible = False

    def __enter__(self) -> None:
        self._began_s = time.monotonic()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.clear()

    def show(self, text: str) -> None:
        """Show ``text`` in place of what was shown before, at most five times a second."""
        now_s = time.monotonic()
        if not self._on or now_s - self._shown_s < _EVERY_SECONDS or now_s - self._began_s < _PATIENCE_SECONDS:
            return
        self._shown_s = now_s
        self._visible = True
        self._stream.write(f"{_SAVE} {printable(text)[: max(0, self.room - 2)]}{_CLEAR}{_RESTORE}")
        self._stream.flush()

    def clear(self) -> None:
        """Remove what is shown."""
        if self._visible:
            self._stream.write(f"{_SAVE}{_CLEAR}{_RESTORE}")
            self._stream.flush()
        self._visible = False
