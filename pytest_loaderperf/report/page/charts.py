"""What the page's charts show: their data, and the same in words for those who do not see them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from pytest_loaderperf.report.figures import figure, time_text
from pytest_loaderperf.report.ranks import Slowest
from pytest_loaderperf.report.words import observations
from pytest_loaderperf.units import ONE, SAMPLES_PER_SECOND

Document = dict[str, Any]
_LEAST_SCALE, _MOST_SCALE = math.log(1.1), math.log(4)  # of the scale on each side of the threshold
_FAR_S = 1e100  # beyond all that is measured, but numbers around it can still be computed and written
_FAR = 99.0  # beyond the end of every scale
_CROWDED = 1.5  # a log axis from where values differ by more than this factor
_TENTH = 0.1
_LONG_LOG = 6  # of an e-value, from where its digits are not read
_FEWEST_RANKS = 2  # that can be compared
QUANTILES = ("p50", "p95", "p99")


class Charts:
    """The data of all charts, in the order of the page."""

    def __init__(self) -> None:
        self.data: list[Document] = []

    def add(self, kind: str, label: str, **data: Any) -> Document:
        """Add a chart; what the template needs of it. ``label`` says the figures in words."""
        self.data.append({"kind": kind} | data)
        return {"number": len(self.data) - 1, "label": label}


def is_at_least(claim: Document) -> bool:
    """Whether more is better; results from before the key ``at_least`` have only the claim's text."""
    return bool(claim.get("at_least", ">" in claim["claim"]))


def unit_text(value: float | None, unit: str) -> str:
    """A figure for readers of HTML, where the Greek letter can be shown."""
    return micro(figure(value, unit))


def micro(text: str) -> str:
    """``text`` with the sign for micro that terminals may not show."""
    return text.replace(" us", " µs")


def interval_text(entry: Document) -> str:
    """The 95 % interval of a claim or a metric; "" without an end."""
    if entry["low"] in (None, 0) and entry["high"] is None:
        return ""
    low, high = (unit_text(entry[end], entry["unit"]) for end in ("low", "high"))
    if entry["low"] is None:
        return f"up to {high}"
    return f"from {low}" if entry["high"] is None else f"{low} to {high}"


def _margin(value: float | None, claim: Document, unknown: float) -> float:
    """How far a value is from the threshold, as a logarithm; more is better."""
    if value is None or claim["needed"] <= 0:
        return unknown
    log = math.log(max(value, 1e-300)) - math.log(claim["needed"])
    return log if is_at_least(claim) else -log


def scale_width(claims: Sequence[Document]) -> float:
    """The ends of the common scale of ``claims``."""
    margins = [abs(_margin(claim["estimate"], claim, 0.0)) for claim in claims]
    return min(_MOST_SCALE, max([_LEAST_SCALE, *(1.3 * margin for margin in margins)]))


def scale(charts: Charts, claim: Document, tone: str, most: float) -> Document | None:
    """A claim's estimate and interval against its threshold."""
    if claim["estimate"] is None:
        return None
    unbounded = _FAR if is_at_least(claim) else -_FAR
    ends = (_margin(claim["low"], claim, -unbounded), _margin(claim["high"], claim, unbounded))
    low, high = sorted(ends)
    mid = _margin(claim["estimate"], claim, 0.0)
    side = "better" if mid > 0 else "worse" if mid < 0 else "equal"
    measured, needed = (unit_text(claim[name], claim["unit"]) for name in ("estimate", "needed"))
    label = f"{side}: measured {measured}, needed {needed}; 95 % interval {interval_text(claim) or 'unbounded'}"
    rounded = {name: round(value, 4) for name, value in (("low", low), ("mid", mid), ("high", high), ("most", most))}
    return charts.add("scale", label, tone=tone, **rounded)


