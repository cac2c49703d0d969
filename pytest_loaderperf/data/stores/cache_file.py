"""Cache files that can be trusted: the user's own, and complete and undamaged.

A file is an Arrow IPC file, which any reader can open, with a checksum of 64 bytes before its footer.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from pytest_loaderperf.data.execution.cores import usable_cores
from pytest_loaderperf.errors import DataError

_MARK, _CHECK_NBYTES = b"loaderperf-check", 64
_DIGEST_NBYTES = 16
_END = struct.Struct("<i6s")  # of an Arrow IPC file: the length of the footer, and a magic number
_MAGIC = b"ARROW1"
_PIECE_NBYTES = 8 << 20  # in memory at a time for each thread; a multiple of every system's page size
_THREADS = 8  # more are no faster with memory and disks
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

Stamp = tuple[int, ...]


def private_folder(folder: Path) -> None:
    """Make ``folder``, private to its user, if it is missing.

    Raises DataError if it cannot be made, and for one that others own, or that all may write to: they could put
    rows there, or redirect what is written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        link, handle = folder.lstat(), os.open(folder, os.O_RDONLY) if os.name != "nt" else None
    except OSError as error:
        raise DataError(f"the cache folder {folder} cannot be made: {error}. Give another cache_dir.") from error
    if handle is None:
        return  # Windows protects a user's folders by itself
    try:
        facts = os.fstat(handle)
    finally:
        os.close(handle)
    own = os.geteuid()
    advice = "Give a cache_dir of your own: one that is missing is made for you alone."
    owner = link.st_uid if link.st_uid not in (own, 0) else facts.st_uid  # of a link that another user made
    if owner != own:
        raise DataError(f"expected a cache folder of user {own}, got {folder}, which user {owner} owns. {advice}")
    if facts.st_mode & stat.S_IWOTH:
        mode = stat.S_IMODE(facts.st_mode)
        raise DataError(f"expected a cache folder that others cannot write to, got {folder}, mode {mode:o}. {advice}")


def open_own(path: Path) -> BinaryIO:
    """The file at ``path``, open for reading. Raises OSError for a link, ValueError if others may have written it."""
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, os.O_RDONLY | flags), "rb")  # O_NONBLOCK: a pipe would wait forever
    try:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is not a file")
        if os.name != "nt" and facts.st_uid != os.geteuid():
            raise ValueError(f"user {facts.st_uid} owns it, and not user {os.geteuid()}")
        if os.name != "nt" and facts.st_mode & OTHERS_WRITE:
            raise ValueError(f"others may write to it: its mode is {stat.S_IMODE(facts.st_mode):o}")
    except BaseException:
        file.close()
        raise
    return file


def stamp_of(facts: os.stat_result) -> Stamp:
    """Facts that change with the content of a file."""
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def seal(path: Path) -> None:
    """Write the checksum into the Arrow IPC file at ``path``, and make the file private."""
    path.chmod(0o600)
    with path.open("r+b") as file:
        footer = _footer_at(file)
        file.seek(footer)
        tail = file.read()
        check = _check_of(file, footer, tail)
        file.seek(footer)
        file.write(check + tail)


def verify(file: BinaryIO) -> None:
    """Read all of ``file``. Raises ValueError if it is not, byte for byte, what `seal` left."""
    footer = _footer_at(file)
    start = footer - _CHECK_NBYTES
    file.seek(max(0, start))
    check = file.read(_CHECK_NBYTES)
    if start < 0 or not check.startswith(_MARK):
        raise ValueError("it has no checksum")
    if check != _check_of(file, start, file.read()):
        raise ValueError("its checksum does not match")


def _footer_at(file: BinaryIO) -> int:
    size = os.fstat(file.fileno()).st_size
    if size < _END.size:
        raise ValueError("it is too short")
    file.seek(size - _END.size)
    length, magic = _END.unpack(file.read(_END.size))
    footer: int = size - _END.size - length
    if magic != _MAGIC or not 0 <= footer <= size - _END.size:
        raise ValueError("its end is missing")
    return footer


def _check_of(file: BinaryIO, nbytes: int, tail: bytes) -> bytes:
    """The checksum of the first ``nbytes`` of ``file``, and of the ``tail`` after the checksum."""

    def checksum(start: int) -> int:
        length = min(_PIECE_NBYTES, nbytes - start)
        with mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=start) as piece:
            return zlib.crc32(piece)

    with ThreadPoolExecutor(min(_THREADS, usable_cores())) as pool:  # zlib releases the interpreter lock
        sums = list(pool.map(checksum, range(0, nbytes, _PIECE_NBYTES)))
    whole = struct.pack(f"<{len(sums)}I", *sums) + tail
    return (_MARK + hashlib.blake2b(whole, digest_size=_DIGEST_NBYTES).digest()).ljust(_CHECK_NBYTES, b"\0")
