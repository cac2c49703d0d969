"""What the doctor prints."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from pytest_loaderperf.diagnosis import Diagnosis, Finding
from pytest_loaderperf.diagnosis.diagnosis import Line
from pytest_loaderperf.diagnosis.timeline import QueueSeen
from pytest_loaderperf.errors import MOST_OF_PATH, printable
from pytest_loaderperf.report.changes import called
from pytest_loaderperf.report.figures import fit_end, gain_text, share_text, short_count
from pytest_loaderperf.report.terminal import TableLine

_BAR = 20  # columns of a bar for all of the time
_INDENT, _GAP = 5, 3
_LEAST_SHARE = 0.005
_MOST_LINES, _LEAST_OF_LINE = 3, 0.01  # of a stage that are shown, and their least share
_OFTEN, _SELDOM = 0.5, 0.1  # of the asks: from which the workers are slower, and up to which they are faster
_MOST_WIDTH = 120
_LEAST_WHAT = 12  # characters of what works in a stage: its line is shown beside it


def doctor_lines(diagnosis: Diagnosis, width: int) -> list[TableLine]:
    """The whole report: what the loader is, where its time goes, what to change."""
    width = min(width, _MOST_WIDTH)
    lines = [TableLine(text, "bold") for text in _wrapped(headline(diagnosis), width, 0)]
    lines += [TableLine(""), TableLine("where a batch's time goes", "bold"), *_time_lines(diagnosis, width)]
    lines += [TableLine(""), *_finding_lines(diagnosis.findings, width)]
    lines += _advice_lines(diagnosis, width)
    for unseen in diagnosis.ledger.unseen:
        lines += [TableLine(text, "yellow") for text in _wrapped(f"not seen: {unseen}", width, 0)]
    return lines


def headline(diagnosis: Diagnosis) -> str:
    """What the loader is, and how fast."""
    loader = diagnosis.ledger.loader
    parts = [loader.kind] if loader.kind != diagnosis.name else []
    if loader.torch_like or loader.num_workers:
        parts.append(f"{loader.num_workers} worker{'s' * (loader.num_workers != 1)}")
    if loader.batch_size is not None:
        parts.append(f"batch {loader.batch_size}")
    figures = [f"{short_count(diagnosis.samples_per_second)} samples/s"]
    if diagnosis.copy_limit_fraction:
        figures.append(f"{share_text(diagnosis.copy_limit_fraction)} of the copy limit")
    if loader.num_workers:
        figures.append(f"workers busy {diagnosis.workers_busy:.0%}")
    return printable(f"{diagnosis.name}   {', '.join(parts)}: {', '.join(figures)}")


def stage_rows(diagnosis: Diagnosis) -> Iterator[tuple[str, float, str, str]]:
    """Each stage that takes time: its name, its share, what works there, and where; the longest first."""
    loader, ledger = diagnosis.ledger.loader, diagnosis.ledger
    where = {
        "fetch": (f"{loader.dataset}.__getitem__", loader.dataset_file, loader.dataset_line),
        "collate": ("collate_fn", loader.collate_file, loader.collate_line),
        "hand-over": (f"worker to main process, {ledger.stages.sent_nbytes / 1e6:.1f} MB a batch", "", 0),
    }
    for stage, share in sorted(diagnosis.stages.items(), key=lambda item: -item[1]):
        if share >= _LEAST_SHARE:
            what, file, line = where.get(stage, ("", "", 0))
            yield stage, share, what, place_text(file, line)


def _time_lines(diagnosis: Diagnosis, width: int) -> Iterator[TableLine]:
    for stage, share, what, place in stage_rows(diagnosis):
        yield TableLine(_row(stage, share, what, place, width))
        yield from _lines_of_stage(diagnosis.lines_of(stage), share, place.rpartition(":")[0], width)
    inside = {(line.file, line.line) for stage in diagnosis.stages for line in diagnosis.lines_of(stage)}
    for busy in diagnosis.lines():
        if (busy.file, busy.line) in inside:
            continue
        at = place_text(busy.file, busy.line)  # in other threads, or in a loader of the user's own
        name, at = ("elsewhere", at) if diagnosis.stages else (at, "")
        yield TableLine(_row(name, busy.share, called(busy.callee), at, width, unit="of your lines"))
    yield from (TableLine(text) for text in _pace_lines(diagnosis, width))


def _lines_of_stage(lines: list[Line], share: float, file: str, width: int) -> Iterator[TableLine]:
    """The largest lines of a stage whose code is in ``file``, and what is left of its share."""
    shown = [line for line in lines[:_MOST_LINES] if line.share >= _LEAST_OF_LINE]
    for line in shown:
        at = place_text(line.file, line.line)
        at = "" if at.rpartition(":")[0] == file else at
        yield TableLine(_row(f"  line {line.line}", line.share, called(line.callee), at, width, bar="░"))
    left = share - sum(line.share for line in shown)
    if shown and left >= _LEAST_SHARE:
        yield TableLine(_row("  the rest", left, "", "", width, bar="░"))


def _pace_lines(diagnosis: Diagnosis, width: int) -> Iterator[str]:
    """What lay ready between workers and the main process, and what a training step would wait."""
    queue, step_ns, wait = diagnosis.ledger.queue, diagnosis.ledger.step_ns, diagnosis.data_wait
    if queue.asks:
        taker = "consumer" if wait is not None and wait < _SELDOM else "hand-over"
        yield from _named_lines("queue", _queue_words(queue, taker), width)
    if step_ns:
        said = (
            "no epoch had a second batch to wait for"
            if wait is None
            else f"it would wait for data {wait:.0%} of the time, accelerator utilisation (AU) {1 - wait:.0%}"
        )
        yield from _named_lines("step", f"{step_ns / 1e6:g} ms for each batch: {said}", width)


def _queue_words(queue: QueueSeen, taker: str) -> str:
    late, empty = queue.late / queue.asks, queue.empty / queue.asks
    if late > _OFTEN:
        limit = "the workers are the limit"
    elif late < _SELDOM:
        limit = f"the {taker} is the limit"
    else:
        limit = f"workers and {taker} are about equally fast"
    held = f", the next in order not ready in {late:.0%}" if late - empty > _SELDOM else ""
    ready = f"{queue.ready:.1f} of {queue.capacity} batches ready on average"
    return f"{ready}, empty in {empty:.0%} of the asks{held}: {limit}"


def _named_lines(name: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent=f"  {name:<13}", subsequent_indent=" " * 15)


def _row(name: str, share: float, what: str, place: str, width: int, unit: str = "", bar: str = "█") -> str:  # noqa: PLR0917 private
    head = f"  {printable(name):<12} {share:>4.0%} {unit or bar * max(1, round(share * _BAR)):<{_BAR}}  "
    what, left = printable(what), width - len(head)
    if place and left - len(place) - len("  ") >= min(len(what), _LEAST_WHAT):
        what = f"{fit_end(what, left - len(place) - len('  '))}  {place}"
    return f"{head}{fit_end(what, max(left, _LEAST_WHAT))}"[:width].rstrip()


def _finding_lines(findings: list[Finding], width: int) -> Iterator[TableLine]:
    if not findings:
        yield TableLine("no mistakes found", "green")
        return
    yield TableLine("what to change", "bold")
    for number, finding in enumerate(findings, 1):
        gain = finding.gain
        head = f"  {number}  {finding.rule}"
        at = place_text(finding.file, finding.line)
        head = f"{head}   {at}" if at else head
        text = "" if gain is None else gain_text(**asdict(gain))
        fits = len(head) + len(text) + _GAP <= width
        yield TableLine(f"{head}{text:>{width - len(head)}}".rstrip() if fits else head, "yellow")
        if text and not fits:
            yield TableLine(f"{' ' * _INDENT}{text}", "yellow")
        for text in (finding.message, f"fix: {finding.fix}"):
            yield from (TableLine(line) for line in _wrapped(printable(text), width, _INDENT))


def _advice_lines(diagnosis: Diagnosis, width: int) -> Iterator[TableLine]:
    if diagnosis.advice or diagnosis.untried:
        yield TableLine("")
    if diagnosis.advice:
        yield TableLine("tried on this machine, in pairs", "bold")
    for one in diagnosis.fastest_first:
        gain = gain_text(**asdict(one.gain)).removesuffix(", measured")
        color = "green" if one.helps else ""
        text = printable(one.text)
        fits = len(text) + len(gain) + 5 <= width
        rows = [f"  {text}{gain:>{width - len(text) - 2}}"] if fits else [f"  {text}", f"      {gain}"]
        yield from (TableLine(line, color) for line in [*rows, *([f"      {one.note}"] if one.note else [])])
    for reason in diagnosis.untried:
        yield from (TableLine(text) for text in _wrapped(f"not tried: {printable(reason)}", width, 2))


def _wrapped(text: str, width: int, indent: int) -> list[str]:
    space = " " * indent
    return textwrap.wrap(text, width, initial_indent=space, subsequent_indent=space, break_on_hyphens=False)


def place_text(file: str, line: int) -> str:
    """``file:line``, from the current folder if the file is inside it."""
    if not file:
        return ""
    relative = os.path.relpath(file) if Path(file).is_relative_to(Path.cwd()) else file
    return f"{printable(relative, MOST_OF_PATH)}:{line}"
