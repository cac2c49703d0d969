"""A dataset through every engine: starts a process for each, checks that they agree, and measures them in turns."""

from __future__ import annotations

import json
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from pytest_loaderperf.engines.loaders import BASELINE, ENGINES
from pytest_loaderperf.engines.record import Row, cpu_s_per_1k, ratios, throughput
from pytest_loaderperf.engines.sameness import difference
from pytest_loaderperf.engines.turns import Child, ChildError
from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.judge import quantile_interval

ENGINES_SCHEMA = "loaderperf-engines/1"
LEAST_TURNS = 2  # of every engine, however small the budget: one alone shows no scatter
_SLOW_FIRST_NS = 1_000_000_000  # a first batch that takes longer is timed once
_TIMES_FIRST_EVERY = 4  # turns: a first batch may mean that workers start
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "LITDATA_DISABLE_VERSION_CHECK": "1"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to compare: a dataset's name, ``engines``, and how each is to load it."""

    dataset: str
    engines: Sequence[str]
    batch_size: int
    workers: int
    budget_seconds: float
    collate: str = ""


def compare_engines(wanted: Wanted, progress: Callable[[str], None] = lambda text: None) -> dict[str, Any]:
    """Measure the engines in turns, each turn in random order, until the budget is spent; a row for each.

    Raises LoaderError if torch's DataLoader, the unit of the ratios, cannot load the dataset.
    """
    names = [BASELINE, *(name for name in wanted.engines if name != BASELINE)]
    absent = {name: ENGINES[name].missing for name in names if ENGINES[name].missing}
    with TemporaryDirectory(prefix="loaderperf-", ignore_cleanup_errors=True) as folder:
        children: dict[str, Child] = {}
        try:
            progress("building the dataset")
            children[BASELINE] = _child(BASELINE, wanted, Path(folder))
            _prepare_baseline(children[BASELINE])
            progress("starting the engines")
            others = [name for name in names if name not in (BASELINE, *absent)]
            children |= {name: _child(name, wanted, Path(folder)) for name in others}
            for name in others:
                progress(f"checking {name}")
                for step in (children[name].started, children[name].checked, children[name].prepared):
                    children[name].attempt(step)
            turns, seconds = _measure(children, wanted.budget_seconds, progress)
        except BaseException:
            for child in children.values():
                child.end(within_s=0)
            raise
        for child in children.values():
            child.end()
    base = children[BASELINE]
    repeats = base.facts["repeats"]
    entries = {name: _entry(child, base, repeats=repeats) for name, child in children.items()}
    rows = [
        {"engine": name, "title": ENGINES[name].title} | entries.get(name, {"not_run": absent.get(name)})
        for name in names
    ]
    return {
        "schema": ENGINES_SCHEMA,
        "dataset": wanted.dataset,
        "kind": base.facts["kind"],
        "samples": base.facts["samples"],
        "streams": base.facts["streams"],
        "repeats": repeats,
        "batch_size": wanted.batch_size,
        "workers": wanted.workers,
        "turns": turns,
        "seconds": round(seconds, 3),
        "engines": rows,
    }


def _child(name: str, wanted: Wanted, folder: Path) -> Child:
    own = folder / name
    own.mkdir()
    request = {"engine": name, "dataset": wanted.dataset, "collate": wanted.collate}
    request |= {"batch_size": wanted.batch_size, "workers": wanted.workers}  # type: ignore[dict-item]  # all are JSON
    command = [sys.executable, "-m", "pytest_loaderperf.engines.child", json.dumps(request)]
    return Child(Row(name), command, own, cores=wanted.workers, environment=_ENVIRONMENT)


def _prepare_baseline(base: Child) -> None:
    """Start and check it before the others: its problem is one of the dataset. Raises LoaderError for that."""
    try:
        base.started()
        base.checked()
        base.prepared()
    except ChildError as error:
        raise LoaderError(str(error)) from None


def _measure(children: dict[str, Child], budget_s: float, progress: Callable[[str], None]) -> tuple[int, float]:
    """Turns of the baseline and all that are due, until the budget is spent; how many, and the seconds they took."""
    order, began_s, turns = random.Random(), time.monotonic(), 0  # noqa: S311 no secret depends on it
    base = children[BASELINE]
    while base.row.problem is None:
        able = [child for child in children.values() if child.row.problem is None]
        left = time.monotonic() - began_s < budget_s
        due = [child for child in able if is_due(child.row, budget_s / len(able), left=left)]
        if not due:
            break
        taking = [child for child in able if child is base or child in due]  # each ratio needs the baseline
        for child in order.sample(taking, len(taking)):
            progress(f"turn {turns + 1}: {child.row.name}")
            child.turn(turns, times_first=_times_first(child.row, turns))
        turns += 1
    if base.row.problem is not None:
        raise LoaderError(f"{ENGINES[BASELINE].title}, to which the others are compared, failed: {base.row.problem}")
    return turns, time.monotonic() - began_s


def is_due(row: Row, share_s: float, *, left: bool) -> bool:
    """Whether a loader takes part in the next turn: it has few trials, or time is left, also of its own share.

    So a loader that takes long, because its workers start anew in each epoch, does not use up the time of all.
    """
    return len(row.trials) < LEAST_TURNS or (left and row.spent_s < share_s)


def _times_first(row: Row, turn: int) -> bool:
    return turn % _TIMES_FIRST_EVERY == 0 and all(took_ns < _SLOW_FIRST_NS for took_ns in row.first_ns)


def _entry(child: Child, base: Child, *, repeats: bool) -> dict[str, Any]:
    row, facts = child.row, child.facts
    if row.problem is not None:
        return {"not_run": row.problem} if row.unable else {"how": row.how, "problem": row.problem}
    found = _estimate([throughput(row, trial) for trial in row.trials])
    return {
        "how": row.how,
        "samples_per_second": found,
        "ratio": None if child is base else _estimate(ratios(row, base.row)),
        "first_batch_seconds": median(row.first_ns) * 1e-9,
        "cpu_seconds_per_1k": cpu_s_per_1k(row),
        "pss_bytes": median(row.pss_nbytes),
        "idle_cpu_share": row.idle_cpu_s / row.idle_s if row.idle_s else 0.0,
        "differs": difference(facts, base.facts, repeats=repeats),
        "unlike": facts["unlike"],
    }


def _estimate(values: Sequence[float]) -> dict[str, Any]:
    """The median, its 95 % interval, whose ends are None if there are too few values, and their number."""
    low, high = (end if math.isfinite(end) else None for end in quantile_interval(values, 0.5))
    return {"value": median(values), "low": low, "high": high, "n": len(values)}
