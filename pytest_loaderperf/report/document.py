"""The result file: one JSON object, schema loaderperf/1."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from pytest_loaderperf.errors import MOST_OF_PATH, ResultError, printable

if TYPE_CHECKING:  # light to import for commands that only read results
    from pytest_loaderperf.judge import Verdict
    from pytest_loaderperf.measurement import Disturbance

SCHEMA = "loaderperf/1"
Document = dict[str, Any]
_NAMING = ("name", "kind", "loader")  # what a side is called
_MOST_OF_NOTE = 2000  # characters
_MOST_OF_NAME = 200  # characters: with the added parts, still a valid file name


def metric_entry(value: float, low: float, high: float, n: int, unit: str) -> Document:
    """One entry of ``metrics``; what is unknown or unbounded is null."""
    return {"value": _finite(value), "unit": unit, "low": _finite(low), "high": _finite(high), "n": n}


def claim_entry(verdict: Verdict) -> Document:
    """One entry of ``claims``. ``unit``: of estimate, interval and needed. ``counted``: what ``pairs`` counts."""
    ruling = verdict.ruling
    return {
        "claim": printable(verdict.claim),
        "verdict": str(ruling.outcome),
        "failed": not verdict,
        "by": str(getattr(ruling, "by", "")),
        "estimate": _finite(ruling.estimate),
        "low": _finite(ruling.low),
        "high": _finite(ruling.high),
        "needed": ruling.needed,
        "unit": verdict.unit,
        "pairs": ruling.n,
        "counted": verdict.counted,
        "seconds": round(verdict.seconds, 3),
        "mde": ruling.mde,
        "alpha": verdict.alpha,
        "leaning": str(verdict.leaning),
        "settles_in_seconds": verdict.settles_in_seconds,
        "unconfirmed": None if verdict.unconfirmed is None else str(verdict.unconfirmed),
    }


def run_document(
    *,
    nodeid: str,
    sides: Sequence[Document],
    batch_size: int,
    device: str,
    stages: Mapping[str, float],
    verdicts: Sequence[Verdict],
    seconds: float,
    disturbed: Disturbance,
    notes: Sequence[str],
    inconclusive: str,
    findings: Sequence[Document] = (),
) -> Document:
    """One entry of ``runs``. Each of ``sides`` has ``name``, ``loader`` and ``metrics``; the first is the loader."""
    return {
        "nodeid": printable(nodeid, MOST_OF_PATH),
        "loader": printable(sides[0]["loader"]),
        "batch_size": batch_size,
        "device": device,
        "metrics": sides[0]["metrics"],
        "sides": [side | {key: printable(side[key]) for key in _NAMING if key in side} for side in sides],
        "stages": dict(stages),
        "inconclusive": inconclusive,
        "claims": [claim_entry(verdict) for verdict in verdicts],
        "findings": [dict(finding) for finding in findings],
        "seconds": round(seconds, 3),
        "disturbed": disturbed.share,
        "disturbed_by": dict(disturbed.causes),
        "disturbance": dict(disturbed.totals),
        "notes": [printable(note, _MOST_OF_NOTE) for note in notes],
    }


def result_document(
    *,
    machine: Mapping[str, object],
    commit: str | None,
    base_commit: str | None,
    alpha: float,
    runs: Sequence[Document],
    partial: bool,
) -> Document:
    """The whole result. ``partial`` says that the run was interrupted before its end."""
    return {
        "schema": SCHEMA,
        "machine": dict(machine),
        "commit": commit,
        "base_commit": base_commit,
        "alpha": alpha,
        "partial": partial,
        "runs": list(runs),
    }


def write_json(document: Document, path: Path) -> None:
    """Write the file so that it is complete or absent. Raises OSError."""
    with whole_or_absent(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=1, allow_nan=False)
        file.write("\n")


def read_json(path: Path) -> Document:
    """A result that ``write_json`` has written. Raises ResultError if it cannot be read or is something else."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ResultError(f"cannot read {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise ResultError(
            f"{path}: expected a result of --loaderperf-json, got a file that is cut off or is not JSON: {error}"
        ) from None
    found = document.get("schema") if isinstance(document, dict) else None
    if found != SCHEMA:
        what = "other JSON" if found is None else f"schema {found!r}"
        raise ResultError(
            f'{path}: expected a result with schema "{SCHEMA}", got {what}. Measure again with this version.'
        )
    if not isinstance(document.get("runs"), list) or not isinstance(document.get("machine"), dict):
        raise ResultError(f"{path}: expected a list 'runs' and an object 'machine', got a result without them.")
    return dict(document)


@contextmanager
def whole_or_absent(path: Path) -> Iterator[Path]:
    """An empty file next to ``path``, with a unique name, which replaces ``path`` at the end of the block."""
    path = path.resolve()  # a link keeps its target
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name[:_MOST_OF_NAME]}.{token_hex(8)}.tmp{path.suffix}")
    try:
        scratch.touch(exist_ok=False)
        yield scratch
        with scratch.open("rb") as file:
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
