"""Argument types of the command line, and files to write a result to. Light to import."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from pytest_loaderperf.defaults import DEVICES, POLICIES
from pytest_loaderperf.errors import MOST_OF_PATH, printable

PAGE_MARK = '<meta name="generator" content="pytest-loaderperf'  # of our own pages
_HEAD_BYTES = 1000  # of a page, in which it stands


def seconds(text: str) -> float:
    """Argument type: a positive, finite number of seconds."""
    value = _number(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds such as 10, got {text!r}")
    return value


def seconds_or_none(text: str) -> float:
    """Argument type: a number of seconds, or 0 for none."""
    value = _number(text)
    if not (math.isfinite(value) and value >= 0):
        raise argparse.ArgumentTypeError(f"expected a number of seconds such as 3, or 0 for none, got {text!r}")
    return value


def step(text: str) -> float:
    """Argument type: the seconds of a training step, as ``10ms``, ``0.5s`` or a plain number of seconds.

    >>> step("10ms"), step("0.5s"), step("2")
    (0.01, 0.5, 2.0)
    """
    number, per_second = text.strip(), 1.0
    for unit, parts in (("us", 1e6), ("ms", 1e3), ("s", 1.0)):
        if number.endswith(unit):
            number, per_second = number.removesuffix(unit), parts
            break
    value = _number(number) / per_second
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a time such as 10ms, 0.5s or 0.5 (seconds), got {text!r}")
    return value


def probability(text: str) -> float:
    """Argument type: a probability between 0 and 1, both excluded."""
    value = _number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a probability between 0 and 1, such as 0.001, got {text!r}")
    return value


def count(text: str) -> int:
    """Argument type: an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer of at least 1, got {text!r}")
    return int(text)


def positive(text: str) -> float:
    """Argument type: a positive, finite number."""
    value = _number(text)
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"expected a positive number such as 1 or 0.5, got {text!r}")
    return value


def device(text: str) -> str:
    """Argument type: cpu, cuda or auto."""
    if text not in DEVICES:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(DEVICES)}, got {text!r}")
    return text


def policy(text: str) -> str:
    """Argument type: what an undecided claim does to its test."""
    if text not in POLICIES:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(POLICIES)}, got {text!r}")
    return text


def file_path(text: str) -> Path:
    """Argument type: a path that is not empty, as it is where a variable of a shell is not set."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got an empty text")
    return Path(text)


def page(text: str) -> Path:
    """Argument type: the name of a page."""
    return _ending(text, ".html", ".htm")


def picture(text: str) -> Path:
    """Argument type: the name of a picture."""
    return _ending(text, ".png", ".svg", ".pdf")


def _ending(text: str, *endings: str) -> Path:
    file = file_path(text)
    if file.suffix not in endings:
        raise argparse.ArgumentTypeError(f"expected a name that ends in {' or '.join(endings)}, got {text!r}")
    return file


def _number(text: str) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


def not_a_file(path: Path, *kinds: str) -> str | None:
    """Why a document of one of these ``kinds`` (its schema without the version) cannot be written to ``path``.

    None if it can. A device, a pipe or a folder is not replaced by a file. Neither is a file of another kind: an option
    without its value takes the next argument, which may be a test, and a result is not replaced by a trace.
    """
    if problem := not_a_place(path):
        return problem
    try:
        target = path.resolve()
        if target.exists() and target.stat().st_size and (kind := _kind_of(target)) not in (kinds or ("loaderperf",)):
            return _not_ours(path) if kind is None else _of_another_kind(path, kind)
    except OSError:
        return not_writable(path)
    return None


def not_a_page(path: Path) -> str | None:
    """The same for a report page: another page of ours is replaced, and nothing else."""
    if problem := not_a_place(path):
        return problem
    try:
        head = path.read_bytes()[:_HEAD_BYTES] if path.exists() else b""
    except OSError:
        return not_writable(path)
    if not head or PAGE_MARK.encode() in head:
        return None
    kind = _kind_of(path)
    return _not_ours(path) if kind is None else _of_another_kind(path, kind)


def _not_ours(path: Path) -> str:
    shown = printable(path, MOST_OF_PATH)
    return f"{shown} was not written by loaderperf, so it is not replaced. Give another path, or remove it."


def not_a_place(path: Path) -> str | None:
    """Why no file can be written to ``path``: it is a device, a pipe or a folder, or it is not a valid path."""
    try:
        target = path.resolve()
        refused = (target.exists() and not target.is_file()) or is_of_the_system(target)
    except (OSError, ValueError, RuntimeError):  # no permission, a NUL in the name, links in a circle
        refused = True
    return not_writable(path) if refused else None


def is_of_the_system(path: Path) -> bool:
    """Whether a path is in a folder of devices or processes, where no user keeps files; /dev/shm is none."""
    parts = path.resolve().parts
    return parts[:2] in (("/", "dev"), ("/", "proc")) and parts[:3] != ("/", "dev", "shm")


def not_writable(path: Path) -> str:
    """The message that no file can be written to ``path``."""
    return f"cannot write {printable(path, MOST_OF_PATH)}. Expected the path of a file in a writable folder."


def is_result(file: Path) -> bool:
    """Whether a file is a loaderperf result: results of runs, checks and calibrations have a schema with that name."""
    return _kind_of(file) is not None


def _kind_of(file: Path) -> str | None:
    """``loaderperf`` of a result, ``loaderperf-trace`` of a trace and so on; None of another program's file."""
    try:
        document = json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError):
        return None
    schema = str(document.get("schema")) if isinstance(document, dict) else ""
    return schema.partition("/")[0] if schema.startswith("loaderperf") else None


def _of_another_kind(path: Path, kind: str) -> str:
    shown = printable(path, MOST_OF_PATH)
    return f"{shown} is a {printable(kind)} document, which is not replaced by another kind. Give another path."
