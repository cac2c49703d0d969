"""Files and folders that are complete or absent, even if the writer is stopped."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from pytest_loaderperf.data.formats.table import said, was_interrupted
from pytest_loaderperf.errors import DataError

if os.name != "nt":
    import fcntl

MARKS = ("_schema.arrow", "_versions")  # in folders that we or Lance wrote; no other folder is ever replaced
_ALIVE = ".writing"  # in the folder of a writer, which keeps it locked
_SYNCS = 8  # in parallel: a file system writes its journal once for all of them


@contextmanager
def complete_or_absent(
    path: Path, advice: str = "free some disk space, give another path, or fix the source of the rows"
) -> Iterator[Path]:
    """A path to write a file or a folder to, that takes the place of ``path`` once all of it is on the disk.

    Files of an earlier, killed writer of ``path`` are removed. ``advice``: what to do if writing fails.
    Raises DataError if ``path`` cannot be written; then nothing new is left, and an existing ``path`` is unchanged.
    """
    if path.is_dir() and any(path.iterdir()) and not any((path / mark).exists() for mark in MARKS):
        raise DataError(f"{path} is a folder that loaderperf did not write, so it is not replaced. Give another path.")
    try:
        # A separate folder, because libraries put journals and locks next to their files.
        folder, lock = _folder_beside(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {said(error)}. Give a folder that you may write to.") from error
    try:
        new = folder / path.name
        yield new
        _to_disk(new, *new.rglob("*"))
        _swap(new, path, folder / "replaced")
        _to_disk(path.parent)
    except DataError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        if was_interrupted(error):
            raise KeyboardInterrupt from error
        if isinstance(error, NotImplementedError):  # of a library: Arrow's error is one
            advice = "cast such a column, leave it out, or write it as arrow, which stores every type"
        raise DataError(
            f"{path} cannot be written: {said(error)}. What was there before is unchanged; {advice}."
        ) from error
    finally:
        lock.close()
        shutil.rmtree(folder, ignore_errors=True)


def _folder_beside(path: Path) -> tuple[Path, IO[str]]:
    """A new folder, and a lock that shows other processes, until it is closed, that its writer is alive."""
    remove_abandoned(path)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        lock = (folder / _ALIVE).open("x")
        with suppress(OSError):  # a file system without locks: other processes get none either
            _take(lock)
        if folder.exists():  # else another process was faster
            return folder, lock
        lock.close()


def remove_abandoned(path: Path) -> None:
    """Remove the files of killed writers of ``path``."""
    for mark in path.parent.glob(f".{glob.escape(path.name)}.*/{_ALIVE}"):
        with suppress(OSError), mark.open("r+") as lock:  # it is being written, or was just removed
            _take(lock)
            shutil.rmtree(mark.parent, ignore_errors=True)


def _take(lock: IO[str]) -> None:
    """Raises OSError if another process holds it."""
    if os.name == "nt":
        raise OSError(errno.ENOLCK, "files are not locked on Windows")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _swap(new: Path, path: Path, replaced: Path) -> None:
    if not (path.is_dir() or new.is_dir()) or not path.exists():
        new.replace(path)
        return
    path.rename(replaced)  # a rename does not replace a folder
    try:
        new.rename(path)
    except BaseException:
        replaced.rename(path)
        raise


def _to_disk(*paths: Path) -> None:
    """Wait until these files and folders would survive a loss of power."""
    with ThreadPoolExecutor(_SYNCS) as pool:
        list(pool.map(_sync, paths))


def _sync(path: Path) -> None:
    if os.name == "nt":
        return  # Windows flushes neither folders nor files that are open for reading
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
