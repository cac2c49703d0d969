"""The batches of a side as the result file has them: how they are made, their distribution, their times, and the stalls
among them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_loaderperf.judge import quantile
from pytest_loaderperf.measurement import Round, Steady
from pytest_loaderperf.measurement.any_side import AnySide
from pytest_loaderperf.measurement.prefetched import declared_prefetch
from pytest_loaderperf.measurement.record import SteadyRecord
from pytest_loaderperf.ranks.job_side import JobSide
from pytest_loaderperf.runs.metric import NS

Trial = tuple[int, SteadyRecord]  # and when it began
_BINS = 48  # of the histogram, each wider than the one before by the same factor
_POINTS = 200  # of the time line: more are not seen on a screen
_STALL_TIMES, _STALL_NS = 4.0, 1_000_000.0  # a stall takes this many times p95, and longer than a step would hide
_MOST_STALLS = 100  # kept, the longest ones; all are counted
_MOST_LATENCIES = 20_000  # about 180 KB; of a loader whose batches take 0.5 ms, 10 s have as many
_STRETCHES = 20  # of batches in a row that are kept of more than those: a slow phase is neither all nor nothing of it
_DIGITS = 4


def trials_by_side(rounds: Sequence[Round]) -> dict[str, list[Trial]]:
    """The trials of each side, with the nanoseconds of measuring before each: what lies between rounds is left out."""
    trials: defaultdict[str, list[Trial]] = defaultdict(list)
    measured_ns = 0
    for seen in rounds:
        steady = {key.side: record for key, record in seen.records.items() if key.kind == Steady()}
        found = {name: record for name, record in steady.items() if isinstance(record, SteadyRecord)}
        first_ns = min((record.began_ns for record in found.values()), default=0)
        for name, record in found.items():
            trials[name].append((measured_ns + record.began_ns - first_ns, record))
        measured_ns += round(seen.seconds / NS)
    return dict(trials)


def batches_entry(trials: Sequence[Trial]) -> dict[str, Any] | None:
    """The entry ``batches`` of a side with these trials, each with the time at which it began. None without a batch."""
    began = [(began_ns, np.array(record.latencies_ns, dtype=float)) for began_ns, record in trials]
    if not any(len(latencies) for _, latencies in began):
        return None
    waits_ns = np.concatenate([latencies for _, latencies in began])
    starts_ns = np.concatenate([began_ns + np.cumsum(latencies) - latencies for began_ns, latencies in began])
    order = np.argsort(starts_ns, kind="stable")
    waits_ns, starts_ns = waits_ns[order], starts_ns[order]
    return {
        "count": len(waits_ns),
        "seconds": _short(waits_ns.sum() * NS),
        "histogram": _histogram(waits_ns),
        "timeline": _timeline(starts_ns, waits_ns),
        "stalls": _stalls(starts_ns, waits_ns),
        "latencies": _seconds(_kept(_of_ranks(trials))),
    }


def made_by(side: AnySide) -> dict[str, int]:
    """How many ``workers`` make the batches of ``side``, and how many ahead (``prefetch``); 0 if its consumer does."""
    if _made_by_consumer(side):
        return {"workers": 0, "prefetch": 0}
    declared = getattr(side.loader, "num_workers", None)
    workers = declared if isinstance(declared, int) and declared else next(filter(None, side.own_helpers), 1)
    prefetch = max(1, side.warmup_batches)
    return {"workers": min(workers, prefetch), "prefetch": prefetch}


def _made_by_consumer(side: AnySide) -> bool:
    if isinstance(side, JobSide):  # which never says so
        return not declared_prefetch(side.loader) and not any(side.own_helpers)
    return side.inline


def _of_ranks(trials: Sequence[Trial]) -> np.ndarray:
    """The latencies in order, and in a job those of one rank after another: a batch of the job is the slowest one."""
    ordered = sorted(trials, key=lambda trial: trial[0])
    ranks = [record.ranks or (record,) for _, record in ordered]
    return np.concatenate(
        [np.array(rank.latencies_ns, dtype=float) for of_one in zip(*ranks, strict=True) for rank in of_one]
    )


def _kept(waits_ns: np.ndarray) -> np.ndarray:
    """At most ``_MOST_LATENCIES``: of more, the beginnings of equal parts, as batches in a row matter."""
    if len(waits_ns) <= _MOST_LATENCIES:
        return waits_ns
    each = _MOST_LATENCIES // _STRETCHES
    return np.concatenate([part[:each] for part in np.array_split(waits_ns, _STRETCHES)])


def _histogram(waits_ns: np.ndarray) -> dict[str, Any]:
    waits_ns = np.maximum(waits_ns, 1.0)  # for the logarithm
    low, high = waits_ns.min(), waits_ns.max()
    edges = np.geomspace(low, high, _BINS + 1) if high > low else np.array([low, low * 1.01])
    edges[0], edges[-1] = low, max(high, edges[-1])
    counts, _ = np.histogram(waits_ns, edges)
    return {"edges": _seconds(edges), "counts": counts.tolist()}


def _timeline(starts_ns: np.ndarray, waits_ns: np.ndarray) -> dict[str, Any]:
    """One point for ``each`` so many consecutive batches."""
    each = -(-len(waits_ns) // _POINTS)
    firsts = np.arange(0, len(waits_ns), each)
    pieces = np.split(waits_ns, firsts[1:])
    return {
        "each": each,
        "starts": _seconds(starts_ns[firsts]),
        "typical": _seconds(np.array([np.median(piece) for piece in pieces])),
        "longest": _seconds(np.maximum.reduceat(waits_ns, firsts)),
    }


def _stalls(starts_ns: np.ndarray, waits_ns: np.ndarray) -> dict[str, Any]:
    beyond_ns = max(_STALL_NS, _STALL_TIMES * quantile(waits_ns.tolist(), 0.95))
    found = np.flatnonzero(waits_ns > beyond_ns)
    kept = np.sort(found[np.argsort(-waits_ns[found], kind="stable")[:_MOST_STALLS]])
    return {
        "beyond": _short(beyond_ns * NS),
        "count": len(found),
        "seconds": _short(waits_ns[found].sum() * NS),
        "starts": _seconds(starts_ns[kept]),
        "latencies": _seconds(waits_ns[kept]),
    }


def _seconds(ns: np.ndarray) -> list[float]:
    return [_short(value) for value in (ns * NS).tolist()]


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
