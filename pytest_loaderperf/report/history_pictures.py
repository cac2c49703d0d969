"""The history of metrics as a picture, and as a page with it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from pytest_loaderperf.errors import printable
from pytest_loaderperf.history.changes import Series
from pytest_loaderperf.history.timeline import Timeline
from pytest_loaderperf.report.history import (
    by_commit,
    commit_text,
    environment_texts,
    figure_of,
    kind,
    percent_text,
    range_text,
)
from pytest_loaderperf.report.pictures import (
    escaped,
    html_table,
    literal,
    new_figure,
    page_of,
    svg_of,
    write_figure,
    write_page_text,
)

_MOST_PANELS = 24  # series: those with the largest changes
_MOST_TITLE = 90  # characters
_TICKS = 6
_VALUES, _LEVELS = "#8a97ab", "#1f4e9c"
_COLORS = {"REGRESSION": "#c0392b", "better": "#2f7d32", "worse, recovered": "#777777"}
_ELSE = "#d1860f"  # a change that coincides with another


def draw_history(found: Sequence[Series], order: Timeline, file: Path) -> None:
    """Write ``file``, a PNG, SVG or PDF by its ending. Raises LoaderPerfError if that is not possible."""
    write_figure(_figure(found, order), file)


def write_page(found: Sequence[Series], order: Timeline, file: Path, title: str) -> None:
    """Write ``file``: one page that needs nothing else. Raises LoaderPerfError if that is not possible."""
    write_page_text(history_page(found, order, title), file)


def history_page(found: Sequence[Series], order: Timeline, title: str) -> str:
    """The page as text."""
    remarks = "".join(f"<p>{escape(printable(remark))}</p>" for remark in order.remarks)
    parts = [remarks, "<h2>Steps</h2>", _changes_table(found), "<h2>Over commits</h2>", _shown(found)]
    return page_of(title, [*parts, svg_of(_figure(found, order)), "<h2>Newest values</h2>", _values_table(found)])


def _changes_table(found: Sequence[Series]) -> str:
    rows = []
    for column, changes in by_commit(found):
        for change in changes:
            bad = ' class="bad"' if change.regression else ""
            interval = f"{percent_text(change.low)} to {percent_text(change.high)}"
            named = f"{change.metric.name}, {change.metric.test}"
            where = f"{commit_text(column)} {column.subject} ({range_text(change)})"
            rows.append(
                f"<tr><td{bad}>{escape(kind(change))}</td><td>{escape(percent_text(change.percent))} "
                f"({escape(interval)})</td><td>{escaped(named)}</td><td>{escaped(where)}</td></tr>"
            )
    if not rows:
        return "<p>None was found.</p>"
    return html_table(("what", "change (95 % interval)", "metric, test", "commit"), rows)


def _values_table(found: Sequence[Series]) -> str:
    rows = []
    for series, told in zip(found, environment_texts(found), strict=True):
        named, value = ", ".join(filter(None, (series.metric.name, told))), series.values[-1]
        rows.append(
            f"<tr><td>{escaped(series.metric.test)}</td><td>{escaped(named)}</td>"
            f"<td>{escape(figure_of(value, series.metric.unit))}</td><td>{len(series.values)}</td></tr>"
        )
    return html_table(("test", "metric", "value", "commits"), rows)


def _shown(found: Sequence[Series]) -> str:
    if len(found) <= _MOST_PANELS:
        return ""
    return f"<p>The {_MOST_PANELS} series with the largest steps, of {len(found)}.</p>"


def _panels(found: Sequence[Series]) -> list[Series]:
    largest = sorted(
        found, key=lambda series: max((abs(change.percent) for change in series.changes), default=0.0), reverse=True
    )[:_MOST_PANELS]
    return sorted(largest, key=lambda series: series.metric)


def _figure(found: Sequence[Series], order: Timeline) -> Any:
    panels = _panels(found)
    figure = new_figure(9, 0.6 + 1.9 * max(1, len(panels)))
    place = {id(column): i for i, column in enumerate(order.columns)}
    every = figure.subplots(max(1, len(panels)), squeeze=False)[:, 0]
    told_of = dict(zip(map(id, found), environment_texts(found), strict=True))
    for axes, series in zip(every, panels, strict=False):
        title = "   ".join(filter(None, (series.metric.name, series.metric.test, told_of[id(series)])))
        _draw(axes, series, [place[id(column)] for column in series.columns], order, title)
    return figure


def _draw(axes: Any, series: Series, places: Sequence[int], order: Timeline, title: str) -> None:
    axes.plot(places, series.values, ".", color=_VALUES, markersize=4)
    axes.plot(places, series.levels, color=_LEVELS, linewidth=1.5, drawstyle="steps-mid")
    place = dict(zip(map(id, series.columns), places, strict=True))
    for change in series.changes:
        color = _COLORS.get(kind(change), _ELSE)
        first, at, last = (place[id(column)] for column in (change.first, change.at, change.last))
        axes.axvspan(first - 0.5, last - 0.5, color=color, alpha=0.15, linewidth=0)
        axes.axvline(at - 0.5, color=color, linewidth=1)
        label = f"{percent_text(change.percent)} {kind(change)}"
        axes.annotate(literal(label), (at, 1), xycoords=("data", "axes fraction"), color=color, fontsize=7, va="top")
    step = max(1, len(order.columns) // _TICKS)
    ticks = range(0, len(order.columns), step)
    axes.set_xticks(list(ticks), labels=[literal(commit_text(order.columns[tick])) for tick in ticks], fontsize=7)
    axes.set_xlim(-0.5, len(order.columns) - 0.5)
    axes.tick_params(axis="y", labelsize=7)
    axes.yaxis.set_major_formatter(lambda value, _: literal(figure_of(value, series.metric.unit)))
    axes.set_title(literal(printable(title, _MOST_TITLE)), fontsize=8, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
