"""A verdict in words."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_loaderperf.judge import CONFIDENCE, Verdict
from pytest_loaderperf.report.figures import figure, time_text
from pytest_loaderperf.units import ONE


def explain(verdict: Verdict, stages: Mapping[str, float]) -> list[str]:
    """What was needed, what was measured, how sure that is, and which stage costs most."""
    ruling, unit = verdict.ruling, verdict.unit
    bound = "at least" if verdict.at_least else "at most"
    times = " x" if unit == ONE and verdict.right is not None else ""
    low, high = figure(ruling.low, unit), figure(ruling.high, unit)
    lines = [
        f"{ruling.outcome}: {verdict.claim}",
        f"  needed    {bound} {figure(ruling.needed, unit)}{times}",
        f"  measured  {figure(ruling.estimate, unit)}{times}, {CONFIDENCE:.0%} interval {low} to {high}",
    ]
    if verdict.right is not None:
        sides = [figure(value, verdict.left_unit) for value in (verdict.left, verdict.right)]
        lines.append(f"  figures   {sides[0]} against {sides[1]}")
    lines.append(f"  evidence  {evidence(verdict)}")
    if stages:
        ordered = sorted(stages.items(), key=lambda item: -item[1])
        lines.append("  stages    " + ", ".join(f"{name} {share:.0%}" for name, share in ordered) + " of a batch")
    return lines


def evidence(verdict: Verdict) -> str:
    """How many observations in how long, at which error rate, and what they could have shown."""
    ruling = verdict.ruling
    text = f"{ruling.n:,} {verdict.counted} in {time_text(verdict.seconds)}, false-alarm share {verdict.alpha:.2g}"
    if ruling.mde == 0:
        return f"{ruling.n:,} {verdict.counted}, exact"
    if ruling.mde is None:
        return f"{text}; too few to have caught anything"
    if verdict.counted == "batches":
        return f"{text}; would have caught {ruling.mde:.2%} of batches beyond the limit"
    return f"{text}; would have caught {ruling.mde:.1%}"
