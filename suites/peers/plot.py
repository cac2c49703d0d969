"""The tables as a picture: one panel for each regime, one bar for each loader, from zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from pytest_loaderperf.engines.record import Row
from suites.peers.loaders import IN_PROCESS, LIMIT, OURS
from suites.peers.report import by_name, ratio, samples_per_s

WIDTH_INCHES, BAR_INCHES, PANEL_INCHES = 8.0, 0.22, 0.75
ROOM = 1.3  # of the longest bar: for the text next to it
OURS_COLOUR, PEER_COLOUR, LIMIT_COLOUR = "#0b6e4f", "#8fa3b0", "#d9d9d9"


def _colour(name: str) -> str:
    return LIMIT_COLOUR if name == LIMIT else OURS_COLOUR if name == OURS else PEER_COLOUR


def _panel(axes: Any, title: str, rows: Sequence[Row]) -> None:
    measured = by_name(rows)  # the slowest first, and bars are drawn upwards
    rates = [samples_per_s(row) for row in measured.values()]
    axes.barh(list(measured), rates, color=[_colour(name) for name in measured], height=0.75)
    base = measured.get(IN_PROCESS)
    for position, (row, rate) in enumerate(zip(measured.values(), rates, strict=True)):
        times = f", {ratio(row, base):.2g} x" if base and row is not base else ""
        axes.text(rate + max(rates) / 100, position, f"{rate:,.0f}{times}", va="center", fontsize=7)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.set_xlim(0, ROOM * max(rates))
    axes.set_ylim(-0.6, len(rates) - 0.4)
    axes.set_title(title, loc="left", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


@rc_context({"svg.hashsalt": "peers", "svg.fonttype": "none"})  # the same data give the same, small file
def draw(results: Mapping[str, Sequence[Row]], titles: Mapping[str, str], file: Path) -> None:
    """Write ``file``, a PNG or SVG by its ending; regimes without any figures are left out."""
    shown = {regime: rows for regime, rows in results.items() if by_name(rows)}
    if not shown:
        return
    bars = [len(by_name(rows)) for rows in shown.values()]
    height = sum(bars) * BAR_INCHES + len(bars) * PANEL_INCHES
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    panels = figure.subplots(len(bars), 1, squeeze=False, height_ratios=[count + 1 for count in bars])[:, 0]
    for axes, (regime, rows) in zip(panels, shown.items(), strict=True):
        _panel(axes, titles[regime], rows)
    panels[-1].set_xlabel(f"samples per second; x: times {IN_PROCESS}", fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130, metadata={"Date": None} if file.suffix == ".svg" else None)
