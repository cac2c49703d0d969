"""The positions of this process in files that it reads: a forked process that reads moves them for both."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress


class Offsets:
    """The positions in the files that this process has open for reading only, as they are now."""

    def __init__(self) -> None:
        self._before = _offsets()

    def moved(self) -> bool:
        """Whether the position in one of the files that are still open has changed."""
        return bool(self._moved())

    def restore(self) -> None:
        """Reset the positions that have changed."""
        for descriptor, offset in self._moved().items():
            with suppress(OSError):
                os.lseek(descriptor, offset, os.SEEK_SET)

    def _moved(self) -> dict[int, int]:
        now = _offsets()
        return {number: offset for number, offset in self._before.items() if now.get(number, offset) != offset}


def _offsets() -> dict[int, int]:
    found = {}
    for descriptor in descriptors():
        with suppress(OSError):  # the listing's own one is closed
            reads = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
            if reads and stat.S_ISREG(os.fstat(descriptor).st_mode):
                found[descriptor] = os.lseek(descriptor, 0, os.SEEK_CUR)
    return found


def descriptors() -> list[int]:
    """The open descriptors of this process and of the listing itself; empty if the system does not say."""
    try:
        return [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 cheaper
    except OSError:
        return []
