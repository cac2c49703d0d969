"""The history of metrics as lines with small charts, and as a document."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby, pairwise
from statistics import median
from typing import Any

from pytest_loaderperf.errors import MOST_OF_PATH, printable
from pytest_loaderperf.history.changes import Change, Series
from pytest_loaderperf.history.steps import LEAST_POINTS
from pytest_loaderperf.history.table import Facts, Metric
from pytest_loaderperf.history.timeline import Column, Timeline, commit_count
from pytest_loaderperf.report.figures import figure, three_digits
from pytest_loaderperf.report.terminal import TableLine
from pytest_loaderperf.units import BYTE, BYTES_PER_SECOND, ONE, SAMPLES_PER_SECOND, SECOND

HISTORY_SCHEMA = "loaderperf-history/1"
CHARTED = 3  # series: so few get a chart of several lines
_CHART_LINES = 8
_BLOCKS = " ▁▂▃▄▅▆▇█"  # eighths of a line
_HASH = 10  # characters of a commit's name
_NAME, _FIGURE, _STATE = 18, 16, 24  # columns of the table
_LEAST_CHART, _MOST_CHART = 10, 80
_MOST_SUBJECT = 60
_UNITS = {SECOND, BYTE, BYTES_PER_SECOND, SAMPLES_PER_SECOND, ONE}


def history_lines(found: Sequence[Series], order: Timeline, width: int, since: str | None) -> list[TableLine]:
    """What a terminal shows: remarks, a line for each series, the steps by commit, and how many are regressions."""
    tests = {series.metric.test for series in found}
    columns = order.columns
    days = f"{_day(columns[0])} to {_day(columns[-1])}" if columns else "no commits"
    counted = f"{_many(commit_count(columns), 'commit')}, {days}; {len(found)} series of {_many(len(tests), 'test')}"
    lines = [TableLine(counted, "bold"), *(TableLine(remark, "yellow") for remark in order.remarks)]
    if max(len(series.values) for series in found) < 2 * LEAST_POINTS:
        lines.append(TableLine(f"steps are found from {2 * LEAST_POINTS} commits on", "yellow"))
    with_texts = zip(found, environment_texts(found), strict=True)
    for test, group in groupby(with_texts, key=lambda pair: pair[0].metric.test):
        lines.append(TableLine(f"\n{_cut(printable(test, MOST_OF_PATH), width)}"))
        for series, told in group:
            lines.append(TableLine(_row(series, width), _series_color(series)))
            if told:
                lines.append(TableLine(_cut(f"    {told}", width)))
            if len(found) <= CHARTED:
                lines += [TableLine(f"  {line}") for line in chart(series, width - 2)]
    return [*lines, TableLine(""), *_change_lines(found, width), _total(found, since)]


def _many(count: int, name: str) -> str:
    return f"{count:,} {name}{'s' * (count != 1)}"


def _row(series: Series, width: int) -> str:
    name = _cut(printable(series.metric.name), _NAME)
    shown = figure_of(series.values[-1], series.metric.unit)
    room = min(max(width - _NAME - _FIGURE - _STATE - 7, _LEAST_CHART), _MOST_CHART)
    return f"  {name:<{_NAME}} {shown:>{_FIGURE}}  {sparkline(series.values, room):<{room}}  {_state(series)}".rstrip()


def environment_texts(found: Sequence[Series]) -> list[str]:
    """Of each series what tells it from others of its metric, of other machines or versions; "" if it is alone."""
    by_metric: defaultdict[Metric, list[Facts]] = defaultdict(list)
    for series in found:
        by_metric[series.metric].append(series.facts)
    return [_told_apart(series.facts, by_metric[series.metric]) for series in found]


def _told_apart(facts: Facts, others: Sequence[Facts]) -> str:
    names = ("machine", "torch", "driver", "packages")
    differ = [name for name in names if len({getattr(other, name) for other in others}) > 1]
    told = [(name, printable(getattr(facts, name))) for name in differ]
    return ", ".join(value if name == "packages" else f"{name} {value}" for name, value in told)


def figure_of(value: float, unit: str) -> str:
    """A value with its unit, which may be one of asv's."""
    return figure(value, unit) if unit in _UNITS else f"{three_digits(value)} {printable(unit)}"


def _state(series: Series) -> str:
    if series.changes:
        last = series.changes[-1]
        what = kind(last).partition(" (")[0]
        return f"{percent_text(last.percent)} {what}"
    if series.drift_percent:
        return f"{percent_text(series.drift_percent)} in 100 commits"
    return ""


def kind(change: Change) -> str:
    """What a change is, in a few words."""
    if change.coincides:
        return ", ".join(change.coincides)
    if change.regression:
        return "REGRESSION"
    return "worse, recovered" if change.worse else "better"


def _color(change: Change) -> str:
    if change.regression:
        return "red"
    return "yellow" if change.coincides else "" if change.worse else "green"


def _series_color(series: Series) -> str:
    return _color(series.changes[-1]) if series.changes else ""


def percent_text(percent: float) -> str:
    """A change with its sign: ``+4.8 %``."""
    return f"{percent:+.1f} %"


def sparkline(values: Sequence[float], width: int) -> str:
    """The values, oldest first, in at most ``width`` characters, from the least to the greatest.

    >>> sparkline([1, 2, 3, 9], 4), sparkline([5, 5], 4)
    ('▁▂▃█', '▄▄')
    """
    return "".join(_BLOCKS[1 + level] for level in _heights(_binned(values, width), len(_BLOCKS) - 2))


