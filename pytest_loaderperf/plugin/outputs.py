"""What a run writes at its end, besides the result file: each output is one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pytest_loaderperf.errors import LoaderPerfError, printable
from pytest_loaderperf.plugin.settings import Settings

Document = dict[str, Any]
Output = Callable[[Document, Settings], str | None]
"""Writes a result where the settings ask for it, and returns the line to print; None if they do not ask.

It may raise OSError, ValueError or LoaderPerfError.
"""


def _asv(document: Document, settings: Settings) -> str | None:
    if (target := settings.asv) is None:
        return None
    from pytest_loaderperf.history.asv import write_asv

    if target.refusal:
        return target.refusal
    return write_asv(document, target.directory, root=target.root, dirty_ok=target.dirty_ok)


OUTPUTS: dict[str, Output] = {"--loaderperf-asv": _asv}  # by what the user set, as an error names it


class Written(NamedTuple):
    """Lines to print at the end of a run."""

    lines: list[str]
    problems: list[str]


def write_outputs(document: Document, settings: Settings) -> Written:
    """Write all outputs that the settings ask for; one that fails does not keep the others from being written."""
    written = Written([], [])
    for name, output in OUTPUTS.items():
        try:
            line = output(document, settings)
        except (OSError, ValueError, LoaderPerfError) as error:
            written.problems.append(printable(f"{name}: {error}"))
        else:
            if line is not None:
                written.lines.append(line)
    return written
