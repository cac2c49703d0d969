"""What GitHub Actions shows of a result: a step's summary, annotations at lines of code, a comment's text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_loaderperf.errors import MOST_OF_PATH, ResultError, printable
from pytest_loaderperf.report.changes import Changed, changed, different
from pytest_loaderperf.report.inert import code
from pytest_loaderperf.report.markdown import COMMENT_BYTES, SUMMARY_BYTES, failure, markdown, relative_to
from pytest_loaderperf.report.reading import mistakes

Document = dict[str, Any]
_MOST_SHOWN = 10  # annotations of one kind that GitHub shows for a step
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def write_step_summary(documents: Sequence[Document], file: Path) -> str:
    """Append the results to the step's summary ``file``, and return the line to print.

    Raises OSError if it cannot be written, and ResultError if GitHub's limit leaves no room.
    """
    used = file.stat().st_size if file.exists() else 0
    text = markdown(documents, SUMMARY_BYTES - used - 1)
    with file.open("a", encoding="utf-8") as summary:
        summary.write(f"\n{text}" if used else text)
    return "summary written for this step (GITHUB_STEP_SUMMARY)"


def annotation_lines(documents: Sequence[Document], workspace: str) -> list[str]:
    """Workflow commands: an error for each failed claim, a warning for each finding, at their file and line.

    Files outside ``workspace`` get none, because GitHub could not show them.
    """
    runs = [run for document in documents for run in document["runs"]]
    errors = [_failed(run, claim, workspace) for run in runs for claim in run["claims"] if claim["failed"]]
    found = [_found(finding, workspace) for finding, _ in mistakes(runs)]
    found += [_changed(one, workspace, "at the base") for run in runs for one in changed(run.get("changes"))]
    found += [_changed(one, workspace, "in the other loader") for run in runs for one in different(run)]
    warnings = list(filter(None, dict.fromkeys(found)))
    lines = [*errors[:_MOST_SHOWN], *warnings[:_MOST_SHOWN]]
    if left := len(errors) + len(warnings) - len(lines):
        lines.append(f"{left} more than GitHub shows as annotations: the summary has them")
    return lines


def _failed(run: Document, claim: Document, workspace: str) -> str:
    message = f"{run['nodeid']}: {failure(run, claim, inert=False)}"
    title = "loader too slow" if claim["verdict"] == "FAIL" else "loader undecided"
    place = run.get("file"), run.get("line")
    return _command("error", place, f"loaderperf: {title}", message, workspace)


def _found(finding: Document, workspace: str) -> str:
    message = f"{finding['message']}. Fix: {finding['fix']}" if finding["fix"] else finding["message"]
    place = finding["file"], finding["line"]
    return _command("warning", place, f"loaderperf: {finding['rule']}", message, workspace)


def _changed(one: Changed, workspace: str, where: str) -> str:
    """Empty for what no line has."""
    if not one.file:
        return ""
    return _command("warning", (one.file, one.line), f"loaderperf: not {where}", one.text, workspace)


def _command(level: str, place: tuple[object, object], title: str, message: str, workspace: str) -> str:
    file, line = place
    properties = {"title": printable(title)}
    if file and (name := relative_to(file, workspace)) != str(file):
        properties = {"file": name, **({"line": str(line)} if line else {}), **properties}
    elif file:
        message = f"{file}:{line}: {message}"
    shown = ",".join(f"{key}={_escaped(value, ':,')}" for key, value in properties.items())
    return f"::{level} {shown}::{_escaped(printable(message, MOST_OF_PATH))}"


def _escaped(text: str, more: str = "") -> str:
    """Escaped as GitHub's own toolkit does it; in properties ``:`` and ``,`` as well."""
    return "".join(f"%{ord(char):02X}" if char in f"%\r\n{more}" else char for char in text)


def comment_body(documents: Sequence[Document], *, name: str, head: str, run_url: str | None) -> str:
    """The text of a comment on a pull request, for its commit ``head``; a hidden marker with ``name`` starts it."""
    page = f" [Result and page]({run_url}#artifacts) are artifacts of the run." if run_url else ""
    frame = [f"{marker(name)}\n", f"\n<sub>For commit {code(head[:12])}, by pytest-loaderperf.{page}</sub>\n"]
    body = markdown(documents, COMMENT_BYTES - len("".join(frame).encode()))
    return f"{frame[0]}{body}{frame[1]}"


def marker(name: str) -> str:
    """The hidden text by which a comment is found again. Raises ResultError for a name that HTML would not hide."""
    if _NAME.fullmatch(name) is None:
        raise ResultError(f"--name: expected up to 64 letters, digits, dots and hyphens, got {name!r}")
    return f"<!-- loaderperf: {name} -->"
