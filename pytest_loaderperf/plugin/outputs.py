"""What a run writes at its end, besides the result file: each output is one function."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pytest_loaderperf.errors import MOST_OF_PATH, LoaderPerfError, printable
from pytest_loaderperf.plugin.settings import Settings

Document = dict[str, Any]
Output = Callable[[Document, Settings], str | None]
"""Writes a result where the settings ask for it, and returns the line to print; None if they do not ask.

It may raise OSError, ValueError or LoaderPerfError.
"""


def _page(document: Document, settings: Settings) -> str | None:
    if settings.html_path is None:
        return None
    from pytest_loaderperf.report import write_text
    from pytest_loaderperf.report.page import page

    write_text(page([document]), settings.html_path)
    return f"page written to {printable(settings.html_path, MOST_OF_PATH)}"


def _step_summary(document: Document, _settings: Settings) -> str | None:
    """Unasked, in every step of GitHub Actions."""
    if not (file := os.environ.get("GITHUB_STEP_SUMMARY")):
        return None
    from pytest_loaderperf.report.github import write_step_summary

    return write_step_summary([document], Path(file))


def _annotations(document: Document, _settings: Settings) -> str | None:
    if os.environ.get("GITHUB_ACTIONS") != "true":
        return None
    from pytest_loaderperf.report.github import annotation_lines

    workspace = os.environ.get("GITHUB_WORKSPACE") or str(Path.cwd())
    return "\n".join(annotation_lines([document], workspace)) or None


def _asv(document: Document, settings: Settings) -> str | None:
    if (target := settings.asv) is None:
        return None
    from pytest_loaderperf.history.asv import write_asv

    if target.refusal:
        return target.refusal
    return write_asv(document, target.directory, root=target.root, dirty_ok=target.dirty_ok)


class Written(NamedTuple):
    """Lines to print at the end of a run.

    ``problems`` are of outputs that the user asked for, and change the exit status; ``notes`` are of others.
    """

    lines: list[str]
    problems: list[str]
    notes: list[str]


def _keep(document: Document, settings: Settings) -> str | None:
    """Add the result to the store of the root folder, unless that is off or nothing was measured."""
    if not settings.keep or not document["runs"]:
        return None
    import time

    from pytest_loaderperf.history import keep

    keep(document, settings.root, time.time(), settings.keep)
    return None


# By what the user set, as an error names it.
OUTPUTS: dict[str, Output] = {
    "--loaderperf-html": _page,
    "--loaderperf-asv": _asv,
    "loaderperf_history": _keep,
    "GITHUB_STEP_SUMMARY": _step_summary,
    "GITHUB_ACTIONS": _annotations,
}
# Written unasked, so that their loss must not fail a run whose tests pass. By what a note calls the loss.
UNASKED = {
    "loaderperf_history": "not kept for `loaderperf history`",
    "GITHUB_STEP_SUMMARY": "no summary for this step (GITHUB_STEP_SUMMARY)",
    "GITHUB_ACTIONS": "no annotations (GITHUB_ACTIONS)",
}


def write_outputs(document: Document, settings: Settings) -> Written:
    """Write all outputs that the settings ask for; one that fails does not keep the others from being written."""
    written = Written([], [], [])
    for name, output in OUTPUTS.items():
        try:
            line = output(document, settings)
        except (OSError, ValueError, LoaderPerfError) as error:
            if name in UNASKED:
                written.notes.append(printable(f"{UNASKED[name]}: {error}", MOST_OF_PATH))
            else:
                written.problems.append(printable(f"{name}: {error}"))
        else:
            if line is not None:
                written.lines.append(line)
    return written
