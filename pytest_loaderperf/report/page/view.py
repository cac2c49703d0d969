"""What the page says: result documents as the words and figures of its template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pytest_loaderperf.report.changes import changed, different
from pytest_loaderperf.report.doctor import place_text
from pytest_loaderperf.report.figures import budget_text, gain_text, time_text
from pytest_loaderperf.report.page import charts as drawn
from pytest_loaderperf.report.page.charts import Charts, interval_text, is_at_least, percent, unit_text
from pytest_loaderperf.report.ranks import Slowest, is_on_skew, ranks_text, slowest
from pytest_loaderperf.report.reading import fact_text
from pytest_loaderperf.report.terminal import disturbance_lines
from pytest_loaderperf.report.why import Unobserved, unobserved_text
from pytest_loaderperf.report.words import at_threshold, observations
from pytest_loaderperf.units import ONE

Document = dict[str, Any]
TIMES, NO_FIGURE = "\u00d7", "\u2013"  # a cross, a dash
_SYMBOLS = {"pass": "✓", "fail": "✗", "open": "?"}
_TONES = {"PASS": "pass", "FAIL": "fail", "INCONCLUSIVE": "open"}
_COUNTED = {"pass": ("passes", "pass"), "fail": ("fails", "fail"), "open": ("undecided", "undecided")}
_FEW_RUNS = 6  # all are open from the beginning
_SHORT_COMMIT = 10  # characters
METRICS = {
    "throughput": "samples a second",
    "epoch_throughput": "samples a second, whole epochs",
    "bytes_per_second": "bytes a second",
    "batch_latency_p50": "batch latency, p50",
    "batch_latency_p95": "batch latency, p95",
    "batch_latency_p99": "batch latency, p99",
    "first_batch": "time to first batch",
    "epoch": "epoch",
    "epoch_exit": "leaving an epoch",
    "data_wait": "data-wait fraction",
    "cpu_seconds_per_1k": "CPU time for 1,000 samples",
    "peak_memory": "peak memory",
    "roofline_fraction": "of the roofline",
    "dataloader_ratio": "times a plain DataLoader",
    "against_ratio": "times against",
    "base_ratio": "times base",
    "skew": "skew of the ranks",
}
_RANK_METRICS = {
    "throughput": "samples/s",
    "batch_latency_p50": "p50",
    "batch_latency_p99": "p99",
    "first_batch": "TTFB",
    "skew": f"{TIMES} the others",
}
_SHARES = ("data_wait", "roofline_fraction")


def metric_text(name: str, entry: Document | None) -> str:
    """A metric's value, as the tables show it; a dash if it was not measured."""
    if entry is None or entry["value"] is None:
        return NO_FIGURE
    if name in _SHARES:
        return percent(entry["value"])
    return unit_text(entry["value"], entry["unit"]).removesuffix(" samples/s")


def claim_view(charts: Charts, claim: Document, run: Document, ident: str, most: float) -> Document:
    """A row of the table of verdicts, with its chart."""
    tone = "fail" if claim["failed"] else _TONES[claim["verdict"]]
    times = f" {TIMES}" if claim["unit"] == ONE and claim["counted"] == "pairs" else ""
    bound = "at least" if is_at_least(claim) else "at most"
    return {
        "id": ident,
        "text": claim["claim"],
        "test": run["nodeid"],
        "tone": tone,
        "symbol": _SYMBOLS[_TONES[claim["verdict"]]],
        "verdict": claim["verdict"],
        "counts": "counts as a failure" if claim["failed"] and claim["verdict"] == "INCONCLUSIVE" else "",
        "measured": unit_text(claim["estimate"], claim["unit"]) + times,
        "interval": "" if claim["low"] == claim["high"] else interval_text(claim),
        "needed": f"{bound} {unit_text(claim['needed'], claim['unit'])}{times}",
        "seen": observations(claim["pairs"], claim["counted"]),
        "seconds": time_text(claim["seconds"]),
        "mde": _detectable(claim),
        "outlook": _outlook(claim),
        "scale": drawn.scale(charts, claim, tone, most),
        "pairs": None,
        "evidence": None,
    }


def _detectable(claim: Document) -> str:
    if claim["mde"] is None:
        return "nothing yet"
    if claim["mde"] == 0:
        return "any difference"
    return f"{claim['mde']:.1%} of batches" if claim["counted"] == "batches" else f"{claim['mde']:.1%}"


def _outlook(claim: Document) -> str:
    """What would settle an undecided claim."""
    if claim["unconfirmed"] is not None:
        return f"The first batches gave {claim['unconfirmed']}, which later ones do not confirm."
    if claim["verdict"] != "INCONCLUSIVE" or not claim["pairs"]:
        return ""
    if claim["settles_in_seconds"] is not None:
        return f"A budget of {budget_text(claim['settles_in_seconds'])} would probably settle it."
    close = claim["estimate"] is not None and at_threshold(claim["estimate"], claim["needed"], claim["unit"])
    why = "the true value is at the threshold" if close else "it would take over an hour"
    return f"More measuring will hardly settle it: {why}. Allow a larger margin."


