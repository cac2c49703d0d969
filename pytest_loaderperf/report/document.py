"""The result file: one JSON object, schema loaderperf/1."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from pytest_loaderperf.errors import MOST_OF_PATH, ResultError, printable
from pytest_loaderperf.report.shape import first_fault

if TYPE_CHECKING:
    from pytest_loaderperf.judge import Course, Verdict
    from pytest_loaderperf.measurement import Disturbance

SCHEMA = "loaderperf/1"
Document = dict[str, Any]
_EXPECTED = f"expected a result of --loaderperf-json ({SCHEMA})"
_KINDS = {
    "loaderperf-calibration": "a calibration of `loaderperf calibrate --json`",
    "loaderperf-check": "what `loaderperf data check --json` found",
    "loaderperf-comparison": "a comparison of `loaderperf compare --json`",
    "loaderperf-diagnosis": "a diagnosis of `loaderperf doctor --json`",
    "loaderperf-engines": "a comparison of `loaderperf compare --json`",
    "loaderperf-history": "what `loaderperf history --json` found",
    "loaderperf-scale": "a simulated job of `loaderperf scale --json`",
    "loaderperf-trace": "a trace of `loaderperf doctor --trace`",
}
_NAMING = ("name", "kind", "loader")  # what a side is called
_MOST_OF_NOTE = 2000  # characters
_MOST_OF_COURSE = 200  # points: more are not seen on a screen
_LISTED = re.compile(r"\n +(?=[-\d]|null)|(?<=[\d,l])\n +(?=\])")  # line ends within a list of numbers
_MOST_SAMPLES = 100  # of a metric: enough for quartiles and for a rank test, in about a kilobyte
_SAMPLE_DIGITS = 6
_MOST_OF_NAME = 200  # characters: with the added parts, still a valid file name


def metric_entry(
    value: float, low: float, high: float, n: int, unit: str, *, samples: Sequence[float] = ()
) -> Document:
    """One entry of ``metrics``; what is unknown or unbounded is null. ``samples`` are thinned and rounded."""
    entry: Document = {"value": _finite(value), "unit": unit, "low": _finite(low), "high": _finite(high), "n": n}
    if len(samples) > 1:
        every = -(-len(samples) // _MOST_SAMPLES)
        entry["samples"] = [_finite(float(f"{sample:.{_SAMPLE_DIGITS}g}")) for sample in samples[::every]]
    return entry


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
        "at_least": verdict.at_least,
        "course": None if verdict.course is None else _course_entry(verdict.course),
    }


def _course_entry(course: Course) -> Document | None:
    """``course`` in at most ``_MOST_OF_COURSE`` points: of ``each`` so many observations their middle, and the ends."""
    n = len(course.values)
    if not n:
        return None
    each = math.ceil(n / _MOST_OF_COURSE)
    pieces = [sorted(course.values[first : first + each].tolist()) for first in range(0, n, each)]
    last = [min(first + each, n) - 1 for first in range(0, n, each)]
    entry = {"each": each, "values": [_short(piece[(len(piece) - 1) // 2]) for piece in pieces]}
    if each > 1:
        entry |= {"lows": [_short(piece[0]) for piece in pieces], "highs": [_short(piece[-1]) for piece in pieces]}
    for name, logs in (("evidence_pass", course.for_claim), ("evidence_fail", course.against_claim)):
        entry[name] = [_short(log / math.log(10)) for log in logs[last].tolist()]
    return entry | {"enough": _short(course.enough / math.log(10))}


def _short(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


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
    changes: Document | None = None,
    differences: Mapping[str, Document] | None = None,
    unobserved: Sequence[Document] = (),
    ranks: Sequence[Document] = (),
) -> Document:
    """One entry of ``runs``. Each of ``sides`` has ``name``, ``loader`` and ``metrics``; the first is the loader.

    ``ranks``: of a job, each with ``rank``, ``host`` and ``metrics`` of its loader.
    """
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
        "changes": changes,
        "differences": dict(differences or {}),
        "unobserved": list(unobserved),
        "seconds": round(seconds, 3),
        "disturbed": disturbed.share,
        "disturbed_by": dict(disturbed.causes),
        "disturbance": dict(disturbed.totals),
        "notes": [printable(note, _MOST_OF_NOTE) for note in notes],
        "ranks": [rank | {"host": printable(rank["host"])} for rank in ranks],
    }


def result_document(
    *,
    machine: Mapping[str, object],
    commit: str | None,
    base_commit: str | None,
    alpha: float,
    runs: Sequence[Document],
    partial: bool,
    root: str | None = None,
    without_base: Sequence[Mapping[str, object]] = (),
) -> Document:
    """The whole result. ``partial``: the run was interrupted before its end. ``root``: the repository's folder.

    ``without_base``: tests that have no base to compare with; each has ``nodeid``, ``reason`` and ``is_new``.
    """
    return {
        "schema": SCHEMA,
        "machine": dict(machine),
        "commit": commit,
        "base_commit": base_commit,
        "root": root,
        "alpha": alpha,
        "partial": partial,
        "without_base": [
            {
                "nodeid": printable(test["nodeid"], MOST_OF_PATH),
                "reason": printable(str(test["reason"]).partition("\n")[0] or "no reason given"),
                "is_new": test["is_new"],
            }
            for test in without_base
        ],
        "runs": list(runs),
    }


def write_json(document: Document, path: Path) -> None:
    """Write the file so that it is complete or absent. Raises OSError."""
    write_text(_LISTED.sub(" ", json.dumps(document, indent=1, allow_nan=False)) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write a report so that it is complete or absent. Raises OSError."""
    with whole_or_absent(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Document:
    """A result that ``write_json`` has written. Raises ResultError if it cannot be read or is something else.

    What it gives has the keys and types of docs/result-file.md, so reports need not expect others.
    """
    name = printable(path, MOST_OF_PATH)
    try:
        content = path.read_bytes()
        document = json.loads(content, parse_constant=_no_constant)
    except OSError as error:
        raise ResultError(f"cannot read {name}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        what = f"a file that is cut off or is not JSON: {error}" if content.strip() else "an empty file"
        raise ResultError(f"{name}: {_EXPECTED}, got {what}.") from None
    found = document.get("schema") if isinstance(document, dict) else None
    if found != SCHEMA:
        raise ResultError(f"{name}: {_EXPECTED}, got {_kind(found)}.")
    if fault := first_fault(document):
        raise ResultError(
            f"{name}: {_EXPECTED}, got one that was changed or is of another version. {fault}. "
            "Measure again with this version."
        )
    return dict(document)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _kind(schema: object) -> str:
    """What a document is that is not a result of this version."""
    kind, _, version = str(schema).partition("/")
    if kind == SCHEMA.partition("/")[0]:
        return f"a result of version {printable(version)}: use the version of pytest-loaderperf that wrote it"
    if kind in _KINDS:
        return f"{_KINDS[kind]} ({printable(schema)})"
    return "other JSON"


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
