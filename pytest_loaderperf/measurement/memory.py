"""How much memory the process tree grows by."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"  # proc(5): resets the peak resident set size


def release_free_memory() -> None:
    """Collect garbage and release freed heap pages, so that using them again counts as growth."""
    gc.collect()
    with suppress(AttributeError, OSError):  # not glibc: the allocator decides
        ctypes.CDLL(None).malloc_trim(0)


class PeakMemory:
    """Peak growth, in bytes, since it was made: resident memory of this process plus its children's own memory.

    The kernel's peak of this process is exact between samples if it can be reset (Linux). Children, and other systems,
    are only measured when ``sample()`` is called. Memory that processes share is counted once.
    """

    def __init__(self) -> None:
        release_free_memory()
        self._self = psutil.Process()
        self._resets = self._reset_peak()
        self._base = self._self.memory_info().rss
        self._children_base = self._children()
        self._own_peak = self._base
        self._children_peak = self._children_base

    @staticmethod
    def _reset_peak() -> bool:
        try:
            _CLEAR_REFS.write_text(_RESET_PEAK)
        except OSError:
            return False
        return True

    def _children(self) -> int:
        total = 0
        for child in self._self.children(recursive=True):
            try:
                total += child.memory_full_info().uss
            except psutil.Error:
                continue  # it ended between listing and reading
        return total

    def sample(self) -> None:
        """Measure all processes now."""
        self._children_peak = max(self._children_peak, self._children())
        self._own_peak = max(self._own_peak, self._own())

    def _own(self) -> int:
        if self._resets:
            for line in _STATUS.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return int(self._self.memory_info().rss)

    @property
    def nbytes(self) -> int:
        return max(0, self._own_peak - self._base) + max(0, self._children_peak - self._children_base)
