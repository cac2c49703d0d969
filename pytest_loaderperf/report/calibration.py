"""Calibration rows as a table, a document and a plot of the operating curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol

from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.report.document import whole_or_absent

CALIBRATION_SCHEMA = "loaderperf-calibration/1"
FOREVER = float("inf")
_COLORS = ("#1f4e9c", "#d1660f", "#2f7d32", "#7b3fa0")
_LINEAR_PERCENT = 10  # slowdowns up to here are drawn to scale, larger ones by their logarithm
_TICKS_PERCENT = (0, 1, 2, 3, 5, 7, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


class Calibrated(Protocol):
    """The counted claims of one effect, or of a hand-over that takes twice as long."""

    effect: float
    outcomes: list[str]
    seconds: list[float]
    handover: bool

    @property
    def slower(self) -> bool: ...

    @property
    def median_s(self) -> float: ...

    def share(self, outcome: str, within_s: float = ...) -> float: ...


def calibration_lines(rows: Sequence[Calibrated], within_s: Sequence[float]) -> list[str]:
    """A heading, a line for each row, with FAIL also within so many seconds, and the number of wrong verdicts."""
    shown_s = " / ".join(f"{seconds:g}" for seconds in within_s)
    lines = [f"slowdown beyond the threshold   claims    FAIL    PASS  INCONCLUSIVE  median s   FAIL in {shown_s} s"]
    for row in rows:
        shares = " / ".join(f"{row.share('FAIL', seconds):.1%}" for seconds in within_s)
        lines.append(
            f"{_called(row):<30}  {len(row.outcomes):>6}  {row.share('FAIL'):>6.1%}  {row.share('PASS'):>6.1%}  "
            f"{row.share('INCONCLUSIVE'):>12.1%}  {row.median_s:>8.2f}   {shares}"
        )
    claims = sum(len(row.outcomes) for row in rows)
    wrong = sum(row.outcomes.count("PASS" if row.slower else "FAIL") for row in rows)
    lines.append(f"wrong verdicts: {wrong} of {claims} (FAIL of the same work, PASS of a slower loader)")
    return lines


def _called(row: Calibrated) -> str:
    if row.handover:
        return "hand-over twice as slow"
    return f"{row.effect:.1%}" if row.effect else "none (A/A)"


def loader_words(document: Mapping[str, Any]) -> str:
    """What was calibrated: "2 workers, 3 ms a batch, bursts"."""
    makers = [(document[kind], kind.removesuffix("s")) for kind in ("workers", "threads") if document.get(kind)]
    made = " and ".join(f"{count} {kind}{'s' * (count > 1)}" for count, kind in makers) or "inline"
    length = f", {document['batch_ms']:g} ms a batch" if "batch_ms" in document else ""
    return f"{made}{length}{', bursts' * bool(document.get('bursts'))}{', base' * bool(document.get('base'))}"


def calibration_document(
    rows: Sequence[Calibrated],
    *,
    machine: Mapping[str, object],
    alpha: float,
    budget_seconds: float,
    threshold: float,
    noise: bool,
    base: bool,
    workers: int,
    threads: int,
    batch_ms: float,
    bursts: bool,
    partial: bool,
) -> dict[str, Any]:
    """Everything that was counted, with the raw outcomes and seconds; ``partial``: an interrupt ended it."""
    return {
        "schema": CALIBRATION_SCHEMA,
        "machine": dict(machine),
        "alpha": alpha,
        "budget_seconds": budget_seconds,
        "threshold": threshold,
        "noise": noise,
        "base": base,
        "workers": workers,
        "threads": threads,
        "batch_ms": batch_ms,
        "bursts": bursts,
        "partial": partial,
        "handover": any(row.handover for row in rows),
        "rows": [
            {"effect": row.effect, "handover": row.handover, "outcomes": row.outcomes, "seconds": row.seconds}
            for row in rows
        ],
    }


def draw_operating_curve(
    curves: Sequence[tuple[str, Sequence[Calibrated]]], file: Path, within_s: Sequence[float]
) -> None:
    """Write ``file``, a PNG or SVG by its ending: the share of FAIL against the slowdown beyond the threshold.

    ``curves``: the name and rows of each kind of loader, each drawn in its own colour, with a line for each of
    ``within_s`` and one for the whole budget. Raises LoaderPerfError if matplotlib is not installed or the file
    cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise LoaderPerfError(
            "a plot needs matplotlib, which is not installed: pip install 'pytest-loaderperf[report]'"
        ) from None
    figure = Figure(figsize=(6, 3.0 + 0.6 * len(curves)), layout="constrained")
    axes = figure.subplots()
    for (name, rows), color in zip(curves, cycle(_COLORS), strict=False):
        _draw_rows(axes, f"{name}, " * (len(curves) > 1), rows, color, within_s)
    axes.set_xlabel("slowdown beyond the threshold, %")
    axes.set_ylabel("claims that FAIL, %")
    axes.set_ylim(-3, 103)
    most = max((100 * row.effect for _, rows in curves for row in rows), default=0.0)
    if most > _LINEAR_PERCENT:
        axes.set_xscale("symlog", linthresh=_LINEAR_PERCENT)
        ticks = [tick for tick in _TICKS_PERCENT if tick <= most]
        axes.set_xticks(ticks, labels=[f"{tick}" for tick in ticks])
    axes.set_xlim(left=0)
    axes.legend(fontsize=7, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    try:
        with whole_or_absent(file) as scratch:
            figure.savefig(scratch)
    except (OSError, ValueError) as error:
        raise LoaderPerfError(f"cannot write the plot {file}: {error}") from error


def _draw_rows(axes: Any, name: str, rows: Sequence[Calibrated], color: str, within_s: Sequence[float]) -> None:
    beyond = sorted((row for row in rows if row.effect), key=lambda row: row.effect)
    effects = [100 * row.effect for row in beyond]
    lines = [*zip(sorted(within_s), cycle((":", "--", "-.")), strict=False), (FOREVER, "-")]
    for seconds, style in lines:
        label = f"{name}within " + ("the budget" if seconds == FOREVER else f"{seconds:g} s")
        shares = [100 * row.share("FAIL", seconds) for row in beyond]
        axes.plot(effects, shares, style, color=color, marker="o", markersize=3, label=label)
    for row in rows:
        if not row.slower:
            share = 100 * row.share("FAIL")
            axes.axhline(share, color=color, linewidth=1, alpha=0.5, label=f"{name}false alarms (A/A)")
