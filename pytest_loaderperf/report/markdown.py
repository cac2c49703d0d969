"""Results as Markdown: for GitHub's step summary, for a comment on a pull request, and for files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_loaderperf.errors import MOST_OF_PATH, ResultError
from pytest_loaderperf.report.changes import Changed, changed, different
from pytest_loaderperf.report.figures import NOTHING, UNBOUNDED, figure, gain_text, short_count, time_text
from pytest_loaderperf.report.inert import code, prose
from pytest_loaderperf.report.ranks import slowest_text
from pytest_loaderperf.report.reading import mistakes, without_base
from pytest_loaderperf.units import ONE

Document = dict[str, Any]
SUMMARY_BYTES = 1024 * 1024  # GitHub's limit for the summary of a step
COMMENT_BYTES = 64 * 1024  # and for a comment: so many characters, of at least one byte each
_MOST_OF_CELL = 200  # characters of a name or a claim: longer ones make a table unreadable
_NAMED = 5  # failed claims that the headline tells; the table has all
_NOTABLE = 0.05  # of the measuring time: less disturbance is not worth a line
_HASH = 12  # digits of a commit's hash
_MARKS = {"PASS": "✅ PASS", "FAIL": "❌ FAIL", "INCONCLUSIVE": "⚠️ INCONCLUSIVE"}
_FAILED, _UNDECIDED, _FINDING, _PASSED, _LOADER = range(5)  # which rows matter most, if there is not room for all


def markdown(documents: Sequence[Document], most_bytes: int = SUMMARY_BYTES) -> str:
    """``documents`` as GitHub's Markdown of at most ``most_bytes``: verdicts, findings, loaders and machine.

    Tables are cut by whole rows; claims that failed go last. Text from outside is inert. Raises ResultError if there is
    not even room for the headline.
    """
    headline = _headline(documents)
    sections = [_section(document, len(documents) > 1) for document in documents]
    tables = [table for section in sections for table in section.tables]
    _fill(tables, most_bytes - len(_text(headline, sections).encode()))
    return _text(headline, sections)


@dataclass
class _Table:
    """Rows, each with its rank, of which the first ``shown`` are shown."""

    title: str
    columns: Sequence[str]
    rows: list[tuple[int, str]]
    folded: bool = False
    shown: int = 0

    def __post_init__(self) -> None:
        self.rows.sort(key=lambda row: row[0])

    def lines(self) -> Iterator[str]:
        if not self.rows:
            return
        yield f"<details><summary>{self.title}</summary>\n" if self.folded else f"#### {self.title}\n"
        yield _row(self.columns)
        yield "|" + " --- |" * len(self.columns)
        yield from (text for _, text in self.rows[: self.shown])
        if left := len(self.rows) - self.shown:
            yield f"\n… {left:,} more in the artifact"
        yield "\n</details>\n" if self.folded else ""


@dataclass
class _Section:
    title: str
    tables: list[_Table]
    foot: list[str] = field(default_factory=list)


def _fill(tables: Sequence[_Table], room: int) -> None:
    """Show as many whole rows as there is ``room`` for, in bytes; those of the lowest rank first."""
    if room < 0:
        raise ResultError(
            f"expected room for at least {-room:,} bytes more: a report needs so much without any row. "
            "Give fewer results, or show them as --format html."
        )
    ranked = sorted((row[0], i, j) for i, table in enumerate(tables) for j, row in enumerate(table.rows))
    full: set[int] = set()
    for _, i, j in ranked:
        size = len(tables[i].rows[j][1].encode()) + 1
        if i not in full and size <= room:
            room -= size
            tables[i].shown += 1
        else:
            full.add(i)  # a table is cut once, at one place


def _text(headline: Sequence[str], sections: Sequence[_Section]) -> str:
    lines = list(headline)
    for section in sections:
        lines += [section.title] if section.title else []
        for table in section.tables:
            lines += table.lines()
        lines += [*section.foot, ""]
    return "\n".join(lines)


def _headline(documents: Sequence[Document]) -> list[str]:
    """How many claims failed and are undecided, and the first that failed."""
    runs = [run for document in documents for run in document["runs"]]
    claims = [(run, claim) for run in runs for claim in run["claims"]]
    failed = [(run, claim) for run, claim in claims if claim["failed"]]
    undecided = sum(claim["verdict"] == "INCONCLUSIVE" for _, claim in claims)
    partial = any(document.get("partial") for document in documents)
    unprotected = without_base(documents, new=False)
    of = f"of {len(claims)} claim{'s' * (len(claims) != 1)}"
    if failed:
        lines = [f"### ❌ loaderperf: {len(failed)} {of} failed", ""]
    elif not claims:
        mark = "⚠️ " * bool(unprotected)
        lines = [f"### {mark}loaderperf: {len(runs)} loader{'s' * (len(runs) != 1)} measured, no claims", ""]
    elif undecided or partial or unprotected:
        lines = [f"### ⚠️ loaderperf: none {of} failed", ""]
    else:
        lines = [f"### ✅ loaderperf: {len(claims)} {of} passed", ""]
    lines += [f"- {code(run['nodeid'], _MOST_OF_CELL)}: {failure(run, claim)}" for run, claim in failed[:_NAMED]]
    if len(failed) > _NAMED:
        lines.append(f"- and {len(failed) - _NAMED} more")
    if undecided:
        lines.append(
            f"- {undecided} {of} undecided: nothing protects what {'it says' if undecided == 1 else 'they say'}"
        )
    lines += _without_base(unprotected, len(without_base(documents, new=True)))
    if found := len(mistakes(runs)):
        lines.append(f"- {found} mistake{'s' * (found != 1)} found by the doctor")
    if partial:
        lines.append("- the run did not reach its end: this is what was measured until then")
    return [*lines, ""]


def _without_base(unprotected: Sequence[Document], new: int) -> Iterator[str]:
    for test in unprotected[:_NAMED]:
        name, reason = code(test["nodeid"], _MOST_OF_CELL), prose(test["reason"])
        yield f"- {name} has no base to compare with, so nothing protects it: {reason}"
    if len(unprotected) > _NAMED:
        yield f"- and {len(unprotected) - _NAMED} more without a base"
    if new:
        yield f"- {new} new test{'s' * (new != 1)}, which the base does not have: nothing to compare with yet"


def failure(run: Document, claim: Document, *, inert: bool = True) -> str:
    """What a claim of ``run`` needs and what was measured, in a sentence; for Markdown if ``inert``."""
    text = code(claim["claim"], _MOST_OF_CELL) if inert else str(claim["claim"])
    bound = "at most" if " <" in str(claim["claim"]) else "at least"
    measured, interval, needed = _figures(claim)
    counted = ", undecided, counted as a failure" if claim["verdict"] == "INCONCLUSIVE" else ""
    rank = slowest_text(run, [claim], code if inert else str)
    told = f"{text} needs {bound} {needed}, measured {measured} (95 % interval {interval}){counted}"
    return f"{told}; {rank}" if rank else told


def _figures(claim: Document) -> tuple[str, str, str]:
    """Estimate, interval and threshold."""
    unit = claim["unit"]
    times = " x" if unit == ONE and claim["counted"] == "pairs" else ""
    low, high = (UNBOUNDED if claim[end] is None else figure(claim[end], unit) for end in ("low", "high"))
    interval = low if low == high else f"{low} to {high}"
    return f"{figure(claim['estimate'], unit)}{times}", interval, f"{figure(claim['needed'], unit)}{times}"


def _section(document: Document, several: bool) -> _Section:  # noqa: FBT001 one caller, next to it
    runs, root = document["runs"], document.get("root")
    claims = [_claim_row(run, claim) for run in runs for claim in run["claims"]]
    findings = [_finding_row(finding, tests, root) for finding, tests in mistakes(runs)]
    changes = [_change_row(run["nodeid"], one, root) for run in runs for one in changed(run.get("changes"))]
    differences = [_change_row(run["nodeid"], one, root) for run in runs for one in different(run)]
    unobserved = [_unobserved_row(run["nodeid"], one, root) for run in runs for one in run.get("unobserved", [])]
    loaders = [_loader_row(run, side) for run in runs for side in run["sides"]]
    tables = [
        _Table("Claims", ("Verdict", "Test", "Claim", "Measured, 95 % interval", "Needed", "Evidence"), claims),
        _Table("What it did not do at the base", ("Test", "Place", "Change"), changes),
        _Table("What the other loader does not do", ("Test", "Place", "Difference"), differences),
        _Table("Findings", ("Mistake", "Place", "Faster by", "What to change"), findings),
        _Table("Could not be observed by the doctor", ("Test", "Loader", "Place", "Reason"), unobserved),
        _Table("Loaders", ("Test", "Loader", "samples/s", "p50", "p99", "TTFB"), loaders, folded=True),
    ]
    return _Section(f"### {_name(document)}\n" if several else "", tables, _foot(document))


def _name(document: Document) -> str:
    """Which of several results it is."""
    commit = code(str(document.get("commit") or "no commit")[:_HASH])
    return f"{code(document['file'], MOST_OF_PATH)}, of {commit}" if "file" in document else f"Result of {commit}"


def _claim_row(run: Document, claim: Document) -> tuple[int, str]:
    verdict = _MARKS[claim["verdict"]]
    rank = _FAILED if claim["failed"] else _PASSED if claim["verdict"] == "PASS" else _UNDECIDED
    if rank == _FAILED and claim["verdict"] != "FAIL":
        verdict = "❌ INCONCLUSIVE, counted as a failure"
    measured, interval, needed = _figures(claim)
    bound = "≤" if " <" in str(claim["claim"]) else "≥"
    evidence = f"{claim['pairs']:,d} {prose(claim['counted'])} in {time_text(claim['seconds'])}"
    names, seen = _names(run["nodeid"], claim["claim"]), f"{measured}<br>{interval}"
    if claim["verdict"] != "PASS" and (rank_text := slowest_text(run, [claim], code)):
        seen += f"<br>{rank_text}"
    return rank, _row((verdict, *names, seen, f"{bound} {needed}", evidence))


def _change_row(nodeid: str, one: Changed, root: object) -> tuple[int, str]:
    place = code(f"{relative_to(one.file, root)}:{one.line:d}", MOST_OF_PATH) if one.file else NOTHING
    return _FINDING, _row((code(nodeid, _MOST_OF_CELL), place, prose(one.text)))


def _unobserved_row(nodeid: str, one: Document, root: object) -> tuple[int, str]:
    place = code(f"{relative_to(one['file'], root)}:{one['line']:d}", MOST_OF_PATH) if one["file"] else NOTHING
    return _FINDING, _row((*_names(nodeid, one["side"]), place, prose(one["reason"])))


def _finding_row(finding: Document, tests: int, root: object) -> tuple[int, str]:
    file, gain = finding["file"], finding["gain"]
    place = code(f"{relative_to(file, root)}:{finding['line']:d}", MOST_OF_PATH) if file else NOTHING
    faster = NOTHING if gain is None else prose(gain_text(**gain))
    change = prose(finding["message"]) + (f" (in {tests} tests)" if tests > 1 else "")
    if finding["fix"]:
        change += f"<br>Fix: {prose(finding['fix'])}"
    return _FINDING, _row((code(finding["rule"]), place, faster, change))


def _loader_row(run: Document, side: Document) -> tuple[int, str]:
    def cell(name: str, show: Any) -> str:
        value = side["metrics"].get(name, {}).get("value")
        return NOTHING if value is None else str(show(value))

    rate = cell("throughput", short_count)
    times = (cell(name, time_text) for name in ("batch_latency_p50", "batch_latency_p99", "first_batch"))
    return _LOADER, _row((*_names(run["nodeid"], f"{side['name']}: {side.get('kind', '')}"), rate, *times))


def _foot(document: Document) -> list[str]:
    """What was compared, on which machine, and what disturbed it."""
    machine, runs = document["machine"], document["runs"]
    facts = [f"{name} {code(machine[name])}" for name in ("gpu", "torch", "python") if machine.get(name)]
    if machine.get("cpu"):
        cores = machine.get("usable_cores") or machine.get("cores")
        facts.insert(0, f"{cores:d} cores of {code(machine['cpu'])}" if cores else code(machine["cpu"]))
    commits = [
        f"{name} {code(str(document[key])[:_HASH])}"
        for name, key in (("head", "commit"), ("base", "base_commit"))
        if document.get(key)
    ]
    seconds = sum(run["seconds"] for run in runs)
    disturbed = sum((run["disturbed"] or 0) * run["seconds"] for run in runs) / seconds if seconds else 0
    spent = [f"{seconds:.1f} s spent measuring"]
    if disturbed > _NOTABLE:
        spent.append(f"⚠️ other work disturbed the machine for {disturbed:.0%} of it")
    parts = (("Commits", commits), ("Machine", facts), ("Time", spent))
    return ["<br>".join(f"{name}: {', '.join(found)}" for name, found in parts if found)]


def relative_to(file: object, folder: object) -> str:
    """``file``, from ``folder`` if it is inside it; with forward slashes."""
    name = str(file)
    if folder and name.startswith(f"{str(folder).rstrip('/')}{os.sep}"):
        name = os.path.relpath(name, str(folder))
    return name.replace(os.sep, "/")


def _names(*texts: object) -> list[str]:
    return [code(text, _MOST_OF_CELL) for text in texts]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def verdict_of(documents: Sequence[Document]) -> str:
    """``fail``, ``error``, ``inconclusive`` or ``pass``.

    It is an error if the run did not reach its end or made no claim, or a test that is not new had no base.
    """
    claims = [claim for document in documents for run in document["runs"] for claim in run["claims"]]
    if any(claim["failed"] for claim in claims):
        return "fail"
    cut = any(document.get("partial") for document in documents)
    if not claims or cut or without_base(documents, new=False):
        return "error"
    return "inconclusive" if any(claim["verdict"] != "PASS" for claim in claims) else "pass"
