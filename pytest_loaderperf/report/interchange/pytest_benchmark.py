"""pytest-benchmark's JSON, for ``pytest-benchmark compare``: a benchmark for each loader, a round for each trial."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from statistics import mean, median, quantiles, stdev
from typing import Any

from pytest_loaderperf.errors import MOST_OF_PATH, ResultError, printable
from pytest_loaderperf.report.reading import LOADER, ROOFLINE, Document, distinct, figures, fingerprint

_READER = "5.0.0"  # the version of pytest-benchmark whose keys these are
_ENCLOSING = re.compile(r"^[^\[]*::(?=.)")  # of a test: its file and classes
_WHISKER = 1.5  # interquartile ranges beyond the quartiles, beyond which a value is an outlier


def pytest_benchmark_json(documents: Sequence[Document]) -> str:
    """Seconds a sample in each trial, as the times of a benchmark; ``ops`` are samples a second.

    Raises ResultError if no loader of the results has ``samples`` of its throughput.
    """
    found = [(run, side, document) for document in documents for run, side in _measured(document)]
    if not found:
        raise ResultError(
            "--format pytest-benchmark: expected a result with samples of the throughput, got none: it was written by "
            "an older version, or nothing was measured. Measure again with this version."
        )
    names = distinct([_fullname(run, side) for run, side, _ in found])
    machine = documents[0]["machine"]
    content = {
        "machine_info": {
            "node": fingerprint(machine),
            "machine": machine.get("system"),
            "python_version": machine.get("python"),
            "cpu": {"brand_raw": machine.get("cpu"), "count": machine.get("cores")},
        },
        "commit_info": {"id": documents[0].get("commit"), "time": None, "dirty": None, "project": None},
        "benchmarks": [_benchmark(name, *row) for name, row in zip(names, found, strict=True)],
        "datetime": None,
        "version": _READER,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _measured(document: Document) -> Iterator[tuple[Document, Document]]:
    for run in document["runs"]:
        for side in run["sides"]:
            if side["name"] != ROOFLINE and _times(side):
                yield run, side


def _times(side: Document) -> list[float]:
    """Seconds a sample, in each trial of which the result has the throughput."""
    found = side["metrics"].get("throughput", {}).get("samples", [])
    return [1 / throughput for throughput in found if throughput]


def _fullname(run: Document, side: Document) -> str:
    of = "" if side["name"] == LOADER else f" [{printable(side['name'])}]"
    return f"{printable(run['nodeid'], MOST_OF_PATH)}{of}"


def _benchmark(fullname: str, run: Document, side: Document, document: Document) -> dict[str, Any]:
    param = re.search(r"\[(.*)\]", printable(run["nodeid"], MOST_OF_PATH))
    return {
        "group": None,
        "name": _ENCLOSING.sub("", fullname),
        "fullname": fullname,
        "params": None,
        "param": param and param[1],
        "extra_info": {
            "unit": "seconds a sample",
            "loader": printable(side["loader"]),
            "commit": document.get("commit"),
            "machine": fingerprint(document["machine"]),
            "metrics": {figure.metric: figure.value for figure in figures({**run, "sides": [side]})},
        },
        "options": {"disable_gc": False, "timer": "perf_counter", "warmup": True},
        "stats": stats(_times(side)),
    }


def stats(times: Sequence[float]) -> dict[str, Any]:
    """pytest-benchmark's statistics of ``times``, with its names; its quartiles may lie between other neighbours."""
    ordered = sorted(times)
    q1, middle, q3 = quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else ordered * 3
    average, spread = mean(ordered), stdev(ordered) if len(ordered) > 1 else 0.0
    low, high = q1 - _WHISKER * (q3 - q1), q3 + _WHISKER * (q3 - q1)
    within = [value for value in ordered if low <= value <= high] or [middle]
    far = sum(abs(value - average) > spread for value in ordered)
    outside = len(ordered) - len(within)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": average,
        "stddev": spread,
        "rounds": len(ordered),
        "median": median(ordered),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": outside,
        "stddev_outliers": far,
        "outliers": f"{far};{outside}",
        "ld15iqr": within[0],
        "hd15iqr": within[-1],
        "ops": 1 / average,
        "total": sum(ordered),
        "data": list(times),
        "iterations": 1,
    }
