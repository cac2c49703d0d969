"""What a loader does that another does not, in words: from ``changes`` and ``differences`` of a run's document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pytest_loaderperf.errors import printable
from pytest_loaderperf.report.figures import three_digits, time_text

_OPERATORS = dict(
    pair.split("=", 1)
    for pair in "Add=+ Sub=- Mult=* Div=/ FloorDiv=// Mod=% Pow=** MatMult=@ BitAnd=& BitOr=| Eq=== NotEq=!= Lt=< "
    "LtE=<= Gt=> GtE=>= In=in".split()
)
BASE = "base"  # the side at another commit


class Changed(NamedTuple):
    """One change; ``file`` is "" and ``line`` 0 if no line of the user's code has it."""

    file: str
    line: int
    text: str


def changed(changes: Mapping[str, Any] | None, other: str = BASE) -> list[Changed]:
    """Arguments of the loader, then calls; where neither differs from ``other``, the stages that take longer."""
    if changes is None:
        return []
    there = where(other)
    found = [
        Changed("", 0, f"{printable(name)} is {printable(value['head'])}, {there} {printable(value['base'])}")
        for name, value in changes["settings"].items()
    ]
    found += [Changed(call["file"], call["line"], _call(call, there)) for call in changes["calls"]]
    return found or list(_stages(changes["stages"], there))


def different(run: Mapping[str, Any]) -> list[Changed]:
    """What the loader of a run's document does that its other loaders do not."""
    return [one for other, found in run.get("differences", {}).items() for one in changed(found, other)]


def where(other: str) -> str:
    """What stands before a figure of the side ``other``."""
    return "at the base" if other == BASE else f"in {printable(other)}"


def _stages(stages: Mapping[str, Any], there: str) -> Iterator[Changed]:
    for name, seconds in stages.items():
        mine, other = time_text(seconds["head"]), time_text(seconds["base"])
        yield Changed("", 0, f"{printable(name)} takes {mine} a batch, {there} {other}")


def _call(call: Mapping[str, Any], there: str) -> str:
    mine, other = _times(call["count"]), _times(call["base_count"])
    each, callee = f"{mine} a {printable(call['unit'])}", called(call["callee"])
    before = f", {there} {time_text(call['base_seconds'])}" if call["base_seconds"] else ""
    takes = f"takes {time_text(call['seconds'])} a sample{before}"
    if mine == other:
        return f"{callee} {takes}; called {each}, as {there}"
    return f"{callee} {each}, {there} {other if call['base_count'] else 'never'}; {takes}"


def called(callee: str) -> str:
    """What a line calls, as a reader knows it: ``operator +`` for ``Add``."""
    return f"operator {_OPERATORS[callee]}" if callee in _OPERATORS else printable(callee)


def _times(count: float) -> str:
    number = three_digits(count)
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return "once" if number == "1" else f"{number} times"
