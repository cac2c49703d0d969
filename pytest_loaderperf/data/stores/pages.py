"""Which arrays are in small memory pages, from which rows are gathered more slowly than from huge ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

LEAST_NBYTES = 4 << 20  # NumPy requests huge pages from here on; smaller arrays fit into the caches of page addresses
_HUGE_SHARE = 0.5  # of an area of memory: with a smaller share it counts as small pages
_AREAS = Path("/proc/self/smaps")
_HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")


class _Area(NamedTuple):
    """Addresses from ``start`` to below ``stop``, in bytes, and whether these are in private small pages."""

    start: int
    stop: int
    small: bool


def in_small_pages(arrays: list[np.ndarray]) -> list[bool]:
    """Whether each array, of `LEAST_NBYTES` or more, is in small pages that a library allocated.

    False for mapped files, whose pages are shared, and if the system has no huge pages or does not report them.
    """
    asked = [array.nbytes >= LEAST_NBYTES for array in arrays]
    if not any(asked):
        return asked
    try:
        if "[never]" in _HUGE.read_text():
            return [False] * len(arrays)
        areas = [area for area in _areas(_AREAS.read_text()) if area.small]
    except OSError:
        return [False] * len(arrays)
    return [big and _within(array, areas) for big, array in zip(asked, arrays, strict=True)]


def _within(array: np.ndarray, areas: list[_Area]) -> bool:
    start = array.__array_interface__["data"][0]
    held = sum(max(0, min(area.stop, start + array.nbytes) - max(area.start, start)) for area in areas)
    return bool(held > array.nbytes // 2)


def _areas(text: str) -> Iterator[_Area]:
    """The areas in ``text``, of Linux's smaps."""
    start = stop = resident = 0
    anonymous = False
    for line in text.splitlines():
        words = line.split()
        if not words[0].endswith(":"):  # the head of an area: addresses, rights, offset, device, inode, and a path
            first, last = words[0].split("-")
            start, stop, anonymous = int(first, 16), int(last, 16), words[4] == "0"
        elif words[0] == "Rss:":
            resident = int(words[1])
        elif words[0] == "AnonHugePages:":
            yield _Area(start, stop, anonymous and int(words[1]) < resident * _HUGE_SHARE)
