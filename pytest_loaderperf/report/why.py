"""Why a claim failed: what the doctor says of its loader, as a section of the failed test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pytest_loaderperf.diagnosis import Comparison, Difference, Finding
from pytest_loaderperf.errors import printable
from pytest_loaderperf.report.doctor import place_text
from pytest_loaderperf.report.figures import three_digits, time_text

_MOST = 3  # of each kind: a failure is read, not studied
_OPERATORS = dict(
    pair.split("=", 1)
    for pair in "Add=+ Sub=- Mult=* Div=/ FloorDiv=// Mod=% Pow=** MatMult=@ BitAnd=& BitOr=| Eq=== NotEq=!= Lt=< "
    "LtE=<= Gt=> GtE=>= In=in".split()
)
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
    lines = [
        *(
            f"{printable(name)} is {printable(mine)}, at the base {printable(other)}"
            for name, mine, other in comparison.settings
        ),
        *map(_difference_line, comparison.differences[:_MOST]),
        *_finding_lines(comparison.findings),
    ]
    if lines:
        return Why("doctor: what the loader does that it did not do at the base", lines)
    longer = [
        f"{printable(name)} takes {time_text(mine)} a batch, at the base {time_text(other)}"
        for name, mine, other in comparison.stages[:_MOST]
    ]
    return Why(
        "doctor: the same calls as at the base", longer or ["and each takes about as long, as far as it can see"]
    )


def _unseen_lines(unseen: str) -> list[str]:
    """What kept the doctor from seeing more: the first line of an error, and the last one, which has the cause."""
    said = [line.strip() for line in unseen.splitlines() if line.strip()]
    return [printable(" ".join([said[0], *said[1:][-1:]]), _MOST_UNSEEN)] if said else []


def _difference_line(one: Difference) -> str:
    base = f"at the base {_times(one.base_count)}" if one.base_count else "at the base never"
    before = f", at the base {time_text(one.base_seconds)}" if one.base_seconds else ""
    return (
        f"{place_text(one.file, one.line)}: {_called(one.callee)} {_times(one.count)} a {one.unit}, {base}; "
        f"takes {time_text(one.seconds)} a sample{before}"
    )


def _called(callee: str) -> str:
    return f"operator {_OPERATORS[callee]}" if callee in _OPERATORS else printable(callee)


def _times(count: float) -> str:
    number = three_digits(count)
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return "once" if number == "1" else f"{number} times"


def _finding_lines(findings: Iterable[Finding]) -> Iterator[str]:
    for finding in list(findings)[:_MOST]:
        at = f"{place_text(finding.file, finding.line)}: " if finding.file else ""
        yield f"{at}{finding.rule}: {printable(finding.message)}"
        yield f"  fix: {printable(finding.fix)}"
