"""Files and folders that are complete or absent, whatever stops the writer."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from pytest_loaderperf.data.formats.table import said
from pytest_loaderperf.errors import DataError

MARKS = ("_schema.arrow", "_versions")  # of the folders that we or Lance wrote; no other folder is ever replaced
_SYNCS = 8  # at once: a file system writes its journal once for all of them


@contextmanager
def complete_or_absent(path: Path) -> Iterator[Path]:
    """A path to write a file or a folder to, that takes the place of ``path`` once all of it is on the disk.

    Raises DataError where that fails; then nothing is left of it, and what lay at ``path`` lies there still.
    """
    if path.is_dir() and any(path.iterdir()) and not any((path / mark).exists() for mark in MARKS):
        raise DataError(f"{path} is a folder that was not written here, and is not replaced. Give another path.")
    try:
        # A folder of the writer's own, because libraries put journals and locks beside what they write.
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
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
        raise DataError(
            f"{path} cannot be written: {said(error)}. What lay there before is unchanged; "
            "free some disk space, give another path, or mend the source of the rows."
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _swap(new: Path, path: Path, replaced: Path) -> None:
    if not (path.is_dir() or new.is_dir()) or not path.exists():
        new.replace(path)
        return
    path.rename(replaced)  # a folder takes nobody's place
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
        return  # Windows flushes neither folders nor what is open for reading
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