def chart(series: Series, width: int) -> list[str]:
    """The values as columns in several lines, with the greatest and the least at the side."""
    shown = [figure_of(value, series.metric.unit) for value in (max(series.values), min(series.values))]
    side = max(map(len, shown))
    binned = _binned(series.values, max(_LEAST_CHART, width - side - 1))
    heights = [1 + height for height in _heights(binned, _CHART_LINES * 8 - 1)]
    lines = []
    for line in reversed(range(_CHART_LINES)):
        label = shown[0] if line == _CHART_LINES - 1 else shown[1] if not line else ""
        blocks = "".join(_BLOCKS[min(8, max(0, height - 8 * line))] for height in heights)
        lines.append(f"{label:>{side}} {blocks}".rstrip())
    return lines


def _binned(values: Sequence[float], width: int) -> list[float]:
    """At most ``width`` values: medians of neighbours."""
    bins = min(width, len(values))
    edges = [i * len(values) // bins for i in range(bins + 1)]
    return [median(values[a:b]) for a, b in pairwise(edges)]


def _heights(values: Sequence[float], most: int) -> list[int]:
    low, high = min(values), max(values)
    return [round((value - low) / (high - low) * most) if high > low else most // 2 for value in values]


def by_commit(found: Sequence[Series]) -> list[tuple[Column, list[Change]]]:
    """The changes of all series by the commit where they begin, newest first."""
    changes = sorted(
        (change for series in found for change in series.changes), key=lambda change: (change.at.place, change.metric)
    )
    groups = [(group[0].at, group) for _, [*group] in groupby(changes, key=lambda change: change.at.place)]
    return groups[::-1]


def _change_lines(found: Sequence[Series], width: int) -> list[TableLine]:
    lines = []
    for column, changes in by_commit(found):
        subject = printable(column.subject, _MOST_SUBJECT)
        lines.append(TableLine(_cut(f"{commit_text(column)}  {_day(column)}  {subject}".rstrip(), width), "bold"))
        for test, group in groupby(changes, key=lambda change: change.metric.test):
            lines.append(TableLine(f"  {_cut(printable(test, MOST_OF_PATH), width - 2)}"))
            for change in group:
                lines += [TableLine(f"    {text}", _color(change)) for text in _change_texts(change, width - 4)]
                if change.commits > 1:
                    lines.append(TableLine(f"      {range_text(change)}"))
    return [*lines, TableLine("")] if lines else []


def _change_texts(change: Change, width: int) -> list[str]:
    """The change and its levels, in two lines if they are too long for one."""
    unit = change.metric.unit
    interval = f"{percent_text(change.low)} to {percent_text(change.high)}"
    levels = f"{figure_of(change.before, unit)} -> {figure_of(change.after, unit)}"
    what = f"{kind(change)}: {printable(change.metric.name)} {percent_text(change.percent)} ({interval})"
    return [line] if len(line := f"{what}, {levels}") <= width else [what, f"  {levels}"]


def range_text(change: Change) -> str:
    """The commits that may have caused a change."""
    if change.commits == 1:
        return "this commit"
    after, last = commit_text(change.before_first), commit_text(change.last)
    return f"one of {change.commits:,} commits after {after}, up to {last}"


def commit_text(column: Column) -> str:
    """The beginning of a commit's name."""
    return printable(column.commit[:_HASH]) if column.commit else "no commit"


def _day(column: Column) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(column.facts.commit_time_s))


def _total(found: Sequence[Series], since: str | None) -> TableLine:
    regressions = sum(change.regression for series in found for change in series.changes)
    when = "" if since is None else f" since {printable(since)}"
    if not regressions:
        return TableLine(f"no regressions{when}", "green")
    return TableLine(f"{_many(regressions, 'regression')}{when}", "red")


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 3)]}..."


def history_document(found: Sequence[Series], order: Timeline) -> dict[str, Any]:
    """Everything that was found; commits are in the order of the history."""
    place = {id(column): i for i, column in enumerate(order.columns)}
    return {
        "schema": HISTORY_SCHEMA,
        "remarks": [printable(remark) for remark in order.remarks],
        "commits": [
            {"commit": column.commit, "time": column.facts.commit_time_s, "runs": len(column.runs)}
            | {"machine": column.facts.machine, "torch": column.facts.torch, "driver": column.facts.driver}
            for column in order.columns
        ],
        "series": [
            {
                "test": printable(series.metric.test, MOST_OF_PATH),
                "metric": printable(series.metric.name),
                "unit": series.metric.unit,
                "better": "more" if series.metric.more_is_better else "less",
                "at": [place[id(column)] for column in series.columns],
                "values": series.values,
                "levels": series.levels,
                "drift_percent": series.drift_percent,
                "changes": [_change_entry(change) for change in series.changes],
            }
            for series in found
        ],
    }


def _change_entry(change: Change) -> dict[str, Any]:
    return {
        "commit": change.at.commit,
        "after_commit": change.before_first.commit,
        "up_to_commit": change.last.commit,
        "commits": change.commits,
        "percent": change.percent,
        "low": change.low,
        "high": change.high,
        "before": change.before,
        "after": change.after,
        "worse": change.worse,
        "regression": change.regression,
        "recovered": change.recovered,
        "coincides": [printable(name) for name in change.coincides],
    }
