"""Calibration rows as a table, a document and a plot of the operating curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pytest_loaderperf.errors import LoaderPerfError

CALIBRATION_SCHEMA = "loaderperf-calibration/1"


class Calibrated(Protocol):
    """The claims of one effect, as calibration counts them."""

    effect: float
    outcomes: list[str]
    seconds: list[float]

    @property
    def median_s(self) -> float: ...

    def share(self, outcome: str, within_s: float = ...) -> float: ...


def calibration_lines(rows: Sequence[Calibrated]) -> list[str]:
    """One line a row, under a heading."""
    lines = ["slowdown beyond the threshold   claims    FAIL    PASS  INCONCLUSIVE  median s   FAIL in 1 / 5 / 10 s"]
    for row in rows:
        what = f"{row.effect:.1%}" if row.effect else "none (A/A)"
        shares = " / ".join(f"{row.share('FAIL', within_s):.1%}" for within_s in (1, 5, 10))
        lines.append(
            f"{what:<30}  {len(row.outcomes):>6}  {row.share('FAIL'):>6.1%}  {row.share('PASS'):>6.1%}  "
            f"{row.share('INCONCLUSIVE'):>12.1%}  {row.median_s:>8.2f}   {shares}"
        )
    return lines


def calibration_document(
    rows: Sequence[Calibrated],
    *,
    machine: Mapping[str, object],
    alpha: float,
    budget_seconds: float,
    threshold: float,
    noise: bool,
    base: bool,
) -> dict[str, Any]:
    """Everything that was counted, with the raw outcomes and seconds."""
    return {
        "schema": CALIBRATION_SCHEMA,
        "machine": dict(machine),
        "alpha": alpha,
        "budget_seconds": budget_seconds,
        "threshold": threshold,
        "noise": noise,
        "base": base,
        "rows": [{"effect": row.effect, "outcomes": row.outcomes, "seconds": row.seconds} for row in rows],
    }


def draw_operating_curve(rows: Sequence[Calibrated], file: Path) -> None:
    """Write ``file``, a PNG or SVG by its ending: the share of FAIL against the slowdown beyond the threshold.

    Raises LoaderPerfError where matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise LoaderPerfError(
            "a plot needs matplotlib, which is not installed: pip install 'pytest-loaderperf[report]'"
        ) from None
    beyond = [row for row in rows if row.effect]
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    effects = [100 * row.effect for row in beyond]
    for within_s, style in ((1, ":"), (5, "--"), (float("inf"), "-")):
        label = "within the budget" if within_s == float("inf") else f"within {within_s} s"
        axes.plot(effects, [100 * row.share("FAIL", within_s) for row in beyond], style, marker="o", label=label)
    for row in rows:
        if not row.effect:
            axes.axhline(100 * row.share("FAIL"), color="#b00020", linewidth=1, label="false alarms (A/A)")
    axes.set_xlabel("slowdown beyond the threshold, %")
    axes.set_ylabel("claims that FAIL, %")
    axes.set_ylim(-3, 103)
    axes.set_xlim(left=0)
    axes.legend(fontsize=8, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise LoaderPerfError(f"cannot write the plot {file}: {error}") from error