def pairs(charts: Charts, claim: Document) -> tuple[Document, Document] | None:
    """What each pair measured, and the evidence after it; None if nothing was weighed."""
    course = claim.get("course")
    if not course:
        return None
    unit, one = claim["unit"], "pair" if claim["counted"] == "pairs" else "trial"
    if claim["counted"] == "epochs":
        one = "epoch"
    values, needed, at_least = course["values"], claim["needed"], is_at_least(claim)
    beyond = sum((value < needed) if at_least else (value > needed) for value in values)
    estimate, limit = unit_text(claim["estimate"], unit), unit_text(needed, unit)
    label = (
        f"Chart of {observations(claim['pairs'], claim['counted'])}: all together {estimate}, "
        f"95 % interval {interval_text(claim) or 'unbounded'}, needed {'at least' if at_least else 'at most'} {limit}; "
        f"{beyond} of {len(values)} points are on the wrong side"
    )
    smallest, largest = min(course.get("lows", values)), max(course.get("highs", values))
    drawn = charts.add(
        "pairs",
        label,
        **{name: course.get(name) and [*map(_drawable, course[name])] for name in ("values", "lows", "highs")},
        **{name: _drawable(claim[name]) for name in ("needed", "low", "high")},
        each=course["each"],
        unit=unit,
        mid=_drawable(claim["estimate"]),
        at_least=at_least,
        log=smallest > 0 and (unit == ONE or max(largest, needed) > _CROWDED * min(smallest, needed)),
        one=one,
    )
    drawn["title"] = {"pair": "Pair by pair", "trial": "Trial by trial", "epoch": "Epoch by epoch"}[one]
    ends = [(name, course[f"evidence_{name.lower()}"][-1]) for name in ("PASS", "FAIL")]
    said = " and ".join(f"{_e_value(log)} for {name}" for name, log in ends)
    evidence = charts.add(
        "evidence",
        f"Chart of the evidence after each {one}: at the end {said}; {_e_value(course['enough'])} settles the claim",
        **{"pass": course["evidence_pass"], "fail": course["evidence_fail"]},
        each=course["each"],
        enough=course["enough"],
        one=one,
    )
    return drawn, evidence


def _drawable(value: float | None) -> float | None:
    """``value``, brought to where an axis can still be computed around it."""
    if not value:
        return value
    return math.copysign(min(max(abs(value), 1 / _FAR_S), _FAR_S), value)


def _e_value(log: float | None) -> str:
    if log is None:
        return "none"
    if abs(log) >= _LONG_LOG:
        return f"10 to the power of {log:.0f}"
    return f"{10**log:,.0f}" if log > 0 else f"{10**log:.2g}"


def batches(charts: Charts, run: Document) -> tuple[Document, Document, list[str]] | None:
    """The distribution of batch latencies, their time line, and what stalled, for each loader of a run."""
    sides = [side for side in run["sides"] if side.get("batches")]
    if not sides:
        return None
    said = []
    for side in sides:
        found = [(name, side["metrics"].get(f"batch_latency_{name}")) for name in QUANTILES]
        told = [f"{name} {unit_text(entry['value'], 's')}" for name, entry in found if entry]
        said.append(f"{side['name']}: {', '.join([*told, f'longest {_longest(side)}'])}")
    latencies = charts.add(
        "latencies", f"Histograms of batch latencies. {'; '.join(said)}", sides=[*map(_spread, sides)]
    )
    stalls = [text for side in sides if (text := _stalled(side))]
    counts = "; ".join(f"{side['name']}: {side['batches']['count']:,} batches" for side in sides)
    label = f"Time line of batches. {counts}. {' '.join(stalls) or 'No stalls.'}"
    timeline = charts.add("timeline", label, sides=[*map(_times, sides)])
    each = max(side["batches"]["timeline"]["each"] for side in sides)
    timeline["note"] = "Each point is a batch." if each == 1 else f"Each point is up to {each:,} batches."
    return latencies, timeline, stalls


def _longest(side: Document) -> str:
    return unit_text(side["batches"]["histogram"]["edges"][-1], "s")


