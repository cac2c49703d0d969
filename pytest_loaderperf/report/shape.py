"""What a result file has: keys and types of docs/result-file.md, so far as reports need them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from pytest_loaderperf.errors import MOST_OF_PATH, printable
from pytest_loaderperf.units import BYTE, BYTES_PER_SECOND, ONE, SAMPLES_PER_SECOND, SECOND

_MOST_SHOWN = 60  # characters of a value that is not as expected
_MISSING = object()


class _Shape(Protocol):
    def faults(self, value: object, at: str) -> Iterator[str]:
        """Where ``value``, which stands at the path ``at``, is not of this shape."""


class _Plain(NamedTuple):
    """A value that is tested alone; ``words`` say what is expected."""

    words: str
    holds: Callable[[object], bool]

    def faults(self, value: object, at: str) -> Iterator[str]:
        if not self.holds(value):
            yield f"{printable(at, MOST_OF_PATH)}: expected {self.words}, got {_shown(value)}"


class _Null(NamedTuple):
    """Null, or a value of a shape."""

    shape: _Shape

    def faults(self, value: object, at: str) -> Iterator[str]:
        if value is not None:
            yield from self.shape.faults(value, at)


class _List(NamedTuple):
    shape: _Shape

    def faults(self, value: object, at: str) -> Iterator[str]:
        if not isinstance(value, list):
            yield from _ANY_LIST.faults(value, at)
            return
        for number, one in enumerate(value):
            yield from self.shape.faults(one, f"{at}[{number}]")


class _Some(NamedTuple):
    """The same with at least one element."""

    shape: _Shape

    def faults(self, value: object, at: str) -> Iterator[str]:
        yield from _List(self.shape).faults(value, at)
        if value == []:
            yield f"{printable(at, MOST_OF_PATH)}: expected at least one value, got none"


class _Each(NamedTuple):
    """An object with any names, whose values have one shape."""

    shape: _Shape

    def faults(self, value: object, at: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield from _OBJECT.faults(value, at)
            return
        for name, one in value.items():
            yield from self.shape.faults(one, f"{at}[{_shown(name)}]")


class _Keys(NamedTuple):
    """An object with these keys. One that ends in "?" may be missing: an earlier version did not write it."""

    shapes: Mapping[str, _Shape]

    def faults(self, value: object, at: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield from _OBJECT.faults(value, at)
            return
        for key, shape in self.shapes.items():
            name = key.removesuffix("?")
            if name in value or name == key:
                yield from shape.faults(value.get(name, _MISSING), f"{at}.{name}".lstrip("."))


def _one_of(*values: str) -> _Plain:
    return _Plain(f"one of {', '.join(values)}", lambda value: value in values)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


_TEXT = _Plain("a text", lambda value: isinstance(value, str))
_NUMBER = _Plain("a number", _is_number)
_INT = _Plain("an integer", lambda value: isinstance(value, int) and _is_number(value))
_FLAG = _Plain("true or false", lambda value: isinstance(value, bool))
_OBJECT = _Plain("an object", lambda value: isinstance(value, dict))
_ANY_LIST = _Plain("a list", lambda value: isinstance(value, list))
_NUMBERS, _LIMIT = _List(_NUMBER), _Null(_NUMBER)  # null: unbounded, or not known
_UNIT = _one_of(SECOND, SAMPLES_PER_SECOND, BYTES_PER_SECOND, BYTE, ONE)
_VERDICT = _one_of("PASS", "FAIL", "INCONCLUSIVE")

_METRICS = _Each(
    _Keys({"value": _LIMIT, "unit": _UNIT, "low": _LIMIT, "high": _LIMIT, "n": _INT, "samples?": _List(_LIMIT)})
)
_BATCHES = _Keys(
    {
        "count": _INT,
        "seconds": _NUMBER,
        "histogram": _Keys({"edges": _Some(_NUMBER), "counts": _Some(_INT)}),
        "timeline": _Keys({"each": _INT, "starts": _NUMBERS, "typical": _NUMBERS, "longest": _NUMBERS}),
        "stalls": _Keys(
            {"beyond": _NUMBER, "count": _INT, "seconds": _NUMBER, "starts": _NUMBERS, "latencies": _NUMBERS}
        ),
    }
)
_SIDE = _Keys({"name": _TEXT, "kind": _TEXT, "loader": _TEXT, "metrics": _METRICS, "batches?": _Null(_BATCHES)})
_COURSE = _Keys(
    {
        "each": _INT,
        "values": _Some(_NUMBER),
        "lows?": _NUMBERS,
        "highs?": _NUMBERS,
        "evidence_pass": _Some(_LIMIT),
        "evidence_fail": _Some(_LIMIT),
        "enough": _NUMBER,
    }
)
_CLAIM = _Keys(
    {
        "claim": _TEXT,
        "verdict": _VERDICT,
        "failed": _FLAG,
        **dict.fromkeys(("estimate", "low", "high"), _LIMIT),
        "needed": _NUMBER,
        "unit": _UNIT,
        "pairs": _INT,
        "counted": _one_of("pairs", "trials", "batches", "epochs"),
        "seconds": _NUMBER,
        "mde": _LIMIT,
        "alpha": _NUMBER,
        "settles_in_seconds": _LIMIT,
        "unconfirmed": _Null(_VERDICT),
        "at_least?": _FLAG,
        "course?": _Null(_COURSE),
    }
)
_GAIN = _Keys({"value": _NUMBER, "low": _NUMBER, "high": _NUMBER, "how": _TEXT})
_FINDING = _Keys({"rule": _TEXT, "message": _TEXT, "file": _TEXT, "line": _INT, "fix": _TEXT, "gain": _Null(_GAIN)})
_CALL = _Keys(
    {
        **dict.fromkeys(("file", "function", "callee", "unit"), _TEXT),
        "line": _INT,
        **dict.fromkeys(("count", "base_count", "seconds", "base_seconds"), _NUMBER),
    }
)
_CHANGES = _Keys(
    {
        "calls": _List(_CALL),
        "settings": _Each(_Keys({"head": _TEXT, "base": _TEXT})),
        "stages": _Each(_Keys({"head": _NUMBER, "base": _NUMBER})),
    }
)
_UNOBSERVED = _Keys({"side": _TEXT, "reason": _TEXT, "file": _TEXT, "line": _INT})
_RANK = _Keys({"rank": _INT, "host": _TEXT, "metrics": _METRICS})
_RUN = _Keys(
    {
        "nodeid": _TEXT,
        "loader": _TEXT,
        "batch_size": _INT,
        "device": _TEXT,
        "metrics": _METRICS,
        "sides": _List(_SIDE),
        "stages": _Each(_NUMBER),
        "claims": _List(_CLAIM),
        "findings": _List(_FINDING),
        "changes?": _Null(_CHANGES),
        "differences?": _Each(_CHANGES),
        "unobserved?": _List(_UNOBSERVED),
        "ranks?": _List(_RANK),
        "seconds": _NUMBER,
        "disturbed": _LIMIT,
        "disturbed_by?": _Each(_NUMBER),
        "notes": _List(_TEXT),
        "file?": _Null(_TEXT),
        "line?": _Null(_INT),
    }
)
_RESULT = _Keys(
    {
        "schema": _TEXT,
        "machine": _Keys({"cpu?": _Null(_TEXT), "cores?": _Null(_INT), "usable_cores?": _Null(_INT)}),
        "commit": _Null(_TEXT),
        "base_commit": _Null(_TEXT),
        "root?": _Null(_TEXT),
        "alpha": _NUMBER,
        "partial": _FLAG,
        "without_base?": _List(_Keys({"nodeid": _TEXT, "reason": _TEXT, "is_new": _FLAG})),
        "runs": _List(_RUN),
    }
)


def first_fault(result: object) -> str:
    """Where a result is not as expected: ``runs[0].claims: expected a list, got nothing``; "" if it is."""
    return next(_RESULT.faults(result, ""), "")


def _shown(value: object) -> str:
    if value is _MISSING:
        return "nothing"
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    return "null" if value is None else printable(repr(value), _MOST_SHOWN)
