"""The three tracks as a picture: a row for each set of images, a panel for each track, a line for each format."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from suites.tracks.report import BEFORE, Row

WIDTH_INCHES, LINE_INCHES, PANEL_INCHES = 11.0, 0.19, 0.75
STYLES = {  # marker and colour
    BEFORE: ("X", "#c44601"),
    "whole": ("o", "#0b6e4f"),
    "chunked": ("s", "#5ba300"),
    "background": ("^", "#89ce00"),
    "mapped": ("D", "#0073e6"),
    "compressed": ("v", "#e6308a"),
    "lru": ("P", "#b51963"),
    "lazy": ("<", "#7a7a7a"),
}
TRACKS: tuple[tuple[str, bool, Callable[[Row], float]], ...] = (
    ("a sample, us (log scale)", True, lambda row: median(row.sample_ns) / 1e3),
    ("samples/s (log scale)", True, lambda row: median(row.samples_per_s)),
    ("data-wait fraction, %", False, lambda row: 100 * median(row.waits)),
)


@rc_context({"svg.hashsalt": "tracks", "svg.fonttype": "none"})  # the same data give the same, small file
def draw(rows: Sequence[Row], file: Path) -> None:
    """Write ``file``, a PNG or SVG by its ending. A format without figures keeps its line, with the reason."""
    sets = {name: [row for row in rows if row.images == name] for name in dict.fromkeys(row.images for row in rows)}
    heights = [len({row.format for row in own}) * LINE_INCHES + PANEL_INCHES for own in sets.values()]
    figure = Figure(figsize=(WIDTH_INCHES, sum(heights) + PANEL_INCHES), layout="constrained")
    grid = figure.subplots(len(sets), len(TRACKS), squeeze=False, sharey="row", height_ratios=heights)
    for (name, own), line in zip(sets.items(), grid, strict=True):
        formats = list(dict.fromkeys(row.format for row in own))
        for axes, (title, log, value) in zip(line, TRACKS, strict=True):
            _panel(axes, own, formats, value)
            axes.set_title(f"{name}: {title}", loc="left", fontsize=9)
            axes.set_xscale("log" if log else "linear")
        line[-1].set_xlim(0, 100)
        for row in own:
            if row.problem is not None:
                place = (0.01, formats.index(row.format))
                line[0].text(*place, row.problem[:60], fontsize=7, transform=line[0].get_yaxis_transform())
    shown = {row.cache for row in rows}
    marks = [
        grid[0, 0].scatter([], [], 28, colour, marker=marker, label=cache)
        for cache, (marker, colour) in STYLES.items()
        if cache in shown
    ]
    figure.legend(handles=marks, loc="outside upper center", ncols=len(marks), fontsize=9, frameon=False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130, metadata={"Date": None} if file.suffix == ".svg" else None)


def _panel(axes: Any, rows: Sequence[Row], formats: Sequence[str], value: Callable[[Row], float]) -> None:
    for cache, (marker, colour) in STYLES.items():
        told = [row for row in rows if row.cache == cache and row.problem is None]
        places = [formats.index(row.format) for row in told]
        axes.scatter([value(row) for row in told], places, 28, colour, marker=marker, alpha=0.85, linewidths=0)
    axes.set_yticks(range(len(formats)), formats)
    axes.set_ylim(len(formats) - 0.5, -0.5)
    axes.tick_params(labelsize=8)
    axes.grid(linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
