"""Two results side by side. No verdict: they were not measured in turns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from pytest_loaderperf.errors import MOST_OF_PATH, printable
from pytest_loaderperf.report.figures import NOTHING, UNBOUNDED, figure, fit, fit_end, short_count, three_digits
from pytest_loaderperf.report.reading import (
    LOADER,
    Document,
    Figure,
    difference_words,
    differing,
    distinct,
    fact_text,
    figures,
    fingerprint,
    higher_is_better,
)
from pytest_loaderperf.report.terminal import TableLine
from pytest_loaderperf.units import SAMPLES_PER_SECOND

COMPARISON_SCHEMA = "loaderperf-comparison/1"
BETTER, WORSE, UNCLEAR, SAME = "better", "worse", "unclear", "same"
_COLORS = {BETTER: "green", WORSE: "red"}
_VERDICT_COLORS = {"PASS": "green", "FAIL": "red"}
_GAP = "  "
_LEAST_LABEL = 16
_COMMIT = 12  # digits of a commit: enough to find it
_ADVICE = (
    "Stored numbers show trends and are no gate: both sides of a verdict are measured in turns, in one run. "
    "For one: pytest --loaderperf --loaderperf-base=REF"
)


def comparison(a: Document, b: Document) -> Document:
    """Tests of both results with their metrics and verdicts, tests of only one, and facts of the machines that differ.

    ``ratio`` is B / A. ``change``, in the user's sense: better or worse if the 95 % intervals have nothing in common,
    unclear if they have, or are not known, same if nothing differs.
    """
    runs_a, runs_b = _by_name(a), _by_name(b)
    machines = [a["machine"], b["machine"]]
    return {
        "schema": COMPARISON_SCHEMA,
        **{key: _origin(document) for key, document in (("a", a), ("b", b))},
        "differences": [
            {"fact": name, **{key: machine.get(name) for key, machine in zip("ab", machines, strict=True)}}
            for name in differing(machines)
        ],
        "tests": [_test(name, run, runs_b[name]) for name, run in runs_a.items() if name in runs_b],
        "only_in_a": [name for name in runs_a if name not in runs_b],
        "only_in_b": [name for name in runs_b if name not in runs_a],
    }


def _origin(document: Document) -> Document:
    return {
        "commit": document.get("commit"),
        "machine": fingerprint(document["machine"]),
        "partial": bool(document.get("partial")),
    }


def _by_name(document: Document) -> dict[str, Document]:
    runs = document["runs"]
    return dict(zip(distinct([run["nodeid"] for run in runs]), runs, strict=True))


def _test(name: str, a: Document, b: Document) -> Document:
    of_a, of_b = ({(found.side, found.metric): found for found in figures(run) if found.n} for run in (a, b))
    sides = list(dict.fromkeys(side for side, _ in (*of_a, *of_b)))
    keys = sorted(dict.fromkeys((*of_a, *of_b)), key=lambda key: sides.index(key[0]))
    claims_a, claims_b = (_verdicts(run) for run in (a, b))
    return {
        "nodeid": name,
        "metrics": [_metric(of_a.get(key), of_b.get(key)) for key in keys],
        "claims": [
            {"claim": text, "a": claims_a.get(text), "b": claims_b.get(text)}
            for text in dict.fromkeys((*claims_a, *claims_b))
        ],
    }


def _verdicts(run: Document) -> dict[str, str]:
    claims = run["claims"]
    return dict(
        zip(distinct([claim["claim"] for claim in claims]), (claim["verdict"] for claim in claims), strict=True)
    )


def _metric(a: Figure | None, b: Figure | None) -> Document:
    known = a or b
    assert known is not None
    entry: Document = {"side": known.side, "metric": known.metric, "unit": known.unit}
    entry |= {key: found and _value(found) for key, found in (("a", a), ("b", b))} | {"ratio": None, "change": None}
    if a is not None and b is not None and a.unit == b.unit and a.value and b.value is not None:
        entry |= {"ratio": b.value / a.value, "change": _change(a, b)}
    return entry


def _value(found: Figure) -> Document:
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _change(a: Figure, b: Figure) -> str:
    if a.value == b.value:
        return SAME
    if a.low is not None and b.high is not None and b.high < a.low:
        higher = False
    elif a.high is not None and b.low is not None and b.low > a.high:
        higher = True
    else:
        return UNCLEAR
    return BETTER if higher == higher_is_better(a.metric, a.unit) else WORSE


def comparison_lines(compared: Document, names: Sequence[str], width: int) -> list[TableLine]:
    """The comparison as a table for a terminal of ``width`` columns; ``names`` are those of the two files."""
    lines = []
    for key, name in zip("ab", names, strict=True):
        origin = compared[key]
        said = [f"commit {printable(origin['commit'])[:_COMMIT]}"] if origin["commit"] else []
        said += [f"machine {origin['machine']}", *(["partial: claims may be missing"] if origin["partial"] else [])]
        end = f"  ({', '.join(said)})"
        shown = fit_end(printable(name, MOST_OF_PATH), max(_LEAST_LABEL, width - len(end) - len("A  ")))
        lines.append(TableLine(fit(f"{key.upper()}  {shown}{end}", width), "bold"))
    lines += _differences(compared, width)
    if compared["tests"]:
        lines += _tables(compared["tests"], width)
    else:
        lines.append(TableLine("no test is in both results", "yellow"))
    for key in "ab":
        only = (f"only in {key.upper()}: {printable(name, MOST_OF_PATH)}" for name in compared[f"only_in_{key}"])
        lines += [TableLine(fit(text, width), "yellow") for text in only]
    return lines + [TableLine(text) for text in textwrap.wrap(_ADVICE, width, break_on_hyphens=False)]


def _differences(compared: Document, width: int) -> list[TableLine]:
    found = compared["differences"]
    if not found:
        return []
    facts = (f"{each['fact']} {' / '.join(printable(fact_text(each[key])) for key in 'ab')}" for each in found)
    text = f"warning: {difference_words([compared[key]['machine'] for key in 'ab'])}: {', '.join(facts)}"
    return [TableLine(line, "yellow") for line in textwrap.wrap(text, width, subsequent_indent="  ")]


def _tables(tests: Sequence[Document], width: int) -> Iterator[TableLine]:
    """One table of all tests: a heading for each test and side, a row for each metric, a line for each new verdict."""
    for wide in (True, False):  # with intervals, if there is room for them
        headings = ["metric", "A", *(["95 %"] * wide), "B", *(["95 %"] * wide), "B / A", ""]
        tables = [[_cells(entry, wide=wide) for entry in test["metrics"]] for test in tests]
        rows = [headings, *(row for table in tables for row in table)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(headings))]
        room = width - sum(widths[1:]) - len(_GAP) * (len(widths) - 1)
        if room >= widths[0]:
            break
    widths[0] = max(_LEAST_LABEL, min(widths[0], room))
    yield TableLine(_row(headings, widths, width), "bold")
    for test, table in zip(tests, tables, strict=True):
        yield TableLine(fit_end(printable(test["nodeid"], MOST_OF_PATH), width), "bold")
        side = LOADER
        for entry, row in zip(test["metrics"], table, strict=True):
            if entry["side"] != side:
                side = entry["side"]
                yield TableLine(fit(f"  {printable(side)}", width), "bold")
            yield TableLine(_row(row, widths, width), _COLORS.get(entry["change"], ""))
        for claim in test["claims"]:
            if claim["a"] != claim["b"]:
                text = f"  {claim['a'] or NOTHING} -> {claim['b'] or NOTHING}  {printable(claim['claim'])}"
                yield TableLine(fit(text, width), _VERDICT_COLORS.get(claim["b"], "yellow"))


def _cells(entry: Document, *, wide: bool) -> list[str]:
    values = [cell for key in "ab" for cell in _value_cells(entry[key], entry["unit"], wide=wide)]
    ratio = NOTHING if entry["ratio"] is None else three_digits(entry["ratio"])
    return [f"    {printable(entry['metric'])}", *values, ratio, entry["change"] or ""]


def _value_cells(found: Document | None, unit: str, *, wide: bool) -> list[str]:
    if found is None:
        return [NOTHING] * (1 + wide)
    ends = [found["low"], found["high"]]
    interval = NOTHING if ends == [None, None] else " to ".join(_short(end, unit, UNBOUNDED) for end in ends)
    return [_short(found["value"], unit), *([interval] * wide)]


def _short(value: float | None, unit: str, absent: str = NOTHING) -> str:
    if value is None:
        return absent
    return f"{short_count(value)}/s" if unit == SAMPLES_PER_SECOND else figure(value, unit)


def _row(cells: Sequence[str], widths: Sequence[int], width: int) -> str:
    first, *middle, last = cells
    aligned = (cell.rjust(size) for cell, size in zip(middle, widths[1:-1], strict=True))
    return fit(_GAP.join([fit_end(first, widths[0]).ljust(widths[0]), *aligned, last]).rstrip(), width)
