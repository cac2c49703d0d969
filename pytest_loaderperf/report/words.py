"""A verdict in words."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pytest_loaderperf.judge import CONFIDENCE, Outcome, Verdict
from pytest_loaderperf.report.figures import budget_text, figure, time_text
from pytest_loaderperf.units import ONE


def explain(verdict: Verdict, stages: Mapping[str, float]) -> list[str]:
    """What was needed and measured, how certain it is, what would decide it, and which stage takes longest."""
    ruling, unit = verdict.ruling, verdict.unit
    bound = "at least" if verdict.at_least else "at most"
    times = " x" if unit == ONE and verdict.right is not None else ""
    low, high = figure(ruling.low, unit), figure(ruling.high, unit)
    lines = [
        f"{ruling.outcome}: {verdict.claim}",
        *_failure(verdict),
        f"  needed    {bound} {figure(ruling.needed, unit)}{times}",
        f"  measured  {figure(ruling.estimate, unit)}{times}, {CONFIDENCE:.0%} interval {low} to {high}",
    ]
    if verdict.right is not None:
        sides = [figure(value, verdict.left_unit) for value in (verdict.left, verdict.right)]
        lines.append(f"  figures   {sides[0]} against {sides[1]}")
    lines += _evidence(verdict)
    if settling := _settling(verdict):
        lines.append(f"  settling  {settling}")
    if stages:
        ordered = sorted(stages.items(), key=lambda item: -item[1])
        lines.append("  stages    " + ", ".join(f"{name} {share:.0%}" for name, share in ordered) + " of a batch")
    return lines


def observations(n: int, counted: str) -> str:
    """``37 pairs``, ``1 batch``."""
    return f"{n:,} {_ONE_OF[counted] if n == 1 else counted}"


_UNCONFIRMED = "from the first batches, but not later in the epoch"
_ONE_OF = {"pairs": "pair", "trials": "trial", "batches": "batch", "epochs": "epoch"}


# What the deciding pairs consist of, by ``Ruling.by``; without a word: the loaders' time by the clock.
_OF = {
    "work": " of the workers' work, in turns,",
    "refills": " of CPU time, in turns,",
    "cpu": " of CPU time",
    "later": " through the epoch, not of its first batches alone,",
}


def _evidence(verdict: Verdict) -> list[str]:
    ruling = verdict.ruling
    seen = observations(ruling.n, verdict.counted)
    if ruling.exact:
        return [f"  evidence  {seen}, exact"]
    of = _OF.get(ruling.by, "")
    lines = [f"  evidence  {seen}{of} in {time_text(verdict.seconds)}, false-alarm share {verdict.alpha:.2g}"]
    beyond = " of batches beyond the limit" if verdict.counted == "batches" else ""
    power = "too few to have caught anything" if ruling.mde is None else f"would have caught {ruling.mde:.1%}{beyond}"
    if verdict.unconfirmed is not None:
        power = f"{verdict.unconfirmed} {_UNCONFIRMED} ({power} there)"
    return [*lines, f"  power     {power}"]


def undecided(verdict: Verdict) -> str:
    """An undecided claim in one line, for the report of a test that passes."""
    ruling, unit = verdict.ruling, verdict.unit
    bound = "at least" if verdict.at_least else "at most"
    low, high = figure(ruling.low, unit), figure(ruling.high, unit)
    parts = [
        f"{ruling.outcome}: {verdict.claim}",
        f"needed {bound} {figure(ruling.needed, unit)}",
        f"measured {figure(ruling.estimate, unit)}, {CONFIDENCE:.0%} interval {low} to {high}",
        f"{observations(ruling.n, verdict.counted)} in {time_text(verdict.seconds)}",
    ]
    if verdict.unconfirmed is not None:
        parts.append(f"{verdict.unconfirmed} {_UNCONFIRMED}")
    elif settling := _settling(verdict):
        parts.append(f"settling it {settling}")
    return "; ".join(parts)


def at_threshold(estimate: float, needed: float, unit: str) -> bool:
    """Whether the estimate and the needed value look the same when printed."""
    return figure(estimate, unit) == figure(needed, unit)


def _failure(verdict: Verdict) -> list[str]:
    """Why an undecided claim fails its test, if it does."""
    if verdict or verdict.ruling.outcome is not Outcome.INCONCLUSIVE:
        return []
    why = f"INCONCLUSIVE, counted as a failure: loaderperf_inconclusive = {verdict.policy}"
    if verdict.policy == "leaning":
        why += f", and the {CONFIDENCE * 100:.0f} % interval is on the wrong side of the threshold"
    return [f"  verdict   {why}"]


def _settling(verdict: Verdict) -> str:
    """What it would take to decide an undecided claim, if the measurements show it; else nothing."""
    ruling, seconds = verdict.ruling, verdict.settles_in_seconds
    if ruling.outcome is not Outcome.INCONCLUSIVE or not ruling.n or verdict.unconfirmed is not None:
        return ""
    if seconds is not None and math.isinf(ruling.high):
        return f"takes a budget of at least {budget_text(seconds)}; too little was measured to say more"
    if seconds is not None:
        return f"probably takes a budget of {budget_text(seconds)}"
    if at_threshold(ruling.estimate, ruling.needed, verdict.unit):
        return "is unlikely with any budget: the true value is at your threshold; allow a larger margin"
    return "probably takes more than an hour: the true value is close to your threshold; allow a larger margin"
