"""The table and the summary that a terminal shows, made from run documents."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from pytest_loaderperf.errors import MOST_OF_PATH, printable
from pytest_loaderperf.report.figures import (
    NOTHING,
    UNBOUNDED,
    budget_text,
    figure,
    fit,
    fit_end,
    share_text,
    short_count,
    three_digits,
    time_text,
)
from pytest_loaderperf.report.ranks import ranks_text
from pytest_loaderperf.report.words import at_threshold, observations
from pytest_loaderperf.units import ONE

Document = dict[str, Any]
Unpaired = tuple[str, str, bool]  # node id, why it has no base, whether it is new
_GAP = "  "
_LEAST_LABEL = 12
_INDENT = 8  # of a claim's figures, if they have their own lines
_MOST_RANKS = 8  # that have a row
_WIDE = 100  # columns of a terminal from which every column of the table is shown
_NOTABLE = 0.05  # of the measuring time: less is not worth a line
_COLORS = {"PASS": "green", "FAIL": "red", "INCONCLUSIVE": "yellow"}
_NUMBERED = re.compile(r"( \(rerun \d+\))?( #\d+)?$")  # what the name of a run has after its test's
_MOST_UNHEEDED = 10  # tests that are named


@dataclass(frozen=True, slots=True)
class TableLine:
    """A line of text and the colour (green, red, yellow, bold or none) it is shown in."""

    text: str
    color: str = ""


def _metric(name: str, show: Callable[[float], str]) -> Callable[[Document], str]:
    def cell(side: Document) -> str:
        entry = side["metrics"].get(name)
        return NOTHING if entry is None or entry["value"] is None else show(entry["value"])

    return cell


def _always(width: int) -> bool:
    return width > 0


def _wide(width: int) -> bool:
    return width >= _WIDE


def _narrow(width: int) -> bool:
    return width < _WIDE


# (heading, cell, whether a terminal of some width shows the column)
_COLUMNS: tuple[tuple[str, Callable[[Document], str], Callable[[int], bool]], ...] = (
    ("samples/s", _metric("throughput", short_count), _always),
    ("p50", _metric("batch_latency_p50", time_text), _always),
    ("p95", _metric("batch_latency_p95", time_text), _wide),
    ("p99", _metric("batch_latency_p99", time_text), _always),
    ("TTFB", _metric("first_batch", time_text), _always),
    ("x DataLoader", _metric("dataloader_ratio", three_digits), _wide),
    ("x DL", _metric("dataloader_ratio", three_digits), _narrow),
    ("of roofline", _metric("roofline_fraction", share_text), _wide),
    ("roof", _metric("roofline_fraction", share_text), _narrow),
)


def table_lines(runs: Sequence[Document], width: int) -> list[TableLine]:
    """A table of all runs: a heading for each run, a row for each loader, a line for each claim."""
    runs = [_printable(run) for run in runs]
    columns = [(head, cell) for head, cell, shown in _COLUMNS if shown(width)]
    while True:
        headings = ["loader", *(head for head, _ in columns)]
        rows = [[[_label(side), *(cell(side) for _, cell in columns)] for side in _measured(run)] for run in runs]
        widths = [max(len(row[i]) for row in [headings, *chain.from_iterable(rows)]) for i in range(len(headings))]
        if not columns or _LEAST_LABEL + sum(widths[1:]) + len(_GAP) * len(columns) <= width:
            break
        columns.pop()
    widths[0] = max(_LEAST_LABEL, min(widths[0], width - sum(widths[1:]) - len(_GAP) * len(columns)))
    lines = [TableLine(_row(headings, widths), "bold")]
    for run, run_rows in zip(runs, rows, strict=True):
        took = ", ".join([f"{run['seconds']:.1f} s", *_of_ranks(run)])
        lines.append(TableLine(fit_end(f"{run['nodeid']}  ({took})", width), "bold"))
        lines += [TableLine(_row(row, widths)) for row in run_rows]
        lines += chain.from_iterable(_claim_lines(claim, width) for claim in run["claims"])
        lines += chain.from_iterable(_note_lines(note, width) for note in run["notes"])
    return lines


def _printable(entry: Any) -> Any:
    """A document whose texts, at any depth, can be shown on a terminal."""
    if isinstance(entry, dict):
        return {key: _printable(value) for key, value in entry.items()}
    if isinstance(entry, list):
        return list(map(_printable, entry))
    return printable(entry, MOST_OF_PATH) if isinstance(entry, str) else entry


def _measured(run: Document) -> list[Document]:
    """The rows of a run: its sides, and after the loader its ranks, of many the slowest."""
    ranks = sorted(run.get("ranks", []), key=_rate)[:_MOST_RANKS]
    rows = [{**rank, "name": f" rank {rank['rank']} on {rank['host']}"} for rank in ranks]
    return [*run["sides"][:1], *sorted(rows, key=lambda row: int(row["rank"])), *run["sides"][1:]]


def _rate(rank: Document) -> float:
    return float(rank["metrics"].get("throughput", {}).get("value") or 0)


def _of_ranks(run: Document) -> Iterator[str]:
    if text := ranks_text(run):
        yield text
        skew = run["sides"][0]["metrics"].get("skew")
        if skew and skew["high"] is not None:  # else of too few trials
            yield f"skew {figure(skew['value'], skew['unit'])}"


def _label(side: Document) -> str:
    """``loader`` and ``against`` alone say little, so the type is added. Names that a user gave are shown alone."""
    return f"{side['name']}: {side['kind']}" if side["name"] in ("loader", "against") else str(side["name"])


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    label = fit(cells[0], widths[0]).ljust(widths[0])
    return _GAP.join([label, *(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))]).rstrip()


def _claim_lines(claim: Document, width: int) -> list[TableLine]:
    times = " x" if claim["unit"] == ONE and claim["counted"] == "pairs" else ""
    undecided = claim["verdict"] == "INCONCLUSIVE"
    parts = [
        f"{figure(claim['estimate'], claim['unit'])}{times}",
        *([_interval(claim)] if undecided else []),
        observations(claim["pairs"], claim["counted"]),
        f"{claim['seconds']:.1f} s",
        *(_outlook(claim) if undecided else []),
    ]
    head, measured = f"  {claim['verdict']}  {claim['claim']}", ", ".join(parts)
    texts = [f"{head}  {measured}"]
    if len(texts[0]) > width:
        indent = " " * _INDENT
        texts = [head, *(indent + line for line in _wrapped(parts, width - _INDENT))]
    color = _COLORS["FAIL" if claim["failed"] else claim["verdict"]]
    return [TableLine(fit(text, width), color) for text in texts]


def _wrapped(parts: Sequence[str], width: int) -> list[str]:
    """``parts``, none split, with commas between them, in lines of at most ``width`` columns."""
    lines = [parts[0]]
    for part in parts[1:]:
        lines[-1] += ","
        if len(lines[-1]) + len(part) + 2 <= width:  # a space, and a comma after it
            lines[-1] += f" {part}"
        else:
            lines.append(part)
    return lines


def _interval(claim: Document) -> str:
    low, high = (UNBOUNDED if end is None else figure(end, claim["unit"]) for end in (claim["low"], claim["high"]))
    return f"interval {low} to {high}"


def _outlook(claim: Document) -> Iterator[str]:
    """What would decide an undecided claim, in few words."""
    seconds = claim["settles_in_seconds"]
    if claim["unconfirmed"] is not None:
        yield f"{claim['unconfirmed']} from the first batches only"
    elif seconds is not None:
        yield f"{'needs at least' if claim['high'] is None else 'probably needs'} {budget_text(seconds)}"
    elif claim["pairs"]:
        close = at_threshold(claim["estimate"], claim["needed"], claim["unit"])
        yield "is at the threshold" if close else "probably needs over an hour"


def _note_lines(note: str, width: int) -> list[TableLine]:
    texts = textwrap.wrap(note, width, initial_indent="  note: ", subsequent_indent=" " * 8, break_on_hyphens=False)
    return [TableLine(text, "yellow") for text in texts]


def summary_lines(runs: Sequence[Document], alpha: float, unpaired: Sequence[Unpaired] = ()) -> list[TableLine]:
    """The verdicts of all claims, which tests nothing protects, and what disturbed the measuring."""
    verdicts = Counter(claim["verdict"] for run in runs for claim in run["claims"])
    claims = verdicts.total()
    parts = [f"{verdicts[name]} {name}" for name in _COLORS if verdicts[name]]
    spent = sum(run["seconds"] for run in runs)
    text = f"{claims} claim{'s' * (claims != 1)}: {', '.join(parts)}" if claims else "no claims"
    failed = any(claim["failed"] for run in runs for claim in run["claims"])
    color = "red" if failed else next((_COLORS[name] for name in ("INCONCLUSIVE", "PASS") if verdicts[name]), "")
    used = sum(claim["alpha"] for run in runs for claim in run["claims"])
    lines = [
        TableLine(f"{text}; {spent:.1f} s spent measuring", color),
        TableLine(f"false-alarm budget of the run: {alpha:g}, of which its claims use {used:.2g}"),
    ]
    return lines + _undecided_lines(runs, claims) + unpaired_lines(unpaired) + disturbance_lines(runs)


def _undecided_lines(runs: Sequence[Document], claims: int) -> list[TableLine]:
    """How many claims are undecided, and what to do."""
    open_runs = [(run["inconclusive"], [c for c in run["claims"] if c["verdict"] == "INCONCLUSIVE"]) for run in runs]
    undecided = [claim for _, found in open_runs for claim in found]
    failed = sum(claim["failed"] for claim in undecided)
    passed = len(undecided) - failed
    of = f"of {claims} claim{'s' * (claims != 1)} undecided"
    lines = []
    if failed:
        lines.append(TableLine(f"{failed} {of}, counted as {'a failure' if failed == 1 else 'failures'}", "red"))
    if passed:
        lines.append(TableLine(f"{passed} {of}: nothing protects {'it' if passed == 1 else 'them'}", "yellow"))
    needed = [claim["settles_in_seconds"] for claim in undecided if claim["settles_in_seconds"] is not None]
    changing = sum(claim["unconfirmed"] is not None for claim in undecided)
    hopeless = len(undecided) - len(needed) - changing
    texts = []
    if needed:
        least, most = budget_text(min(needed)), budget_text(max(needed))
        budget = f"a budget of {most}" if least == most else f"budgets of {least} to {most}"
        texts.append(f"{len(needed)} would probably be settled by {budget}")
    if changing:
        texts.append(f"{changing} got a verdict from the first batches that later ones do not confirm")
    if hopeless:
        texts.append(f"{hopeless} would not be settled by an hour of measuring: allow a larger margin")
    if any(found for policy, found in open_runs if policy == "pass"):
        texts.append("--loaderperf-inconclusive=leaning fails those beyond the threshold so far")
    return [*lines, *(TableLine(f"  {text}", "yellow") for text in texts)]


def unheeded_lines(runs: Sequence[Document], passed: Collection[str]) -> list[TableLine]:
    """Tests that ``passed``, by their node ids, though a claim of theirs failed: an ``assert`` may be missing."""
    tests = [run["nodeid"] for run in runs if any(claim["failed"] for claim in run["claims"])]
    tests = [test for test in dict.fromkeys(_NUMBERED.sub("", test) for test in tests) if test in passed]
    if not tests:
        return []
    who, them = ("1 test passes", "it") if len(tests) == 1 else (f"{len(tests)} tests pass", "them")
    texts = [f"{who} though a claim there failed: nothing protects {them}"]
    texts += ["  write `assert` before the comparison, unless it is meant (`not`, `or`)"]
    texts += [f"  {printable(test)}" for test in tests[:_MOST_UNHEEDED]]
    texts += [f"  and {len(tests) - _MOST_UNHEEDED} more"] * (len(tests) > _MOST_UNHEEDED)
    return [TableLine(text, "yellow") for text in texts]


def unpaired_lines(unpaired: Sequence[Unpaired]) -> list[TableLine]:
    """Tests without a base to compare with, although one was requested. New tests have none yet and are not listed."""
    old = [(nodeid, reason) for nodeid, reason, is_new in unpaired if not is_new]
    if not old:
        return []
    who, them = ("1 test has", "it") if len(old) == 1 else (f"{len(old)} tests have", "them")
    texts = [f"{who} no base to compare with: nothing protects {them}"]
    reasons = [reason.partition("\n")[0] or "no reason given" for _, reason in old]
    texts += [f"  {printable(nodeid)}: {printable(reason)}" for (nodeid, _), reason in zip(old, reasons, strict=True)]
    return [TableLine(text, "yellow") for text in texts]


_CAUSES = {
    "stolen": "stolen time",
    "other_processes": "other processes",
    "cpu_quota": "the container's CPU limit",
}


def disturbance_lines(runs: Sequence[Document]) -> list[TableLine]:
    """Which share of the measuring was disturbed and by what, if it is worth a line."""
    known = [run for run in runs if run["disturbed"] is not None]
    seconds = sum(run["seconds"] for run in known)
    if not seconds:
        return []
    by = {
        name: sum(run.get("disturbed_by", {}).get(name, 0) * run["seconds"] for run in known) / seconds
        for name in _CAUSES
    }
    share = sum(by.values())
    if share <= _NOTABLE:
        return []
    causes = ", ".join(f"{_CAUSES[name]} {share_text(by[name])}" for name in _CAUSES if by[name])
    return [TableLine(f"the machine was disturbed for {share_text(share)} of the measuring: {causes}", "yellow")]
