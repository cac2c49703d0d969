"""Several result files side by side: the same tests' claims and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pytest_loaderperf.report.page.charts import unit_text
from pytest_loaderperf.report.page.view import METRICS, NO_FIGURE, TIMES, metric_text
from pytest_loaderperf.report.reading import distinct, higher_is_better
from pytest_loaderperf.units import SAMPLES_PER_SECOND

Document = dict[str, Any]
_VERDICTS = {"PASS": ("pass", "✓"), "FAIL": ("fail", "✗"), "INCONCLUSIVE": ("open", "?")}
_SAME = 0.0005  # of a value: a smaller change is printed as none


def compared(documents: Sequence[Document]) -> list[Document]:
    """For each test that several documents have, its claims and metrics, with one cell for each document."""
    by_test: dict[str, list[Document | None]] = {}
    for place, document in enumerate(documents):
        names = distinct([run["nodeid"] for run in document["runs"]])
        for name, run in zip(names, document["runs"], strict=True):
            by_test.setdefault(name, [None] * len(documents))[place] = run
    return [
        {"name": name, "rows": _rows(runs)}
        for name, runs in by_test.items()
        if sum(run is not None for run in runs) > 1
    ]


def _rows(runs: Sequence[Document | None]) -> list[Document]:
    claims = [_claims(run) for run in runs]
    rows: list[Document] = [
        {"name": name, "is_claim": True, "cells": [_claim_cell(of_run.get(name)) for of_run in claims]}
        for name in dict.fromkeys(name for of_run in claims for name in of_run)
    ]
    names = [name for name in METRICS if any(run and name in run["metrics"] for run in runs)]
    for name in names:
        entries = [run["metrics"].get(name) if run else None for run in runs]
        cells = [_metric_cell(name, entry, entries[0]) for entry in entries]
        cells[0]["change"] = ""
        rows.append({"name": METRICS[name], "is_claim": False, "cells": cells})
    return rows


def _claims(run: Document | None) -> dict[str, Document]:
    """The claims of a run by their words; a test may assert the same more than once."""
    claims = run["claims"] if run else []
    return dict(zip(distinct([claim["claim"] for claim in claims]), claims, strict=True))


def _claim_cell(claim: Document | None) -> Document:
    if claim is None:
        return _cell(NO_FIGURE)
    tone, symbol = _VERDICTS[claim["verdict"]]
    return _cell(unit_text(claim["estimate"], claim["unit"]), symbol=f"{symbol} {claim['verdict']}", tone=tone)


def _metric_cell(name: str, entry: Document | None, first: Document | None) -> Document:
    text = metric_text(name, entry)
    if entry and entry["unit"] == SAMPLES_PER_SECOND:
        text = f"{text} samples/s"
    return _cell(text, **_change(name, entry, first))


def _cell(text: str, *, symbol: str = "", tone: str = "", change: str = "") -> dict[str, str]:
    return {"text": text, "symbol": symbol, "tone": tone, "change": change}


def _change(name: str, entry: Document | None, first: Document | None) -> dict[str, str]:
    """How a metric differs from that of the first file, and whether the intervals are apart."""
    if not (entry and first and entry["value"] and first["value"]):
        return {}
    times = entry["value"] / first["value"]
    if abs(times - 1) < _SAME:
        return {"change": "the same"}
    lows, highs = ([one[end] for one in (entry, first)] for end in ("low", "high"))
    apart = None not in (*lows, *highs) and (lows[0] > highs[1] or highs[0] < lows[1])
    better = (times > 1) == higher_is_better(name, entry["unit"])
    told = f"{times:.3g} {TIMES}, " + (("better" if better else "worse") if apart else "intervals overlap")
    return {"change": told} | (
        {"tone": "pass" if better else "fail", "symbol": "▲" if times > 1 else "▼"} if apart else {}
    )
