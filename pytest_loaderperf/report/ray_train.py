"""The waits of the workers of a Ray Train loop, as a table."""

from __future__ import annotations

import textwrap
from typing import Any

from pytest_loaderperf.errors import printable
from pytest_loaderperf.report.figures import three_digits, time_text
from pytest_loaderperf.report.terminal import TableLine

_HEADINGS = ("rank", "host", "steps", "wait a step", "step", "data wait", "TTFB")
_GAP = "  "


def wait_lines(found: dict[str, Any], width: int) -> list[TableLine]:
    """A row for each worker, and what the slowest costs. ``found``: the result of `measure_in_ray_train`."""
    rows = [_HEADINGS, *map(_cells, found["workers"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = []
    for row in rows:
        cells = [cell.rjust(size) for cell, size in zip(row, widths, strict=True)]
        lines.append(TableLine(_GAP.join(cells)[:width], "bold" if row is _HEADINGS else ""))
    slowest = max(found["workers"], key=lambda one: one["mean_wait_seconds"])
    said = f"at most {found['data_wait']:.1%} of a worker's loop is waiting for batches"
    if len(found["workers"]) > 1 and found["skew"] is not None:
        said += (
            f"; rank {slowest['rank']} waits longest, {three_digits(found['skew'])} times as long as the median worker "
            "(skew)"
        )
    return [*lines, *map(TableLine, textwrap.wrap(said, width))]


def _cells(worker: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(worker["rank"]),
        printable(worker["host"]),
        f"{worker['steps']:,}",
        time_text(worker["mean_wait_seconds"]),
        time_text(worker["mean_step_seconds"]),
        f"{worker['data_wait']:.1%}",
        time_text(worker["first_batch_seconds"]),
    )
