"""What a loader does that it did not do at the base, in words: from ``changes`` of a run's document."""

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


class Changed(NamedTuple):
    """One change; ``file`` is "" and ``line`` 0 if no line of the user's code has it."""

    file: str
    line: int
    text: str


def changed(changes: Mapping[str, Any] | None) -> list[Changed]:
    """Arguments of the loader, then calls; where neither differs, the stages that take longer."""
    if changes is None:
        return []
    found = [
        Changed("", 0, f"{printable(name)} is {printable(value['head'])}, at the base {printable(value['base'])}")
        for name, value in changes["settings"].items()
    ]
    found += [Changed(call["file"], call["line"], _call(call)) for call in changes["calls"]]
    return found or list(_stages(changes["stages"]))


def _stages(stages: Mapping[str, Any]) -> Iterator[Changed]:
    for name, seconds in stages.items():
        mine, other = time_text(seconds["head"]), time_text(seconds["base"])
        yield Changed("", 0, f"{printable(name)} takes {mine} a batch, at the base {other}")


def _call(call: Mapping[str, Any]) -> str:
    base = f"at the base {_times(call['base_count'])}" if call["base_count"] else "at the base never"
    before = f", at the base {time_text(call['base_seconds'])}" if call["base_seconds"] else ""
    return (
        f"{_called(call['callee'])} {_times(call['count'])} a {printable(call['unit'])}, {base}; "
        f"takes {time_text(call['seconds'])} a sample{before}"
    )


def _called(callee: str) -> str:
    return f"operator {_OPERATORS[callee]}" if callee in _OPERATORS else printable(callee)


def _times(count: float) -> str:
    number = three_digits(count)
    number = number.rstrip("0").rstrip(".") if "." in number else number
    return "once" if number == "1" else f"{number} times"
