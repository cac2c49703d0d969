"""What a job of many ranks is expected to do, as a picture, and as a page with it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

from pytest_loaderperf.report.figures import time_text
from pytest_loaderperf.report.pictures import (
    escaped,
    html_table,
    new_figure,
    page_of,
    svg_of,
    write_figure,
    write_page_text,
)
from pytest_loaderperf.report.scale import HEADINGS, cells_of, named, recorded_text, share_text, tail_texts
from pytest_loaderperf.scale import Cell, Forecast, Range, Recorded

_COLORS = ("#1f4e9c", "#c0651a", "#2f7d32", "#8a3b8f", "#5a6472")
_UNSEEN = "#d1860f"


class _Panel(NamedTuple):
    title: str
    of: Callable[[Cell], Range]
    text: Callable[[float], str]


_PANELS = (
    _Panel("step time", lambda cell: cell.step_s, time_text),
    _Panel("accelerator utilisation (AU)", lambda cell: cell.use, lambda value: f"{value:.2g}"),
    _Panel("steps that wait", lambda cell: cell.waiting, share_text),
)


def draw_scale(found: Forecast, file: Path) -> None:
    """Write ``file``, a PNG, SVG or PDF by its ending. Raises LoaderPerfError if that is not possible."""
    write_figure(_figure(found), file)


def write_scale_page(recorded: Recorded, found: Forecast, file: Path) -> None:
    """Write ``file``: one page that needs nothing else. Raises LoaderPerfError if that is not possible."""
    write_page_text(_page(recorded, found), file)


def _page(recorded: Recorded, found: Forecast) -> str:
    rows = ["<tr>" + "".join(f"<td>{escape(text)}</td>" for text in cells_of(cell)) + "</tr>" for cell in found.cells]
    said = [named(recorded), recorded_text(recorded), f"A step without waiting takes {time_text(found.step_s)}."]
    tails = [f"<p>{escape(text)}</p>" for text, _ in tail_texts(recorded, found)]
    parts = [*(f"<p>{escaped(text)}</p>" for text in said), svg_of(_figure(found)), *tails, html_table(HEADINGS, rows)]
    return page_of("A job of many ranks, simulated", parts)


def _figure(found: Forecast) -> Any:
    figure = new_figure(10, 3.4)
    for axes, panel in zip(figure.subplots(1, len(_PANELS)), _PANELS, strict=True):
        _draw(axes, panel, found)
    figure.axes[0].legend(title="prefetch", fontsize=7, title_fontsize=7, frameon=False)
    return figure


def _draw(axes: Any, panel: _Panel, found: Forecast) -> None:
    ranks = [tail.ranks for tail in found.tails]
    for prefetch, color in zip(sorted({cell.prefetch for cell in found.cells}), cycle(_COLORS), strict=False):
        values = [panel.of(cell) for cell in found.cells if cell.prefetch == prefetch]
        line = [value.value for value in values]
        axes.plot(ranks, line, color=color, marker="o", markersize=3, linewidth=1.2, label=str(prefetch))
        low, high = [value.low for value in values], [value.high for value in values]
        axes.fill_between(ranks, low, high, color=color, alpha=0.15, linewidth=0)
    unseen = [tail.ranks for tail in found.tails if not tail.seen]
    if unseen:
        axes.axvspan(min(unseen) / 1.3, max(unseen) * 1.3, color=_UNSEEN, alpha=0.1, linewidth=0)
        place = {"xycoords": ("data", "axes fraction"), "va": "top", "ha": "right", "fontsize": 6, "color": _UNSEEN}
        axes.annotate("too few batches", (max(unseen) * 1.25, 0.99), **place)
    axes.set_xscale("log")
    axes.set_xticks(ranks, labels=[f"{count:,}" for count in ranks], fontsize=7)
    axes.minorticks_off()
    axes.tick_params(axis="y", labelsize=7)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: panel.text(value))
    axes.set_title(panel.title, fontsize=8, loc="left")
    axes.set_xlabel("ranks", fontsize=7)
    axes.spines[["top", "right"]].set_visible(False)