def _spread(side: Document) -> Document:
    histogram = side["batches"]["histogram"]
    edges, counts = histogram["edges"], histogram["counts"]
    found = [(name, side["metrics"].get(f"batch_latency_{name}")) for name in ("p50", "p99")]
    quantiles = [[name, _us(entry["value"])] for name, entry in found if entry and entry["value"]]
    # Edges are equally far apart on a logarithmic axis: the page needs only the ends.
    return {"name": side["name"], "ends": [_us(edges[0]), _us(edges[-1])], "counts": counts, "quantiles": quantiles}


def _times(side: Document) -> Document:
    line, stalls = side["batches"]["timeline"], side["batches"]["stalls"]
    return {
        "name": side["name"],
        "starts": [*map(_ms, line["starts"])],
        **{name: [*map(_us, line[name])] for name in ("typical", "longest")},
        "stalls": [[_ms(start), _us(took)] for start, took in zip(stalls["starts"], stalls["latencies"], strict=False)],
    }


def _us(seconds: float) -> float:
    """Microseconds in few digits, which keeps the page small."""
    us = float(f"{(_drawable(seconds) or 0.0) * 1e6:.3g}")
    return int(us) if us.is_integer() else us


def _ms(seconds: float) -> float:
    ms = round((_drawable(seconds) or 0.0) * 1e3, 1)
    return int(ms) if ms.is_integer() else ms


def _stalled(side: Document) -> str:
    """How many batches stalled, and what that cost; "" if none did."""
    entry = side["batches"]
    stalls, count = entry["stalls"], entry["stalls"]["count"]
    if not count:
        return ""
    share = stalls["seconds"] / entry["seconds"] if entry["seconds"] else 0.0
    named = "1 stall" if count == 1 else f"{count:,} stalls"
    return (
        f"{side['name']}: {named} beyond {time_text(stalls['beyond'])}, {share:.1%} of its time; "
        f"the longest took {_longest(side)}."
    )


def roofline(charts: Charts, run: Document) -> Document | None:
    """Each loader's share of the machine's copy limit; None if there is no limit."""
    shares = {side["name"]: side["metrics"].get("roofline_fraction", {}).get("value") for side in run["sides"]}
    sides = [{"name": name, "value": share, "share": percent(share)} for name, share in shares.items() if share]
    if not sides:
        return None
    said = ", ".join(f"{side['name']} {side['share']}" for side in sides)
    return charts.add("roofline", f"Throughput as a share of the roofline's, measured in pairs: {said}", sides=sides)


def percent(share: float) -> str:
    """A share in percent, with two digits at least."""
    return f"{share:.0%}" if share >= _TENTH else f"{share * 100:.2g}%"


def ranks(charts: Charts, run: Document, slow: Slowest | None, tone: str) -> Document | None:
    """The throughput of each rank; None with fewer than two that have one."""
    entries = [(rank, rank["metrics"].get("throughput") or {}) for rank in run.get("ranks", [])]
    parts = [
        {"rank": rank["rank"], "host": rank["host"], **{name: entry[name] for name in ("value", "low", "high")}}
        for rank, entry in entries
        if entry.get("value") is not None
    ]
    if len(parts) < _FEWEST_RANKS:
        return None
    rates = sorted(part["value"] for part in parts)
    lowest, middle, highest = (unit_text(rate, SAMPLES_PER_SECOND) for rate in (rates[0], median(rates), rates[-1]))
    label = f"Chart of the throughput of {len(parts)} ranks: from {lowest} to {highest}, median {middle}"
    chart = charts.add("ranks", label, parts=parts, median=median(rates), slowest=slow and slow.rank, tone=tone)
    return chart | {"bounded": any(None not in (part["low"], part["high"]) for part in parts)}


def stages(charts: Charts, run: Document) -> Document | None:
    """Which part of a batch's time each stage takes; None if it was not replayed."""
    shares = sorted(run["stages"].items(), key=lambda item: -item[1])
    if not shares:
        return None
    parts, end = [], 0.0
    for name, share in shares:
        parts.append({"name": name, "share": share, "from": round(end, 4), "to": round(end := end + share, 4)})
    said = ", ".join(f"{name} {percent(share)}" for name, share in shares)
    return charts.add("stages", f"Shares of a batch's time: {said}", parts=parts) | {"note": said}
