"""The JSON files of an asv results folder: read with their version, replaced at once, by one writer at a time."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

from pytest_loaderperf.errors import ResultError

Json = dict[str, Any]
BENCHMARKS, MACHINE = "benchmarks.json", "machine.json"
BENCHMARKS_VERSION, MACHINE_VERSION, RESULT_VERSION = 2, 1, 2  # of the files of asv 0.6
_WAIT_SECONDS, _NAP_SECONDS = 30.0, 0.02  # for another writer, who needs milliseconds


def read(path: Path, version: int) -> Json | None:
    """The content of one of asv's files; None if it is not there. Raises ResultError for any other file."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResultError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ResultError(
            f"{path}: expected a file of asv, got one that is cut off or is not JSON: {error}. "
            "Nothing was written. Restore that file, or give another folder."
        ) from None
    found = content.get("version") if isinstance(content, dict) else None
    if found != version:
        what = "other JSON" if found is None else f"version {found!r}"
        raise ResultError(
            f"{path}: expected asv's version {version} of this file, got {what}. Nothing was written. "
            "Run asv update, or give another folder."
        )
    return dict(content)


def read_results(path: Path) -> Json | None:
    """A file of results; None if it is not there. Raises ResultError for any other file."""
    content = read(path, RESULT_VERSION)
    kinds = {"commit_hash": str, "params": dict, "results": dict}
    if content is not None and not all(isinstance(content.get(key), kind) for key, kind in kinds.items()):
        raise ResultError(
            f"{path}: expected a file of asv with {', '.join(kinds)}, got one without. Nothing was written. "
            "Remove that file, or give another folder."
        )
    return content


def result_files(directory: Path, env_prefix: str) -> list[Path]:
    """Files of results, of all machines, whose environment's name begins with ``env_prefix``."""
    return sorted(path for path in directory.glob("*/*.json") if path.name.partition("-")[2].startswith(env_prefix))


def write(path: Path, content: Mapping[str, Any], *, compact: bool = False) -> None:
    """Replace a file of asv, which is complete or as it was. Raises ResultError."""
    scratch = path.with_name(f".{token_hex(8)}.tmp")  # asv reads only what ends with .json
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with scratch.open("x", encoding="utf-8") as file:
                if compact:
                    json.dump(content, file, separators=(",", ":"))
                else:
                    json.dump(content, file, indent=4, sort_keys=True)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from None


def _cannot_write(path: Path, error: OSError) -> ResultError:
    return ResultError(
        f"cannot write {path}: {error.strerror or error}. Expected a folder for asv's results that can be written to."
    )


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Make the folder, and keep other writers of ours out of it. Raises ResultError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _cannot_write(directory, error) from None
    try:
        _lock(handle, directory)
        yield
    finally:
        os.close(handle)  # which unlocks it


def _lock(handle: int, directory: Path) -> None:
    until_s = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until_s:
                raise ResultError(
                    f"{directory}: another process has been writing results for {_WAIT_SECONDS:g} s. "
                    "Expected it to be done by now: end it, and write again."
                ) from None
            time.sleep(_NAP_SECONDS)
        except OSError as error:
            raise _cannot_write(directory, error) from None
        else:
            return
