"""How the cost of a call grows with a size: counted where Python does the work, timed where C does."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_loaderperf.errors import ClaimError

_LEAST = 2  # sizes
_NOTHING = 0.05  # an exponent of counts below this says that Python does the same work for every size
_REPEATS = 5  # of which the fastest counts
_LEAST_SECONDS = 2e-3  # that a repeat takes: shorter calls are repeated
_MOST_CALLS = 1 << 14


@dataclass(frozen=True, slots=True)
class Growth:
    """``call(n)`` grows as n to the ``exponent``. ``costs``: at each of ``sizes``, counted or in seconds (``how``)."""

    exponent: float
    sizes: tuple[int, ...]
    costs: tuple[float, ...]
    how: str


def growth(call: Callable[[int], Any], sizes: Sequence[int] = (100, 1_000, 10_000)) -> Growth:
    """Measure how the cost of ``call(n)`` grows with ``n``; its result may be a function, which is then measured.

    ``call(n)`` that returns a function prepares the data, which does not count. Lines and calls of Python are counted,
    which is exact; if these do not grow, the time is taken. Raises ClaimError for fewer than two different sizes.
    """
    if len(set(sizes)) < _LEAST or min(sizes) < 1:
        raise ClaimError(
            f"expected at least two different positive sizes, got {list(sizes)!r}. Give sizes=[100, 10_000]."
        )
    prepared = [_prepared(call, size) for size in sizes]
    counts = [float(_counted(work)) for work in prepared]
    of_counts = exponent(sizes, counts)
    if of_counts > _NOTHING:
        return Growth(of_counts, tuple(sizes), tuple(counts), "counted")
    times = [_timed(work) for work in prepared]
    return Growth(max(0.0, exponent(sizes, times)), tuple(sizes), tuple(times), "timed")


def _prepared(call: Callable[[int], Any], size: int) -> Callable[[], Any]:
    made = call(size)
    return made if callable(made) else lambda: call(size)


def _counted(work: Callable[[], Any]) -> int:
    """Lines of Python that ``work`` executes, and calls that it makes."""
    seen = 0

    def traced(_frame: Any, _event: str, _value: Any) -> Any:
        nonlocal seen
        seen += 1
        return traced

    before = sys.gettrace()
    sys.settrace(traced)
    try:
        work()
    finally:
        sys.settrace(before)
    return seen


def _timed(work: Callable[[], Any]) -> float:
    """Seconds of one call, the fastest of some."""
    calls = 1
    while True:
        seconds = _seconds(work, calls)
        if seconds >= _LEAST_SECONDS or calls >= _MOST_CALLS:
            break
        calls *= 2
    return min(seconds, *(_seconds(work, calls) for _ in range(_REPEATS))) / calls


def _seconds(work: Callable[[], Any], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        work()
    return time.perf_counter() - began


def exponent(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """The slope of log(cost) over log(size), by least squares."""
    xs, ys = [math.log(size) for size in sizes], [math.log(max(cost, 1e-12)) for cost in costs]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    squares = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / squares
