"""Memory in pages of 2 MiB: what forks copies one entry for 512 pages, and half of a fork's system time is gone."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

_SIZE = 1 << 21
_HUGEPAGE, _COLLAPSE = 14, 25  # of madvise; a kernel older than Linux 6.1 refuses the second, and all stays as it is


def use_huge_pages() -> None:
    """Move the memory that this process has now; later memory is not its matter."""
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for line in Path("/proc/self/maps").read_text("utf-8").splitlines():
        ends, access, _, _, file, *name = line.split()
        start, end = (int(end, 16) for end in ends.split("-"))
        start, end = -(-start // _SIZE) * _SIZE, end // _SIZE * _SIZE
        if access == "rw-p" and file == "0" and name in ([], ["[heap]"]) and start < end:
            madvise(start, end - start, _HUGEPAGE)
            madvise(start, end - start, _COLLAPSE)
