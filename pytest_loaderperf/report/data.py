"""Workloads, formats and the findings of a check as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_loaderperf.errors import MOST_OF_PATH, printable
from pytest_loaderperf.report.figures import size_text

if TYPE_CHECKING:  # light to import for commands that only read results
    from pytest_loaderperf.data.checks.findings import CheckResult, Problem
    from pytest_loaderperf.data.workloads.make import Known, Listed, Made

_GAP = "  "


def workload_lines(workloads: Sequence[Listed]) -> list[str]:
    """A table of workloads."""
    headings = ("workload", "kind", "samples", "shape", "dtype", "bytes")
    rows = [(w.name, w.kind, f"{w.samples:,}", w.shape, w.dtype, size_text(w.nbytes)) for w in workloads]
    return _table([headings, *rows], right={2, 5})


def format_lines(formats: Sequence[Known]) -> list[str]:
    """A table of formats, and how to install missing ones."""
    rows = [(f.name, f.suffix, "yes" if f.command is None else f"no: {f.command}") for f in formats]
    return _table([("format", "suffix", "installed"), *rows], right=set())


def made_line(made: Made) -> str:
    """Where a workload was written, and how large it is."""
    path = printable(made.path, MOST_OF_PATH)
    return f"{made.samples:,} samples written to {path}: {made.format}, {size_text(made.nbytes)} on disk"


def check_lines(result: CheckResult) -> list[str]:
    """The first problems, how many more there are, and what was checked."""
    lines = [_problem(problem) for problem in result.problems]
    if more := result.found - len(result.problems):
        lines.append(f"and {more:,} more")
    unit = "images" if result.kind == "images" else "rows"
    found = "no problems" if result.good else f"{result.found:,} problem{'s' * (result.found != 1)}"
    count = f"{result.checked:,}" + (f" of {result.total:,}" if result.checked < result.total else "")
    expected = [str(part) for part in (result.shape, result.dtype) if part is not None]
    of = f" of {' '.join(expected)}" if expected else ""
    stopped = "; stopped there (--max-errors)" if result.stopped_early else ""
    path = printable(result.path, MOST_OF_PATH)
    return [*lines, f"{path}: {count} {unit}{printable(of)} checked, {found}{stopped}"]


def _problem(problem: Problem) -> str:
    row = None if problem.row is None else f"row {problem.row}"
    field = None if problem.field is None else printable(problem.field)
    where = ", ".join(part for part in (printable(problem.file, MOST_OF_PATH), row, field) if part is not None)
    return f"{where}: {printable(problem.what, MOST_OF_PATH)}"


def _table(rows: Sequence[Sequence[str]], right: set[int]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
