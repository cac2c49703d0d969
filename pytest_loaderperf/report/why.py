"""Why a claim failed: what the doctor says of its loader, as a section of the failed test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pytest_loaderperf.diagnosis import Comparison, Finding
from pytest_loaderperf.errors import printable
from pytest_loaderperf.report.changes import changed
from pytest_loaderperf.report.doctor import place_text

_MOST = 3  # of each kind: a failure is read, not studied
_MOST_UNSEEN = 300  # characters


class Why(NamedTuple):
    """A section of a failed test."""

    title: str
    lines: list[str]


def why_section(findings: Iterable[Finding], comparison: Comparison | None, unseen: str = "") -> Why:
    """What the doctor says of the loader of a failed claim; against its base, only what the base does not do."""
    if comparison is None:
        lines = [*_finding_lines(findings), *_unseen_lines(unseen)]
        if unseen and len(lines) == 1:
            return Why("doctor: the loader could not be observed", lines)
        if lines:
            return Why("doctor: what makes the loader slow", lines)
        return Why("doctor: no known mistake", ["loaderperf doctor MODULE:FACTORY shows where its time goes."])
    found = changed(comparison.to_json())
    said = [f"{place_text(one.file, one.line)}: {one.text}" if one.file else one.text for one in found]
    differs = comparison.settings or comparison.differences  # else ``said`` are the stages
    if differs or comparison.findings:
        kept = said[: len(comparison.settings) + _MOST] if differs else []
        title = "doctor: what the loader does that it did not do at the base"
        return Why(title, [*kept, *_finding_lines(comparison.findings)])
    return Why(
        "doctor: the same calls as at the base", said[:_MOST] or ["and each takes about as long, as far as it can see"]
    )


def _unseen_lines(unseen: str) -> list[str]:
    """What kept the doctor from seeing more: the first line of an error, and the last one, which has the cause."""
    said = [line.strip() for line in unseen.splitlines() if line.strip()]
    return [printable(" ".join([said[0], *said[1:][-1:]]), _MOST_UNSEEN)] if said else []


def _finding_lines(findings: Iterable[Finding]) -> Iterator[str]:
    for finding in list(findings)[:_MOST]:
        at = f"{place_text(finding.file, finding.line)}: " if finding.file else ""
        yield f"{at}{finding.rule}: {printable(finding.message)}"
        yield f"  fix: {printable(finding.fix)}"
