"""What a result says of the ranks of a job: which is the slowest, and by how much."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from pytest_loaderperf.report.figures import figure
from pytest_loaderperf.units import ONE

Document = dict[str, Any]
_SKEW, _THROUGHPUT = "skew", "throughput"
_FEWEST = 2  # ranks of which one can be the slowest


class Slowest(NamedTuple):
    """The slowest rank of a job. ``times``: how much longer it takes than the median of the others, 1.2 for 20 %.

    ``lasting``: by the trials of the skew, without waiting for a core; else by the ranks' throughput.
    """

    rank: int
    host: str
    times: float
    low: float | None
    high: float | None
    lasting: bool


def slowest(run: Document) -> Slowest | None:
    """The slowest rank of a run; None without several ranks, or if nothing tells how fast each was."""
    ranks = run.get("ranks", [])
    skews = [rank["metrics"].get(_SKEW) for rank in ranks]
    if len(ranks) < _FEWEST:
        return None
    if all(entry and entry["value"] for entry in skews):
        place = max(range(len(ranks)), key=lambda at: float(skews[at]["value"]))
        entry = skews[place]
        return _slowest(ranks[place], entry["value"], entry["low"], entry["high"], lasting=True)
    rates = [rank["metrics"].get(_THROUGHPUT, {}).get("value") for rank in ranks]
    if not all(rates):
        return None
    place = min(range(len(ranks)), key=rates.__getitem__)
    others = statistics.median([*rates[:place], *rates[place + 1 :]])
    return _slowest(ranks[place], others / rates[place], None, None, lasting=False)


def _slowest(rank: Document, times: float, low: float | None, high: float | None, *, lasting: bool) -> Slowest:
    return Slowest(rank["rank"], rank["host"], times, low, high, lasting)


def ranks_text(run: Document) -> str:
    """``64 ranks on 8 hosts``; "" without ranks."""
    ranks = run.get("ranks", [])
    if not ranks:
        return ""
    hosts = len({rank["host"] for rank in ranks})
    return f"{len(ranks)} rank{'s' * (len(ranks) > 1)}" + (f" on {hosts} hosts" if hosts > 1 else "")


def is_on_skew(claim: Document) -> bool:
    """Whether a claim is on the skew of the ranks."""
    return str(claim["claim"]).partition(" ")[0] == _SKEW


def slowest_text(run: Document, claims: Sequence[Document], show: Callable[[str], str] = str) -> str:
    """Which rank is the slowest, on which host, if one of ``claims`` is on the skew; else "".

    ``show`` makes the host's name harmless where it is shown.
    """
    found = slowest(run) if any(map(is_on_skew, claims)) else None
    if found is None:
        return ""
    by = "" if found.lasting else " by throughput"
    return (
        f"slowest{by}: rank {found.rank} on {show(found.host)}, {figure(found.times, ONE)} x the median of the others"
    )
