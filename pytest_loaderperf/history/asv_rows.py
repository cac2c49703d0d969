"""Metrics of tests as rows of asv: their names, parameters, values and statistics. In asv, lower is always better."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from math import prod
from typing import Any, NamedTuple

Json = dict[str, Any]
Table = dict[tuple[str, ...], Json]  # figures by the combination of a test's parameters
VERSION = "loaderperf-1"  # of our benchmarks: asv hides results of another version
COLUMNS = (
    *("result", "params", "version", "started_at", "duration"),
    *("stats_ci_99_a", "stats_ci_99_b", "stats_q_25", "stats_q_75", "stats_number", "stats_repeat"),
    *("samples", "profile"),
)
_FIGURES = ("result", *(name for name in COLUMNS if name.startswith("stats_")), "samples")  # one for each combination
_Z_95, _Z_99, _Z_QUARTILE = (statistics.NormalDist().inv_cdf(p) for p in (0.975, 0.995, 0.75))
_NOT_IN_NAMES = re.compile(r"[^\w.-]")  # asv makes file names and links of a benchmark's name
_MOST_LOG = math.log(1e300)  # of a figure: a larger one is written as infinite, as an end that is not known
MOST_CELLS = 256  # combinations of a benchmark's parameters: asv stores and draws each, measured or not
_ID_JOINT = "-"  # between the values of a parametrised test's id


def _same(value: float) -> float:
    return value


def _inverse(value: float) -> float:
    return 1 / value if value else math.inf


class _Figure(NamedTuple):
    """How a metric is called in asv, and what makes lower better."""

    name: str
    words: str
    unit: str
    of: Callable[[float], float] = _same


# base_ratio is missing: its base is another commit in each run, so it has no history.
FIGURES = {
    "throughput": _Figure("seconds_per_sample", "seconds per sample", "seconds", _inverse),
    "batch_latency_p50": _Figure("batch_latency_p50", "batch latency, median", "seconds"),
    "batch_latency_p95": _Figure("batch_latency_p95", "batch latency, p95", "seconds"),
    "batch_latency_p99": _Figure("batch_latency_p99", "batch latency, p99", "seconds"),
    "first_batch": _Figure("first_batch", "time to first batch", "seconds"),
    "epoch_exit": _Figure("epoch_exit", "epoch exit", "seconds"),
    "epoch": _Figure("epoch", "a whole epoch", "seconds"),
    "epoch_throughput": _Figure("epoch_seconds_per_sample", "seconds per sample of an epoch", "seconds", _inverse),
    "data_wait": _Figure("data_wait", "data-wait fraction", "of the loop"),
    "bytes_per_second": _Figure("seconds_per_byte", "seconds per byte", "seconds", _inverse),
    "cpu_seconds_per_1k": _Figure("cpu_seconds_per_1k", "CPU seconds per 1,000 samples", "seconds"),
    "peak_memory": _Figure("peak_memory", "peak memory", "bytes"),
    "roofline_fraction": _Figure("time_to_roofline", "time / that of the machine's copy limit", "x", _inverse),
    "against_ratio": _Figure("time_to_against", "time / that of the other loader", "x", _inverse),
    "dataloader_ratio": _Figure("time_to_dataloader", "time / that of torch's DataLoader", "x", _inverse),
}


class Test(NamedTuple):
    """A test: its ``function`` as asv names it, and its parametrise id, or None."""

    function: str
    id: str | None


def parse(nodeid: str) -> Test:
    """A node id taken apart. That of a test's second run ends with `` #2``, that of a rerun with `` (rerun 1)``.

    >>> parse("perf/test_data.py::test_it[a-32] #2")
    Test(function='perf.test_data.test_it.run2', id='a-32')
    """
    match = re.fullmatch(r"(?P<path>.*?)(?P<id>\[.*\])?(?: \(rerun \d+\))?(?P<run> #\d+)?", nodeid, re.DOTALL)
    assert match
    path, run = match["path"], (match["run"] or "").replace(" #", ".run")
    file, *inside = re.split("::?", path)  # `loaderperf bench` writes module:function
    dotted = ".".join([*file.removesuffix(".py").split("/"), *inside])
    name = _NOT_IN_NAMES.sub(lambda found: f"_{ord(found[0]):x}", dotted) + run
    return Test(name, match["id"] and match["id"][1:-1])


def parts_of(ids: Iterable[str]) -> int:
    """Into how many parameters the ids of a test can be split: as many parts as all have, else 1."""
    split = [one.split(_ID_JOINT) for one in ids]
    widths = {len(parts) if all(parts) else 1 for parts in split}
    if len(widths) != 1 or prod(len(set(axis)) for axis in zip(*split, strict=True)) > MOST_CELLS:
        return 1
    return widths.pop()


def combination(identity: str, parts: int) -> tuple[str, ...]:
    """The values of an id, as asv writes values: numbers bare, so that a graph may have them as its axis."""
    if parts == 0:
        return ()
    return tuple(map(_value, identity.split(_ID_JOINT) if parts > 1 else [identity]))


def _value(text: str) -> str:
    return text if re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII) else repr(text)


def joined(combined: Sequence[str]) -> str:
    """Several values as the one value of the id that they came from."""
    return _value(_ID_JOINT.join(map(_bare, combined)))


def _bare(value: str) -> str:
    if value[:1] not in "'\"":
        return value
    import ast

    return str(ast.literal_eval(value))


def figures_of(metrics: Mapping[str, Json]) -> dict[str, Json]:
    """The figures of asv, by their names there, from the entries of ``metrics``; not those that are 1 by definition."""
    found = {}
    for name, figure in FIGURES.items():
        entry = metrics.get(name) or {}
        if entry.get("n") and entry.get("value") is not None:
            value = figure.of(entry["value"])
            if math.isfinite(value):
                found[figure.name] = {"result": _rounded(value), **_statistics(entry, value, figure.of)}
    return found


def _statistics(entry: Json, value: float, of: Callable[[float], float]) -> Json:
    """The 99 % interval and quartiles; where there are no samples, the quartiles are those of the estimate."""
    ends = sorted(of(end) for end in (entry.get("low"), entry.get("high")) if end is not None)
    bounded = len(ends) == 2 and all(map(math.isfinite, ends))  # noqa: PLR2004 both ends
    samples = [of(sample) for sample in entry.get("samples") or () if sample is not None]
    samples = [_rounded(sample) for sample in samples if math.isfinite(sample)]
    if len(samples) > 1:
        lower, _, upper = statistics.quantiles(samples, n=4, method="inclusive")
    elif bounded:
        lower, upper = (_scaled(value, end, _Z_QUARTILE / _Z_95) for end in ends)
    else:
        return {}
    # Where an end is unknown, asv, too, writes an infinite one.
    low, high = (_scaled(value, end, _Z_99 / _Z_95) for end in ends) if bounded else (-math.inf, math.inf)
    figures = {"ci_99_a": low, "ci_99_b": high, "q_25": lower, "q_75": upper}
    return {
        **{f"stats_{name}": _rounded(figure) for name, figure in figures.items()},
        "stats_number": 1,
        "stats_repeat": entry["n"],
        "samples": samples or None,
    }


def _scaled(value: float, end: float, factor: float) -> float:
    """The end of an interval that is ``factor`` times as wide; by ratio, so that a time stays positive."""
    if value > 0 and end > 0:
        log = math.log(value) + factor * (math.log(end) - math.log(value))
        return math.exp(log) if log < _MOST_LOG else math.inf
    return value + (end - value) * factor


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def table_of(row: Sequence[Any]) -> Table:
    """The figures in a row of asv, by combinations of its parameters."""
    named = dict(zip(COLUMNS, row, strict=False))
    table: Table = {}
    for number, combined in enumerate(product(*named["params"])):
        figures = {name: named[name][number] for name in _FIGURES if named.get(name)}
        if isinstance(figures.get("result"), (int, float)) and not math.isnan(figures["result"]):
            table[combined] = figures
    return table


def row_of(table: Table, started_ms: int) -> list[Any]:
    """A row of asv with these figures; combinations that were not measured are NaN, as those that asv skips."""
    params = axes_of(table)
    every = [table.get(combined, {"result": math.nan}) for combined in product(*params)]
    named: Json = {name: [figures.get(name) for figures in every] for name in _FIGURES}
    named = {name: values if any(v is not None for v in values) else None for name, values in named.items()}
    named |= {"params": params, "version": VERSION, "started_at": started_ms}
    row = [named.get(name) for name in COLUMNS]
    while row[-1] is None:
        row.pop()
    return row


def axes_of(combinations: Iterable[Sequence[str]], before: Sequence[Sequence[str]] = ()) -> list[list[str]]:
    """The values of each parameter, those of ``before`` first, in the order in which they come."""
    rows = list(combinations)
    width = len(before) or max(map(len, rows), default=0)
    axes: list[list[str]] = [list(axis) for axis in before] or [[] for _ in range(width)]
    for combined in rows:
        for axis, value in zip(axes, combined, strict=True):
            if value not in axis:
                axis.append(value)
    return axes


def benchmark_of(function: str, metric: str, params: list[list[str]]) -> Json:
    """The entry of ``benchmarks.json`` for one metric (by its name in asv) of a test."""
    figure = next(one for one in FIGURES.values() if one.name == metric)
    parts = function.split(".")
    words = ".".join(parts[-3 if re.fullmatch(r"run\d+", parts[-1]) else -2 :])
    names = [f"parameter {number}" for number in range(1, len(params) + 1)] if len(params) > 1 else ["id"] * len(params)
    return {
        "name": f"{function}.{metric}",
        "pretty_name": f"{words}: {figure.words}",
        "type": "track",
        "unit": figure.unit,
        "code": f"pytest --loaderperf: {function}",
        "param_names": names,
        "params": params,
        "version": VERSION,
    }
