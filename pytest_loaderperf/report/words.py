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
    lines += _evidence(verdict)
    if stages:
        ordered = sorted(stages.items(), key=lambda item: -item[1])
        lines.append("  stages    " + ", ".join(f"{name} {share:.0%}" for name, share in ordered) + " of a batch")
    return lines


def observations(n: int, counted: str) -> str:
    """``37 pairs``, ``1 batch``."""
    return f"{n:,} {_ONE_OF[counted] if n == 1 else counted}"


_ONE_OF = {"pairs": "pair", "trials": "trial", "batches": "batch", "epochs": "epoch"}


def _evidence(verdict: Verdict) -> list[str]:
    ruling = verdict.ruling
    seen = observations(ruling.n, verdict.counted)
    if ruling.exact:
        return [f"  evidence  {seen}, exact"]
    lines = [f"  evidence  {seen} in {time_text(verdict.seconds)}, false-alarm share {verdict.alpha:.2g}"]
    beyond = " of batches beyond the limit" if verdict.counted == "batches" else ""
    power = "too few to have caught anything" if ruling.mde is None else f"would have caught {ruling.mde:.1%}{beyond}"
    if verdict.unconfirmed is not None:
        power = f"{verdict.unconfirmed} by the first batches, but not farther into the epoch ({power} there)"
    return [*lines, f"  power     {power}"]
