"""Loader engines of several libraries on one dataset, as a table for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from pytest_loaderperf.errors import MOST_OF_PATH, printable
from pytest_loaderperf.report.figures import NOTHING, UNBOUNDED, short_count, size_text, three_digits, time_text
from pytest_loaderperf.report.terminal import TableLine

Document = dict[str, Any]
_GAP = "  "
_BUSY = 0.02  # of a core while others are measured: less disturbs nobody
_LEAST_LABEL = 12


def engine_lines(compared: Document, width: int) -> list[TableLine]:
    """A row for each engine, the fastest first; then what is different, what failed, and what was not run and why."""
    rows = compared["engines"]
    measured = [row for row in rows if "samples_per_second" in row]
    measured.sort(key=lambda row: -row["samples_per_second"]["value"])
    size = f"{compared['samples']:,} samples, batch {compared['batch_size']:,}"
    shuffled = "not shuffled" if compared["streams"] else "shuffled"
    said = f"{printable(compared['dataset'], MOST_OF_PATH)}: {printable(compared['kind'])}, {size}, {shuffled}"
    lines = [TableLine(text, "bold") for text in textwrap.wrap(said, width)]
    lines += _table(measured, width)
    for row in rows:
        if text := _remark(row):
            color = "yellow" if row in measured else "red"
            lines += [TableLine(line, color) for line in _wrapped(f"{_name(row)}: {text}", width)]
    if not compared["repeats"]:
        text = "the dataset gives other values each time it is read, so the values were not compared"
        lines += [TableLine(line, "yellow") for line in _wrapped(text, width)]
    skipped = [row for row in rows if row.get("not_run")]
    for reason, group in groupby(sorted(skipped, key=lambda row: str(row["not_run"])), key=lambda row: row["not_run"]):
        names = ", ".join(row["engine"] for row in group)
        lines += [TableLine(line) for line in _wrapped(f"not run: {names}: {printable(reason)}", width)]
    workers = f"{compared['workers']} worker{'s' * (compared['workers'] != 1)} at most"
    return [*lines, TableLine(f"{compared['turns']} turns of all, {compared['seconds']:.0f} s, {workers}")]


def _table(rows: Sequence[Document], width: int) -> Iterator[TableLine]:
    for wide in (True, False):  # with intervals, CPU time and memory, if there is room for them
        headings = ["loader", "used as", "samples/s", *(["95 %"] * wide), "x DataLoader", *(["95 %"] * wide), "TTFB"]
        headings += ["CPU s/1k", "PSS"] * wide
        cells = [headings, *(_cells(row, wide=wide) for row in rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
        room = width - sum(widths[1:]) - len(_GAP) * (len(widths) - 1)
        if room >= widths[0]:
            break
    widths[0] = max(_LEAST_LABEL, min(widths[0], room))
    for row in cells:
        left = (cell[:size].ljust(size) for cell, size in zip(row[:2], widths[:2], strict=True))
        right = (cell.rjust(size) for cell, size in zip(row[2:], widths[2:], strict=True))
        yield TableLine(_GAP.join((*left, *right)).rstrip()[:width], "bold" if row is headings else "")


def _cells(row: Document, *, wide: bool) -> list[str]:
    found, ratio = row["samples_per_second"], row["ratio"]
    cells = [row["title"], printable(row["how"]), short_count(found["value"]), *([_interval(found)] * wide)]
    cells += ["1", *([""] * wide)] if ratio is None else [three_digits(ratio["value"]), *([_interval(ratio)] * wide)]
    cells.append(time_text(row["first_batch_seconds"]))
    return cells + [three_digits(row["cpu_seconds_per_1k"]), size_text(row["pss_bytes"])] * wide


def _interval(found: Document) -> str:
    ends = [found["low"], found["high"]]
    if ends == [None, None]:
        return NOTHING
    return " to ".join(UNBOUNDED if end is None else short_count(end) for end in ends)


def _name(row: Document) -> str:
    return f"{row['title']}, {printable(row['how'])}" if row.get("how") else str(row["title"])


def _remark(row: Document) -> str:
    """What a reader must know of an engine: why it failed, how its samples differ, whether it worked out of turn."""
    if "problem" in row:
        return f"failed: {printable(row['problem'])}"
    if "samples_per_second" not in row:
        return ""
    parts = [printable(row["differs"])] if row["differs"] else []
    if row["unlike"]:
        parts.append(f"its samples could not be compared: {printable(row['unlike'])}")
    if row["idle_cpu_share"] > _BUSY:
        parts.append(f"it used {row['idle_cpu_share']:.0%} of a core while others were measured")
    return "; ".join(parts)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
