"""The table of the fault suite."""

from __future__ import annotations

from collections.abc import Sequence

from suites.faults.corpus import Outcome

_ROW = "{:<34} {:<24} {:<6} {:<6} {:<6} {:>9} {:>6} {:>5}"


def table(outcomes: Sequence[Outcome], *, heading: bool) -> list[str]:
    """A row for each fault: named, silent on the twin, counts equal, gain predicted and true, seconds of the doctor."""
    lines = [_ROW.format("fault", "rule", "named", "twin", "counts", "predicted", "true", "s")] if heading else []
    for one in outcomes:
        predicted = "-" if one.predicted is None else f"{one.predicted[0]:.2f}x"
        right = ["yes" if good else "NO" for good in (one.named, one.silent, one.same_counts)]
        true = f"{one.true_gain:.2f}x" if one.true_gain else "-"
        lines.append(_ROW.format(one.case[:34], one.rule, *right, predicted, true, f"{one.seconds:.0f}"))
        if not one.named:
            said = ", ".join(f"{rule}:{line}" for rule, line, _ in one.found) or "nothing"
            lines.append(f"    expected {one.rule}:{one.line}, got {said}")
        if one.on_twin:
            lines.append(f"    on the fixed twin: {', '.join(one.on_twin)}")
        if one.error:
            lines.append(f"    {one.error}")
    return lines


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """How many were right."""
    near = [one.near for one in outcomes if one.near is not None]
    inside = [one.inside for one in outcomes if one.inside is not None]
    most = max((one.seconds for one in outcomes), default=0.0)
    named = sum(one.named for one in outcomes)
    return [
        f"{named} of {len(outcomes)} faults named with the right rule and line, and nothing else",
        f"{sum(one.silent for one in outcomes)} of {len(outcomes)} fixed twins without a finding",
        f"{sum(one.same_counts for one in outcomes)} of {len(outcomes)} with equal counts in repeats",
        f"{sum(near)} of {len(near)} predicted gains within 20 % of the true one",
        f"{sum(inside)} of {len(inside)} true gains inside the predicted interval",
        f"the doctor took at most {most:.0f} s",
    ]