def run_view(charts: Charts, run: Document, claims: Sequence[Document], ident: str) -> Document:
    """The details of a run, with its charts; ``claims`` are the views of its claims."""
    for claim, entry in zip(claims, run["claims"], strict=True):
        if both := drawn.pairs(charts, entry):
            claim["pairs"], claim["evidence"] = both
    stages = drawn.stages(charts, run)
    latencies, timeline, stalls = drawn.batches(charts, run) or (None, None, [])
    named = [name for name in METRICS if any(name in side["metrics"] for side in run["sides"])]
    named += sorted({name for side in run["sides"] for name in side["metrics"]} - set(named))
    return {
        "id": ident,
        "name": run["nodeid"],
        "facts": [
            f"batches of {run['batch_size']:,}",
            run["device"],
            *filter(None, [ranks_text(run)]),
            f"{time_text(run['seconds'])} measured",
        ],
        "claims": claims,
        "findings": [*map(_finding, run["findings"])],
        "changes": [(place_text(one.file, one.line), one.text) for one in changed(run.get("changes"))],
        "differences": [(place_text(one.file, one.line), one.text) for one in different(run)],
        "unobserved": [unobserved_text(Unobserved(**one)) for one in run.get("unobserved", [])],
        "stages": stages,
        "latencies": latencies,
        "timeline": timeline,
        "stalls": stalls,
        "sides": [{key: side[key] for key in ("name", "kind", "loader")} for side in run["sides"]],
        "metrics": [
            {
                "name": METRICS.get(name, name),
                "cells": [metric_text(name, side["metrics"].get(name)) for side in run["sides"]],
            }
            for name in named
        ],
        "roofline": drawn.roofline(charts, run),
        "ranks": ranks_view(charts, run, claims),
        "notes": run["notes"],
    }


def ranks_view(charts: Charts, run: Document, claims: Sequence[Document]) -> Document | None:
    """A row for each rank of a job, which is the slowest, and a chart; None without ranks.

    The slowest has the tone of the run's claim on the skew, as it is in ``claims``: without one, nothing says whether
    it is too slow.
    """
    if not (ranks := run.get("ranks")):
        return None
    slow = slowest(run)
    names = [name for name in _RANK_METRICS if any(name in rank["metrics"] for rank in ranks)]
    tones = [view["tone"] for view, claim in zip(claims, run["claims"], strict=True) if is_on_skew(claim)]
    tone = next((tone for tone in ("fail", "open", "pass") if tone in tones), "")
    return {
        "title": ranks_text(run),
        "columns": [_RANK_METRICS[name] for name in names],
        "rows": [
            {
                "rank": rank["rank"],
                "host": rank["host"],
                "cells": [metric_text(name, rank["metrics"].get(name)) for name in names],
                "slowest": slow is not None and rank["rank"] == slow.rank,
            }
            for rank in ranks
        ],
        "tone": tone,
        "slowest": _slowest(slow),
        "chart": drawn.ranks(charts, run, slow, tone),
    }


def _slowest(slow: Slowest | None) -> Document | None:
    """How slow the slowest rank is, and how that was measured."""
    if slow is None:
        return None
    times = f"{unit_text(slow.times, ONE)} {TIMES}"
    ends = (
        ""
        if None in (slow.low, slow.high)
        else f"95 % interval {unit_text(slow.low, ONE)} to {unit_text(slow.high, ONE)}"
    )
    told = (
        ("in the same trials, without the time in which a rank waits for a core", ends)
        if slow.lasting
        else ("by throughput, which includes waiting for a core; run.skew leaves that out",)
    )
    return {"rank": slow.rank, "host": slow.host, "times": times, "how": "; ".join(filter(None, told))}


def _finding(finding: Document) -> Document:
    gain = f"gain {gain_text(**finding['gain'])}" if finding["gain"] else ""
    place = place_text(finding["file"], finding["line"])
    return {name: finding[name] for name in ("rule", "message", "fix")} | {"place": place, "gain": gain}


def headline(claims: Sequence[Document], loaders: int) -> tuple[str, str]:
    """The verdicts in one sentence, and its tone."""
    tones = Counter(claim["tone"] for claim in claims)
    if not claims:
        return f"{loaders} loader{'s' * (loaders != 1)} measured", ""
    told = [f"{tones[tone]} {_COUNTED[tone][tones[tone] > 1]}" for tone in ("fail", "open", "pass") if tones[tone]]
    first, *others = told
    count, _, verb = first.partition(" ")
    noun = "claim" if count == "1" else "claims"
    told = [f"{count} {noun} {verb}", *others]
    worst = next(tone for tone in ("fail", "open", "pass") if tones[tone])
    if tones["pass"] == len(claims) > 1:
        return f"All {len(claims)} claims pass", "pass"
    return ", ".join(told), worst


def file_view(document: Document, differing: set[str]) -> Document:
    """A result file: its name, commits, and machine; ``differing`` facts are marked."""
    commits = [(word, document[key]) for word, key in (("commit", "commit"), ("base", "base_commit"))]
    return {
        "name": document.get("file", "this run"),
        "facts": [f"{word} {str(commit)[:_SHORT_COMMIT]}" for word, commit in commits if commit],
        "machine": [
            (name.replace("_", " "), fact_text(value), name in differing)
            for name, value in document["machine"].items()
            if value is not None
        ],
        "disturbed": " ".join(line.text for line in disturbance_lines(document["runs"])) or "not disturbed notably",
    }


def is_open(run: Document, runs: int) -> bool:
    """Whether a run's details are shown from the beginning."""
    return runs <= _FEW_RUNS or any(claim["tone"] != "pass" for claim in run["claims"]) or bool(run["findings"])
