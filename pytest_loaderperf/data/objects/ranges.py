"""Ranges of an object, read in parallel and ahead of who needs them, and a file over them."""

from __future__ import annotations

import bisect
import io
import threading
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_loaderperf.data.objects.place import ObjectPath, Version
from pytest_loaderperf.data.objects.store import CONNECTIONS, ObjectStore

if TYPE_CHECKING:
    import pyarrow as pa

PIECE_NBYTES = 8 << 20  # of one request: long compared with the wait for its answer
GAP_NBYTES = 256 << 10  # between two ranges that one request reads: about what a store sends while it would wait
AHEAD_NBYTES = CONNECTIONS * PIECE_NBYTES  # of each reader: requested or arrived, and not yet used


class Range(NamedTuple):
    """The bytes from ``start`` to below ``end``."""

    start: int
    end: int


class StoredObject:
    """One version of an object, read by ranges. Every read checks that it is this version."""

    def __init__(self, store: ObjectStore, path: ObjectPath, version: Version) -> None:
        self.store, self.path, self.version = store, path, version

    @property
    def nbytes(self) -> int:
        return self.version.nbytes

    def fetch(self, ranges: Iterable[Range]) -> Blocks:
        """The bytes of ``ranges``, requested at the same time. Raises DataError."""
        return self._request(ranges).arrived()

    def ahead(self, lists: Iterable[Sequence[Range]], first_nbytes: int = AHEAD_NBYTES) -> Generator[Blocks]:
        """The bytes of each of the ``lists``, in order; the next ones are requested while one is used.

        At most `AHEAD_NBYTES` are requested ahead, but always one list; at first ``first_nbytes``, for readers that may
        stop early. Raises DataError.
        """
        waiting: deque[_Requested] = deque()
        most = first_nbytes
        try:
            for ranges in lists:
                waiting.append(self._request(ranges))
                while waiting and sum(one.nbytes for one in waiting) > most:
                    yield waiting.popleft().arrived()
                    most = min(4 * most, AHEAD_NBYTES)
            while waiting:
                yield waiting.popleft().arrived()
        finally:
            for one in waiting:
                one.cancel()

    def stream(self) -> Generator[pa.Buffer]:
        """All bytes in order, `PIECE_NBYTES` at a time."""
        for blocks in self.ahead([piece] for piece in _pieces(Range(0, self.nbytes))):
            yield blocks.whole(0)

    def file(self, *blocks: Blocks) -> RangeFile:
        """A file over the object, whose reads are taken from ``blocks`` where these have the bytes."""
        return RangeFile(self, blocks)

    def _request(self, ranges: Iterable[Range]) -> _Requested:
        joined = coalesced(ranges, self.nbytes)
        submit, read = self.store.executor.submit, self.store.read
        futures = [[submit(read, self.path, self.version, *piece) for piece in _pieces(one)] for one in joined]
        return _Requested(joined, futures)


def coalesced(ranges: Iterable[Range], nbytes: int) -> list[Range]:
    """``ranges`` within ``nbytes``, sorted, and joined where at most `GAP_NBYTES` are between them."""
    joined: list[Range] = []
    for one in sorted(ranges):
        start, end = max(0, one.start), min(one.end, nbytes)
        if start >= end:
            continue
        if joined and start <= joined[-1].end + GAP_NBYTES:
            joined[-1] = Range(joined[-1].start, max(end, joined[-1].end))
        else:
            joined.append(Range(start, end))
    return joined


def _pieces(one: Range) -> list[Range]:
    return [Range(at, min(at + PIECE_NBYTES, one.end)) for at in range(one.start, one.end, PIECE_NBYTES)]


class _Requested:
    """Ranges whose pieces were requested."""

    def __init__(self, ranges: list[Range], futures: list[list[Future[Any]]]) -> None:
        self._ranges, self._futures = ranges, futures
        self.nbytes = sum(end - start for start, end in ranges)

    def arrived(self) -> Blocks:
        import pyarrow as pa

        try:
            parts = [[future.result() for future in pieces] for pieces in self._futures]
        finally:
            self.cancel()
        joined = [one[0] if len(one) == 1 else b"".join(map(memoryview, one)) for one in parts]
        return Blocks(self._ranges, [pa.py_buffer(one) for one in joined])

    def cancel(self) -> None:
        """Drop the requests that have not begun."""
        for pieces in self._futures:
            for future in pieces:
                future.cancel()


class Blocks:
    """The bytes of some ranges, sorted."""

    def __init__(self, ranges: list[Range], buffers: list[pa.Buffer]) -> None:
        self._ranges, self._buffers = ranges, buffers
        self._starts = [one.start for one in ranges]

    def whole(self, place: int) -> pa.Buffer:
        """The bytes of one range."""
        return self._buffers[place]

    def get(self, start: int, end: int) -> pa.Buffer | None:
        """The bytes from ``start`` to below ``end``, without a copy; None if they are not all here."""
        place = bisect.bisect_right(self._starts, start) - 1
        if place < 0 or self._ranges[place].end < end:
            return None
        return self._buffers[place].slice(start - self._ranges[place].start, end - start)


class RangeFile(io.RawIOBase):
    """A file for libraries that read by position; what its ``blocks`` lack is requested."""

    def __init__(self, content: StoredObject, blocks: Sequence[Blocks]) -> None:
        super().__init__()
        self._content, self._blocks, self._at = content, blocks, 0

    def read(self, size: int | None = -1) -> Any:
        """At most ``size`` bytes, as a buffer."""
        left = max(0, self._content.nbytes - self._at)
        count = left if size is None or size < 0 else min(size, left)
        if not count:
            return b""
        start, self._at = self._at, self._at + count
        for blocks in self._blocks:
            if (found := blocks.get(start, start + count)) is not None:
                return found
        return self._content.fetch([Range(start, start + count)]).whole(0)

    def readall(self) -> bytes:
        """All bytes from here."""
        return bytes(memoryview(self.read()))

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer``; the number of bytes."""
        view = memoryview(buffer).cast("B")
        found = self.read(len(view))
        view[: len(found)] = memoryview(found).cast("B")
        return len(found)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._content.nbytes}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        return self._content.nbytes

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True


class StreamFile(io.RawIOBase):
    """A file that is read once from its beginning to its end."""

    def __init__(self, content: StoredObject) -> None:
        super().__init__()
        self._pieces = content.stream()
        self._left = memoryview(b"")
        self._lock = threading.Lock()  # a library may close it while its own thread reads

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` as far as the bytes have arrived, at least one, or none at the end; the number of bytes."""
        with self._lock:
            if not self._left:
                self._left = memoryview(next(self._pieces, b"")).cast("B")
            view = memoryview(buffer).cast("B")
            count = min(len(view), len(self._left))
            view[:count] = self._left[:count]
            self._left = self._left[count:]
            return count

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        """Drop what was requested ahead."""
        with self._lock:
            self._pieces.close()
        super().close()
