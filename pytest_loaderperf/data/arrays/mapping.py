"""Files that are mapped into memory to be read."""

from __future__ import annotations

import math
import mmap
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import pyarrow as pa

_AROUND_NBYTES = 2 << 20  # the most that the system maps around a byte that is read: a huge page
_LOOKS = 4  # of the memory in use, before the limit may be reached
_STATM = Path("/proc/self/statm")


class FileMapping:
    """A ``file``, open or at a path, as Arrow's ``buffer``.

    This process releases its pages once it may hold ``most_nbytes`` (None: never). They stay in the system's cache of
    the file while there is room, and are mapped again when they are read. Raises OSError, and ValueError for an empty
    file.
    """

    def __init__(self, file: Path | BinaryIO, most_nbytes: int | None = None) -> None:
        import pyarrow as pa

        with file.open("rb") if isinstance(file, Path) else nullcontext(file) as opened:
            self._map = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        self.buffer: pa.Buffer = pa.py_buffer(self._map)
        self.bounded = most_nbytes is not None and most_nbytes < self.buffer.size and hasattr(self._map, "madvise")
        self._most_nbytes, self._unseen_nbytes, self._others_nbytes = most_nbytes or 0, 0, 0.0

    def note_read(self, nbytes: int, places: int) -> None:
        """Note that ``nbytes`` were read, from so many places."""
        if not self.bounded:
            return
        self._unseen_nbytes += nbytes + places * _AROUND_NBYTES
        if self._unseen_nbytes * _LOOKS > self._most_nbytes:
            self._unseen_nbytes = 0
            within = _of_files_nbytes() - self._others_nbytes <= self._most_nbytes
            if not within:  # or unknown
                self.release()
                # Another thread may have mapped pages again: the memory of others is the least that was measured.
                self._others_nbytes = min(self._others_nbytes or math.inf, _of_files_nbytes())

    def release(self) -> None:
        """Release the pages that this process holds."""
        if hasattr(self._map, "madvise"):  # not on Windows
            self._map.madvise(mmap.MADV_DONTNEED)


def _of_files_nbytes() -> float:
    """The memory of this process in mapped files, including its libraries; infinite if unknown."""
    try:
        return int(_STATM.read_bytes().split()[2]) * mmap.PAGESIZE
    except OSError:
        return math.inf
