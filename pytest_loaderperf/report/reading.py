"""How reports read a result: its figures, which direction of a metric is better, and which machine it is from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pytest_loaderperf.history import table
from pytest_loaderperf.units import BYTES_PER_SECOND, SAMPLES_PER_SECOND

Document = dict[str, Any]
LOADER, ROOFLINE = "loader", "roofline"  # names of sides
_RATIOS = ("against_ratio", "base_ratio", "dataloader_ratio", "roofline_fraction")
_HARDWARE = ("cpu", "cores", "usable_cores", "system", "gpu", "driver", "container_limits")
VERSIONS = ("python", "torch", "numpy", "pyarrow")
_VARYING = ("steal_seconds",)  # from run to run, on the same machine


class Figure(NamedTuple):
    """One metric of one side of a run. ``low`` and ``high``: ends of the 95 % interval, None if it has no limit."""

    nodeid: str
    side: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    unit: str


def higher_is_better(metric: str, unit: str) -> bool:
    """Whether more of a metric is better: of rates and of ratios to another loader's rate; else less is better."""
    return unit in (SAMPLES_PER_SECOND, BYTES_PER_SECOND) or metric in _RATIOS


def number(value: object) -> float | None:
    """``value`` if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return value


def figures(run: Document) -> Iterator[Figure]:
    """The figures of all sides of a run, as they are in the result file."""
    for side in run["sides"]:
        for metric, entry in side["metrics"].items():
            value, low, high = (number(entry[key]) for key in ("value", "low", "high"))
            yield Figure(run["nodeid"], side["name"], metric, value, low, high, entry["n"], entry["unit"])


def fingerprint(machine: Mapping[str, Any]) -> str:
    """A short name of the machine's hardware and limits; versions of software are not part of it."""
    return table.fingerprint({name: machine.get(name) for name in _HARDWARE})


def differing(machines: Sequence[Mapping[str, Any]]) -> list[str]:
    """The facts that are not the same on all machines, hardware first, then versions."""
    known = dict.fromkeys((*_HARDWARE, *VERSIONS, *(name for machine in machines for name in machine)))
    names = [name for name in known if name not in _VARYING]
    return [name for name in names if any(machine.get(name) != machines[0].get(name) for machine in machines)]


def fact_text(value: object) -> str:
    """A fact of a machine, without Python's marks; ``none`` for what it does not have."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {one}" for name, one in value.items() if one is not None) or "none"
    if isinstance(value, float):
        return f"{value:.3g}"
    return "none" if value is None else str(value)


def difference_words(fingerprints: Sequence[str]) -> str:
    """What it means that facts of machines with these fingerprints differ."""
    same = len(set(fingerprints)) == 1
    return "the software differs" if same else "the machines differ, so do not compare the figures"


def without_base(documents: Sequence[Document], *, new: bool) -> list[Document]:
    """The tests of all results that had no base to compare with: because it has no such test, or for another reason."""
    tests = [test for document in documents for test in document.get("without_base", [])]
    return [test for test in tests if test["is_new"] == new]


def mistakes(runs: Sequence[Document]) -> list[tuple[Document, int]]:
    """The findings of all runs, each mistake once, and in how many runs it was found.

    Counts and gains of one mistake differ from run to run; the first one found is given.
    """
    found: dict[tuple[Any, ...], list[Document]] = {}
    for run in runs:
        of_run: dict[tuple[Any, ...], Document] = {}
        for finding in run["findings"]:
            of_run.setdefault(_mistake(finding), finding)
        for same, finding in of_run.items():
            found.setdefault(same, []).append(finding)
    return [(same[0], len(same)) for same in found.values()]


def _mistake(finding: Document) -> tuple[Any, ...]:
    at = finding["file"], finding["line"]
    return (finding["rule"], *at) if finding["file"] else (finding["rule"], finding["message"])


def distinct(names: Sequence[str]) -> list[str]:
    """``names``, in which the second of two equal ones ends in ``(2)``, and so on.

    >>> distinct(["a", "b", "a"])
    ['a', 'b', 'a (2)']
    """
    seen: dict[str, int] = {}
    taken, found = set(names), []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique = name
        while seen[name] > 1 and (unique := f"{name} ({seen[name]})") in taken:
            seen[name] += 1
        taken.add(unique)
        found.append(unique)
    return found
