"""The batch latencies of a loader in a result file, and how it makes its batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pytest_loaderperf.errors import MOST_OF_PATH, ResultError, printable
from pytest_loaderperf.scale.blocks import Floats

LEAST_BATCHES = 20  # fewer say nothing about a tail
_LOADER = "loader"  # the name of the side that a run is about
_MOST_LISTED = 20  # names in an error


class Recorded(NamedTuple):
    """Latencies of batches in a row, in seconds, when nothing is done between them.

    ``prefetch``: how many batches are made ahead of the consumer, 0 if it makes them itself. ``workers``: how many make
    them. ``batch_s``: seconds of measuring for each batch, also what else was measured.
    """

    test: str
    loader: str
    kind: str
    latencies_s: Floats
    prefetch: int
    workers: int
    batch_s: float


def recorded_in(document: Mapping[str, Any], test: str = "", loader: str = "") -> Recorded:
    """The latencies of one loader of a result.

    ``test``: a part of the test's name, or all of it; needed if several tests have latencies. ``loader``: its name;
    if not given, the one that the test is about. Raises ResultError if that is not one loader with latencies.
    """
    runs = {str(run["nodeid"]): run for run in document["runs"] if any(side.get("batches") for side in run["sides"])}
    if not runs:
        raise ResultError("expected a loader with batches, got a result without any. Measure one: pytest --loaderperf.")
    chosen = [name for name in runs if name == test] or [name for name in runs if test in name]
    if len(chosen) != 1:
        got = f"--test {printable(test)}" if test else "none"
        raise ResultError(
            f"expected --test with a part of one test's name, got {got}. {_listed('Tests', chosen or runs)}"
        )
    run = runs[chosen[0]]
    sides = {str(side["name"]): side for side in run["sides"] if side.get("batches")}
    name = loader or (_LOADER if _LOADER in sides else next(iter(sides)))
    if name not in sides:
        raise ResultError(
            f"expected one of this test's loaders, got --loader {printable(loader)}. {_listed('Loaders', sides)}"
        )
    return _recorded(chosen[0], sides[name], run["seconds"])


def _listed(what: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    shown = [printable(name, MOST_OF_PATH) for name in [*names][:_MOST_LISTED]]
    more = f"\nand {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return "\n".join([f"{what}:", *shown]) + more


def _recorded(test: str, side: Mapping[str, Any], seconds: float) -> Recorded:
    named = f"{printable(side['name'])} of {printable(test, MOST_OF_PATH)}"
    latencies = side["batches"].get("latencies")
    if latencies is None or side.get("prefetch") is None:
        raise ResultError(
            f"{named}: expected the latency of each batch, got a result of an earlier version, which has only their "
            "distribution. Measure again: pytest --loaderperf --loaderperf-json=FILE."
        )
    try:
        values = np.array(latencies, dtype=float)
    except (ValueError, TypeError, OverflowError):  # texts, lists of different lengths, objects, endless numbers
        values = np.array([np.nan])
    prefetch, workers = side["prefetch"], side.get("workers")
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
        raise ResultError(f"{named}: expected latencies in seconds, 0 or more, got something else. Measure again.")
    if not (type(prefetch) is type(workers) is int and 0 <= workers <= max(1, prefetch) and prefetch >= 0):
        raise ResultError(
            f"{named}: expected a whole number of workers and of batches ahead, got {printable(workers)} and "
            f"{printable(prefetch)}. Measure again."
        )
    if len(values) < LEAST_BATCHES:
        raise ResultError(
            f"{named}: expected at least {LEAST_BATCHES} batches, got {len(values)}. Measure longer: "
            "--loaderperf-budget=SECONDS, or loaderperf bench --budget SECONDS."
        )
    if not values.any():
        raise ResultError(f"{named}: expected latencies, got only zeros: the loader takes no time. Measure again.")
    return Recorded(test, str(side["name"]), str(side["kind"]), values, prefetch, workers, seconds / len(values))
