"""Steps of metrics across commits, in the user's words: worse or better, since which commit, and what else changed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import numpy as np

from pytest_loaderperf.history.steps import Fit, Floats, Step, find_steps
from pytest_loaderperf.history.table import Facts, Metric, Table
from pytest_loaderperf.history.timeline import Column, Place, Timeline

NOT_LEVELS = {"base_ratio"}  # to another commit in each run
_MOST_RETURNS = 2  # for each environment but one: with more changes, environments alternate
_TREND_COMMITS = 100  # that a drift is given for
_MOST_LOG = 60.0  # of a change: e to the power of more is no change of a metric


class Change(NamedTuple):
    """One step of a metric. ``percent`` is its change, with the 95 % interval ``low`` to ``high``.

    ``at``: the first commit of the new level, as likely as any; ``first`` to ``last``: with 95 % probability. The
    columns before these are ``before_at`` and ``before_first``. ``commits``: how many may have caused it.
    ``coincides``: what else changed there. ``recovered``: a later level is at most half as bad.
    """

    metric: Metric
    percent: float
    low: float
    high: float
    before: float
    after: float
    before_at: Column
    at: Column
    before_first: Column
    first: Column
    last: Column
    commits: int
    coincides: tuple[str, ...]
    recovered: bool

    @property
    def worse(self) -> bool:
        """Whether the user loses by it."""
        return (self.percent < 0) == self.metric.more_is_better

    @property
    def regression(self) -> bool:
        """Whether it is worse, still so, and no change of machine, torch or driver explains it."""
        return self.worse and not self.coincides and not self.recovered


@dataclass(frozen=True, slots=True)
class Series:
    """A metric in the columns where it was measured: values, and the levels that were found in them.

    ``drift_percent``: its steady change per 100 commits; 0: none.
    """

    metric: Metric
    columns: list[Column]
    values: list[float]
    levels: list[float]
    changes: list[Change]
    drift_percent: float

    @property
    def facts(self) -> Facts:
        """What its first column was measured with."""
        return self.columns[0].facts


class _Part(NamedTuple):
    metric: Metric
    columns: list[Column]
    values: list[float]


def find_changes(
    table: Table, order: Timeline, *, metric: str = "", test: str = "", since: Place | None = None
) -> list[Series]:
    """All series, with the changes after ``since``. ``metric``: its name; ``test``: a part of the test's name."""
    place_of = {run: i for i, column in enumerate(order.columns) for run in column.runs}
    environments = [column.facts.environment for column in order.columns]
    parts: list[_Part] = []
    for key, values in table.values.items():
        if key.name in NOT_LEVELS or (metric and key.name != metric) or test not in key.test:
            continue
        cells: defaultdict[int, list[float]] = defaultdict(list)
        for run, value in values.items():
            if (place := place_of.get(run)) is not None:
                cells[place].append(value)
        places = sorted(cells)
        columns = [order.columns[place] for place in places]
        middle = [cells[place][0] if len(cells[place]) == 1 else median(cells[place]) for place in places]
        parts.extend(_by_environment(_Part(key, columns, middle), [environments[place] for place in places]))
    scaled = [_scaled(values) for *_, values in parts]
    fits = find_steps([values for values, _ in scaled])
    found = [
        _series(part, fit, scale, since)
        for part, fit, (_, scale) in zip(parts, fits, scaled, strict=True)
        if part.values
    ]
    return sorted(found, key=lambda series: series.metric)


def _by_environment(part: _Part, environments: Sequence[object]) -> list[_Part]:
    """As one series; where the ``environments`` of its columns alternate, as one series for each of them."""
    metric, columns, values = part
    distinct = list(dict.fromkeys(environments))
    if len(distinct) == 1:
        return [part]
    switches = sum(a != b for a, b in pairwise(environments))
    if switches <= _MOST_RETURNS * (len(distinct) - 1):
        return [part]
    return [
        _Part(
            metric,
            [column for column, own in zip(columns, environments, strict=True) if own == environment],
            [value for value, own in zip(values, environments, strict=True) if own == environment],
        )
        for environment in distinct
    ]


def _scaled(values: Sequence[float]) -> tuple[Floats, float]:
    """Logarithms; values that are not all positive are divided by a scale, which is 0 for logarithms."""
    array = np.array(values, np.float64)
    if (array > 0).all():
        return np.log(array), 0.0
    scale = float(np.median(np.abs(array[array != 0]))) if array.any() else 1.0
    return array / scale, scale


def _series(part: _Part, fit: Fit, scale: float, since: Place | None) -> Series:
    metric, columns, values = part

    edges = [0, *(step.at for step in fit.steps), len(values)]
    scaled = _scaled(values)[0] - fit.drift * np.arange(len(values))
    heights = [float(np.median(scaled[a:b])) for a, b in pairwise(edges)]
    level = np.repeat(heights, np.diff(edges)) + fit.drift * np.arange(len(values))
    levels: list[float] = (level * scale if scale else np.exp(level)).tolist()
    changes = [
        _change(part, levels, fit.steps, i, scale)
        for i, step in enumerate(fit.steps)
        if since is None or columns[step.last].place > since
    ]
    return Series(metric, columns, values, levels, changes, _percent(fit.drift * _TREND_COMMITS, scale))


def _percent(change: float, scale: float) -> float:
    """A change of scaled values in percent."""
    return 100 * (change if scale else math.expm1(min(change, _MOST_LOG)))


def _change(part: _Part, levels: list[float], steps: Sequence[Step], number: int, scale: float) -> Change:
    metric, columns, _ = part
    step = steps[number]
    percent, low, high = (_percent(change, scale) for change in (step.size, step.low, step.high))
    half = step.before + step.size / 2
    later = [other.after for other in steps[number + 1 :]]
    recovered = any((height < half) == (step.size > 0) for height in later)
    before_first, last = columns[step.first - 1], columns[step.last]
    return Change(
        metric,
        percent,
        low,
        high,
        levels[step.at - 1],
        levels[step.at],
        columns[step.at - 1],
        columns[step.at],
        before_first,
        columns[step.first],
        last,
        max(1, round(last.place[0] - before_first.place[0]), step.last - step.first + 1),
        _coincides([column.facts for column in columns[step.first - 1 : step.last + 1]]),
        recovered,
    )


def _coincides(facts: Sequence[Facts]) -> tuple[str, ...]:
    """What changed between neighbours, besides the code."""
    changed = {
        "another machine": any(a.machine != b.machine for a, b in pairwise(facts)),
        f"another torch ({facts[0].torch} -> {facts[-1].torch})": any(a.torch != b.torch for a, b in pairwise(facts)),
        "another driver": any(a.driver != b.driver for a, b in pairwise(facts)),
        "another Python or package": any(a.packages != b.packages for a, b in pairwise(facts)),
    }
    return tuple(name for name, is_so in changed.items() if is_so)
