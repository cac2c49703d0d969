"""The three tracks as a picture: a panel a track, a bar a format and cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

from matplotlib import rcParams
from matplotlib.figure import Figure

from suites.tracks.report import BEFORE, Row

WIDTH_INCHES, BAR_INCHES = 11.0, 0.2
BEFORE_COLOUR, AFTER_COLOUR = "#b5651d", "#0b6e4f"

PANELS: tuple[tuple[str, bool, Callable[[Row], float]], ...] = (
    ("track 1: a sample, us (log scale)", True, lambda row: median(row.sample_ns) / 1e3),
    ("track 2: samples/s (log scale)", True, lambda row: median(row.samples_per_s)),
    ("track 3: data-wait fraction, %", False, lambda row: 100 * median(row.waits)),
)


def draw(rows: Sequence[Row], file: Path) -> None:
    """Write ``file``, a PNG or SVG by its ending. What has no figures keeps its line, with no bar and the reason."""
    rcParams.update({"svg.hashsalt": "tracks", "svg.fonttype": "none"})  # the same data give the same, small file
    figure = Figure(figsize=(WIDTH_INCHES, 1.2 + len(rows) * BAR_INCHES), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharey=True)
    names = [f"{row.format}, {row.cache}" for row in rows]
    colours = [BEFORE_COLOUR if row.cache == BEFORE else AFTER_COLOUR for row in rows]
    for axes, (title, log, value) in zip(panels, PANELS, strict=True):
        values = [value(row) if row.problem is None else 0.0 for row in rows]
        axes.barh(names, values, color=colours, height=0.75)
        if log:
            axes.set_xscale("log")
        for position, (row, shown) in enumerate(zip(rows, values, strict=True)):
            text = f" {shown:,.3g}" if row.problem is None else f" {row.problem[:40]}"
            axes.text(shown or axes.get_xlim()[0], position, text, va="center", fontsize=7)
        axes.set_title(title, loc="left", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.margins(x=0.2)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].invert_yaxis()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130, metadata={"Date": None} if file.suffix == ".svg" else None)
