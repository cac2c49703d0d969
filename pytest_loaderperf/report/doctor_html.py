"""What the doctor says, as HTML for a notebook: self-contained, without scripts, light or dark as its page is."""

from __future__ import annotations

import linecache
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from html import escape

from pytest_loaderperf.diagnosis import Advice, Diagnosis, Finding
from pytest_loaderperf.errors import printable
from pytest_loaderperf.report.changes import called
from pytest_loaderperf.report.doctor import headline, place_text, stage_rows
from pytest_loaderperf.report.figures import gain_text

_ROOT = "loaderperf-doctor"
_LIGHT = (
    "--ink:#1b1f24;--soft:#59636e;--line:#d9dee4;--back:#ffffff;"
    "--code:#f3f5f7;--bar:#2f6fbf;--good:#17713a;--warn:#9a4a00"
)
_DARK = (
    "--ink:#e8ebef;--soft:#a3adb8;--line:#3b424b;--back:#16191d;"
    "--code:#22272e;--bar:#6ca8f0;--good:#5fd38b;--warn:#f0a55a"
)
_STYLE = f"""
.{_ROOT}{{{_LIGHT};color:var(--ink);background:var(--back);font:14px/1.45 system-ui,sans-serif;max-width:960px;
padding:12px 16px;border:1px solid var(--line);border-radius:6px;box-sizing:border-box}}
@media (prefers-color-scheme:dark){{.{_ROOT}{{{_DARK}}}}}
[data-jp-theme-light=true] .{_ROOT}{{{_LIGHT}}}
[data-jp-theme-light=false] .{_ROOT}{{{_DARK}}}
.{_ROOT} h3{{font-size:14px;font-weight:600;margin:16px 0 6px;color:inherit}}
.{_ROOT} p{{margin:2px 0;overflow-wrap:anywhere;color:inherit}}
.{_ROOT} small,.{_ROOT} summary{{color:var(--soft);font-size:12.5px;overflow-wrap:anywhere}}
.{_ROOT} code,.{_ROOT} pre{{font:12.5px/1.45 ui-monospace,monospace;color:inherit;background:var(--code)}}
.{_ROOT} code{{padding:0 3px;border-radius:3px;overflow-wrap:anywhere}}
.{_ROOT} pre{{margin:4px 0;padding:4px 8px;border-radius:4px;overflow-x:auto}}
.{_ROOT} .row{{display:grid;grid-template-columns:76px 40px minmax(60px,1fr) 3fr;gap:8px;
align-items:center;margin:3px 0}}
.{_ROOT} .row>:nth-child(2){{text-align:right;font-variant-numeric:tabular-nums}}
.{_ROOT} .bar{{height:10px;background:var(--bar);border-radius:2px;min-width:2px}}
.{_ROOT} .item{{border-top:1px solid var(--line);padding:7px 0}}
.{_ROOT} .head{{display:flex;flex-wrap:wrap;gap:2px 12px;justify-content:space-between}}
.{_ROOT} .warn{{color:var(--warn);font-weight:600}}
.{_ROOT} .good{{color:var(--good);font-weight:600}}
"""


def doctor_html(diagnosis: Diagnosis) -> str:
    """The whole report: what the loader is, where its time goes, what to change, what was tried."""
    parts = [f'<div class="{_ROOT}"><style>{_STYLE}</style>', f"<p><b>{_text(headline(diagnosis))}</b></p>"]
    parts += _section("Where a batch's time goes", [*_stages(diagnosis), *_lines(diagnosis)])
    if diagnosis.findings:
        parts += _section("What to change", map(_finding, diagnosis.findings))
    else:
        parts.append('<p class="good">No mistakes found.</p>')
    parts += _section("Tried on this machine, in pairs", map(_advice, diagnosis.fastest_first))
    said = [*(f"not tried: {reason}" for reason in diagnosis.untried)]
    said += [f"not seen: {reason}" for reason in diagnosis.ledger.unseen]
    if said:
        inside = "".join(f"<p><small>{_text(reason)}</small></p>" for reason in said)
        parts.append(f"<details><summary>What was not tried or not seen: {len(said)}</summary>{inside}</details>")
    return "".join([*parts, "</div>"])


def _section(title: str, items: Iterable[str]) -> list[str]:
    inside = list(items)
    return [f"<h3>{_text(title)}</h3>", *inside] if inside else []


def _stages(diagnosis: Diagnosis) -> Iterator[str]:
    for stage, share, what, where in stage_rows(diagnosis):
        yield _row(stage, share, f"{_text(what)} <small>{_text(where)}</small>")


def _lines(diagnosis: Diagnosis) -> Iterator[str]:
    busy = diagnosis.lines()
    if busy:
        yield "<p><small>Of the time in your own lines:</small></p>"
    for line in busy:
        where = f"<small>{_text(place_text(line.file, line.line))}</small>"
        yield _row(f"line {line.line}", line.share, f"<code>{_text(called(line.callee))}</code> {where}")


def _row(name: str, share: float, said: str) -> str:
    bar = f'<span class="bar" style="width:{share:.1%}"></span>'
    return f'<div class="row"><span>{_text(name)}</span><span>{share:.0%}</span>{bar}<span>{said}</span></div>'


def _finding(finding: Finding) -> str:
    gain = f"<b>{_text(gain_text(**asdict(finding.gain)))}</b>" if finding.gain else ""
    source = linecache.getline(finding.file, finding.line).strip() if finding.file else ""
    code = f"<pre>{_text(source)}</pre>" if source else ""
    where = _text(place_text(finding.file, finding.line))
    return (
        f'<div class="item"><div class="head"><span><span class="warn">{_text(finding.rule)}</span> '
        f"<small>{where}</small></span>{gain}</div>{code}<p>{_text(finding.message)}.</p>"
        f"<p>Fix: {_text(finding.fix)}.</p></div>"
    )


def _advice(one: Advice) -> str:
    gain = _text(gain_text(**asdict(one.gain)).removesuffix(", measured"))
    shown = f'<span class="good">{gain}</span>' if one.helps else f"<span>{gain}</span>"
    note = f"<small>{_text(one.note)}</small>" if one.note else ""
    return f'<div class="item"><div class="head"><code>{_text(one.text)}</code>{shown}</div>{note}</div>'


def _text(text: object) -> str:
    return escape(printable(text))
