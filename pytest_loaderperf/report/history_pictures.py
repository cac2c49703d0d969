"""The history of metrics as a picture, and as a page with it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from pytest_loaderperf.arguments import PAGE_MARK
from pytest_loaderperf.errors import MOST_OF_PATH, LoaderPerfError, printable
from pytest_loaderperf.history.changes import Series
from pytest_loaderperf.history.timeline import Timeline
from pytest_loaderperf.report.document import whole_or_absent
from pytest_loaderperf.report.history import by_commit, commit_text, figure_of, kind, percent_text, range_text

_MOST_PANELS = 24  # series: those with the largest changes
_MOST_TITLE = 90  # characters
_TICKS = 6
_VALUES, _LEVELS = "#8a97ab", "#1f4e9c"
_COLORS = {"REGRESSION": "#c0392b", "better": "#2f7d32", "worse, recovered": "#777777"}
_ELSE = "#d1860f"  # a change that coincides with another
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #1b1f24;
       background: #fff }
table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .25rem .6rem; vertical-align: top;
       border-bottom: 1px solid #ddd }
td:nth-child(n+3) { overflow-wrap: anywhere } td:nth-child(-n+2) { min-width: 7rem }
 svg { width: 100%; height: auto; background: #fff }
.table { overflow-x: auto } .bad { color: #b02318; font-weight: 600 }
@media (prefers-color-scheme: dark) { body { color: #e6e9ee; background: #16191d } td, th { border-color: #3a3f46 }
       .bad { color: #ff8a7a } }
"""


def draw_history(found: Sequence[Series], order: Timeline, file: Path) -> None:
    """Write ``file``, a PNG, SVG or PDF by its ending. Raises LoaderPerfError if that is not possible."""
    figure = _figure(found, order)
    try:
        with whole_or_absent(file) as scratch:
            _save(figure, scratch, file.suffix[1:])
    except (OSError, ValueError) as error:
        raise LoaderPerfError(f"cannot write the plot {file}: {error}") from error


def write_page(found: Sequence[Series], order: Timeline, file: Path, title: str) -> None:
    """Write ``file``: one page that needs nothing else. Raises LoaderPerfError if that is not possible."""
    page = history_page(found, order, title)
    try:
        with whole_or_absent(file) as scratch:
            scratch.write_text(page, "utf-8", errors="backslashreplace")
    except OSError as error:
        raise LoaderPerfError(f"cannot write {file}: {error}") from error


def history_page(found: Sequence[Series], order: Timeline, title: str) -> str:
    """The page as text."""
    picture = io.StringIO()
    _save(_figure(found, order), picture, "svg")
    svg = picture.getvalue()
    remarks = "".join(f"<p>{escape(printable(remark))}</p>" for remark in order.remarks)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">{PAGE_MARK} history">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body><h1>{escape(title)}</h1>{remarks}"
        f"<h2>Steps</h2>{_changes_table(found)}<h2>Over commits</h2>{_shown(found)}"
        f"{svg[svg.index('<svg') :]}<h2>Newest values</h2>{_values_table(found)}</body></html>\n"
    )


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
                f"({escape(interval)})</td><td>{_escaped(named)}</td><td>{_escaped(where)}</td></tr>"
            )
    if not rows:
        return "<p>None was found.</p>"
    return _table(("what", "change (95 % interval)", "metric, test", "commit"), rows)


def _values_table(found: Sequence[Series]) -> str:
    rows = [
        f"<tr><td>{_escaped(series.metric.test)}</td><td>{_escaped(series.metric.name)}</td>"
        f"<td>{escape(figure_of(series.values[-1], series.metric.unit))}</td><td>{len(series.values)}</td></tr>"
        for series in found
    ]
    return _table(("test", "metric", "value", "commits"), rows)


def _table(names: Sequence[str], rows: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _escaped(text: str) -> str:
    return escape(printable(text, MOST_OF_PATH))


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
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise LoaderPerfError(
            "a plot needs matplotlib, which is not installed: pip install 'pytest-loaderperf[report]'"
        ) from None
    panels = _panels(found)
    figure = Figure(figsize=(9, 0.6 + 1.9 * max(1, len(panels))), layout="constrained")
    place = {id(column): i for i, column in enumerate(order.columns)}
    every = figure.subplots(max(1, len(panels)), squeeze=False)[:, 0]
    for axes, series in zip(every, panels, strict=False):
        _draw(axes, series, [place[id(column)] for column in series.columns], order)
    return figure


def _draw(axes: Any, series: Series, places: Sequence[int], order: Timeline) -> None:
    axes.plot(places, series.values, ".", color=_VALUES, markersize=4)
    axes.plot(places, series.levels, color=_LEVELS, linewidth=1.5, drawstyle="steps-mid")
    place = dict(zip(map(id, series.columns), places, strict=True))
    for change in series.changes:
        color = _COLORS.get(kind(change), _ELSE)
        first, at, last = (place[id(column)] for column in (change.first, change.at, change.last))
        axes.axvspan(first - 0.5, last - 0.5, color=color, alpha=0.15, linewidth=0)
        axes.axvline(at - 0.5, color=color, linewidth=1)
        label = f"{percent_text(change.percent)} {kind(change)}"
        axes.annotate(_literal(label), (at, 1), xycoords=("data", "axes fraction"), color=color, fontsize=7, va="top")
    step = max(1, len(order.columns) // _TICKS)
    ticks = range(0, len(order.columns), step)
    axes.set_xticks(list(ticks), labels=[_literal(commit_text(order.columns[tick])) for tick in ticks], fontsize=7)
    axes.set_xlim(-0.5, len(order.columns) - 0.5)
    axes.tick_params(axis="y", labelsize=7)
    axes.yaxis.set_major_formatter(lambda value, _: _literal(figure_of(value, series.metric.unit)))
    named = printable(f"{series.metric.name}   {series.metric.test}", _MOST_TITLE)
    axes.set_title(_literal(named), fontsize=8, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _literal(text: str) -> str:
    """Text that matplotlib does not take for a formula."""
    return printable(text).replace("$", r"\$")


def _save(figure: Any, to: Any, form: str) -> None:
    from matplotlib import rc_context

    with warnings.catch_warnings(), rc_context({"svg.fonttype": "none"}):
        warnings.filterwarnings("ignore", message="Glyph")  # an emoji in a test's name
        figure.savefig(to, format=form)
