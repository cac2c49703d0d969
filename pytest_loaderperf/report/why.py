"""Why a claim failed: what the doctor says of its loader, as a section of the failed test."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pytest_loaderperf.diagnosis import Comparison, Finding
from pytest_loaderperf.errors import MOST_OF_PATH, printable
from pytest_loaderperf.report.changes import BASE, changed, where
from pytest_loaderperf.report.doctor import place_text

_MOST = 3  # of each kind: a failure is read, not studied
_MOST_OF_REASON = 300  # characters
_FRAME = re.compile(r'File "([^"\n]+)", line (\d+), in')  # as Python's tracebacks have it


class Why(NamedTuple):
    """A section of a failed test."""

    title: str
    lines: list[str]


class Unobserved(NamedTuple):
    """A side of a run that the doctor could not observe. ``file`` is "" and ``line`` 0 if no line of code failed."""

    side: str
    reason: str
    file: str
    line: int


def unobserved(side: str, error: str) -> Unobserved:
    """What kept the doctor from observing ``side``: the first line of an error, its last, and the last line of code."""
    said = [line.strip() for line in error.splitlines() if line.strip()]
    frames = _FRAME.findall(error)
    file, line = frames[-1] if frames else ("", 0)
    reason = printable(" ".join([*said[:1], *said[1:][-1:]]), _MOST_OF_REASON)
    return Unobserved(side, reason, printable(file, MOST_OF_PATH), int(line))


def why_section(
    findings: Iterable[Finding], comparison: Comparison | None, unseen: Unobserved | None = None, other: str = BASE
) -> Why:
    """What the doctor says of the loader of a failed claim; against the side ``other``, only what that does not do."""
    if comparison is None:
        return _alone(list(findings), unseen)
    found = changed(comparison.to_json(), other)
    said = [f"{place_text(one.file, one.line)}: {one.text}" if one.file else one.text for one in found]
    differs = comparison.settings or comparison.differences  # else ``said`` are the stages
    if differs or comparison.findings:
        kept = said[: len(comparison.settings) + _MOST] if differs else []
        kept += [] if comparison.differences else ["the calls in your code are the same"]
        what = "it did not do at the base" if other == BASE else f"{printable(other)} does not"
        return Why(f"doctor: what the loader does that {what}", [*kept, *_finding_lines(comparison.findings)])
    return Why(
        f"doctor: the same calls as {where(other)}",
        said[:_MOST] or ["and each takes about as long, as far as it can see"],
    )


def _alone(findings: list[Finding], unseen: Unobserved | None) -> Why:
    lines = list(_finding_lines(findings))
    lines += [] if unseen is None else [unobserved_text(unseen)]
    if findings:
        return Why("doctor: what makes the loader slow", lines)
    if unseen is not None and unseen.side == "loader":
        return Why("doctor: the loader could not be observed", lines)
    return Why("doctor: no known mistake", [*lines, "loaderperf doctor MODULE:FACTORY shows where its time goes."])


def unobserved_text(unseen: Unobserved) -> str:
    """Where the user's code failed, if it did, and why a side could not be observed."""
    at = f"{place_text(unseen.file, unseen.line)}: " if unseen.file else ""
    if unseen.side == "loader":
        return f"{at}{unseen.reason}"
    side = "the base" if unseen.side == BASE else unseen.side
    return f"{at}{printable(side)} could not be observed: {unseen.reason}"


def _finding_lines(findings: Iterable[Finding]) -> Iterator[str]:
    for finding in list(findings)[:_MOST]:
        at = f"{place_text(finding.file, finding.line)}: " if finding.file else ""
        yield f"{at}{finding.rule}: {printable(finding.message)}"
        yield f"  fix: {printable(finding.fix)}"
