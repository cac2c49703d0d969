"""What a job of many ranks is expected to do, as lines and as a document."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np

from pytest_loaderperf.errors import MOST_OF_PATH, printable
from pytest_loaderperf.report.figures import budget_text, time_text
from pytest_loaderperf.report.terminal import TableLine
from pytest_loaderperf.scale import Cell, Forecast, Range, Recorded, Tail

SCALE_SCHEMA = "loaderperf-scale/1"
HEADINGS = ("ranks", "prefetch", "step time", "95 % interval", "AU", "steps that wait")
_BLOCKS = " ▏▎▍▌▋▊▉█"  # eighths of a column
_LEAST_BAR, _MOST_BAR = 5, 40  # columns
_FEW, _LEAST = 0.1, 0.001  # of the steps: shown with one more digit below, and not shown below
_DIGITS = 6
_ROUNDING = 1e-6  # of floating point


def scale_lines(recorded: Recorded, found: Forecast, width: int) -> list[TableLine]:
    """What a terminal shows: what was recorded, a row for each job, and the quantile that matters for its ranks."""
    lines = [TableLine(part, "bold") for part in _wrapped(named(recorded), width)]
    lines += [TableLine(part) for part in _wrapped(recorded_text(recorded), width)]
    unseen = {tail.ranks for tail in found.tails if not tail.seen}
    rows = [(cells_of(cell), "yellow" if cell.ranks in unseen else "", cell.use.value) for cell in found.cells]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *(cells for cells, _, _ in rows), strict=True)]
    room = min(width - sum(widths) - 2 * len(widths), _MOST_BAR)
    lines += [TableLine(""), TableLine(_row(HEADINGS, widths), "bold")]
    for cells, color, use in rows:
        lines.append(TableLine(f"{_row(cells, widths)}  {_bar(use, room)}".rstrip(), color))
    lines.append(TableLine(""))
    for text, seen in tail_texts(recorded, found):
        lines += [TableLine(part, "" if seen else "yellow") for part in _wrapped(text, width)]
    return lines


def named(recorded: Recorded) -> str:
    """The loader and its test."""
    loader = f"{printable(recorded.loader)} ({printable(recorded.kind)})"
    return f"{loader} of {printable(recorded.test, MOST_OF_PATH)}"


def recorded_text(recorded: Recorded) -> str:
    """What is known of the loader's batches, and how they are made."""
    latencies_s = recorded.latencies_s
    middle, high = (time_text(float(np.quantile(latencies_s, share))) for share in (0.5, 0.99))
    made = f"made by {_many(recorded.workers, 'worker')}, up to {recorded.prefetch} ahead"
    if not recorded.prefetch:
        made = "made when they are requested; with prefetch, 1 worker would make them"
    longest = time_text(float(latencies_s.max()))
    return f"{len(latencies_s):,} batches: p50 {middle}, p99 {high}, longest {longest}; {made}"


def tail_texts(recorded: Recorded, found: Forecast) -> Iterator[tuple[str, bool]]:
    """Which quantile matters for how many ranks, each with whether enough batches were measured to see it."""
    for tail in found.tails:
        if tail.seen:
            slow = f"{share_text(tail.steps)} of the steps have a batch of {time_text(tail.latency_s)} or more"
            yield f"At {_many(tail.ranks, 'rank')}, {quantile_name(tail.share)} matters: {slow}.", True
    if unseen := [tail for tail in found.tails if not tail.seen]:
        last = unseen[-1]
        seconds = last.needed * recorded.batch_s
        shown = f"{len(recorded.latencies_s):,} batches only show up to {quantile_name(_seen(found.reach))}"
        told = f"{', '.join(map(_matters, unseen))}; but {shown}: a step may take longer than this."
        enough = f"For {_many(last.ranks, 'rank')}, measure {last.needed:,} batches, in about {budget_text(seconds)}"
        yield f"{told} {enough} (loaderperf bench --budget).", False


def _matters(tail: Tail) -> str:
    return f"{quantile_name(tail.share)} matters at {_many(tail.ranks, 'rank')}"


def _seen(reach: float) -> float:
    """``reach`` in few digits, rounded down."""
    beyond = 1 - reach
    step = 10.0 ** math.floor(math.log10(beyond))
    return 1 - math.ceil(beyond / step - _ROUNDING) * step


def quantile_name(share: float) -> str:
    """A quantile as people call it.

    >>> quantile_name(0.999), quantile_name(0.5)
    ('p99.9', 'p50')
    """
    return f"p{100 * share:.{_DIGITS}g}"


def share_text(share: float) -> str:
    """A share in percent.

    >>> share_text(0.4), share_text(0.0312), share_text(0.0002), share_text(0.0)
    ('40 %', '3.1 %', '< 0.1 %', '0 %')
    """
    if 0 < share < _LEAST:
        return f"< {100 * _LEAST:g} %"
    return f"{100 * share:.1f} %" if 0 < share < _FEW else f"{100 * share:.0f} %"


def cells_of(cell: Cell) -> tuple[str, ...]:
    """A row under ``HEADINGS``."""
    interval = f"{time_text(cell.step_s.low)} to {time_text(cell.step_s.high)}"
    step = time_text(cell.step_s.value)
    use, waiting = f"{cell.use.value:.3f}", share_text(cell.waiting.value)
    return f"{cell.ranks:,}", str(cell.prefetch), step, interval, use, waiting


def _row(cells: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))


def _bar(share: float, room: int) -> str:
    """``share`` of ``room`` columns; empty if there is little room."""
    if room < _LEAST_BAR:
        return ""
    eighths = round(share * room * 8)
    return "█" * (eighths // 8) + _BLOCKS[eighths % 8].strip()


def _wrapped(text: str, width: int) -> Iterator[str]:
    yield from textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)


def _many(count: int, name: str) -> str:
    return f"{count:,} {name}{'s' * (count != 1)}"


def scale_document(recorded: Recorded, found: Forecast) -> dict[str, Any]:
    """All numbers; times are in seconds."""
    return {
        "schema": SCALE_SCHEMA,
        "test": printable(recorded.test, MOST_OF_PATH),
        "loader": printable(recorded.loader),
        "batches": len(recorded.latencies_s),
        "prefetch": recorded.prefetch,
        "workers": recorded.workers,
        "step": found.step_s,
        "reach": found.reach,
        "jobs": [
            {"ranks": cell.ranks, "prefetch": cell.prefetch}
            | {"step_time": _range(cell.step_s), "accelerator_utilisation": _range(cell.use)}
            | {"steps_that_wait": _range(cell.waiting)}
            for cell in found.cells
        ],
        "tails": [
            {"ranks": tail.ranks, "quantile": tail.share, "latency": tail.latency_s, "steps": tail.steps}
            | {"batches_needed": tail.needed, "seen": tail.seen}
            for tail in found.tails
        ],
    }


def _range(found: Range) -> dict[str, float]:
    return {name: float(f"{value:.{_DIGITS}g}") for name, value in found._asdict().items()}
