"""What a run writes at its end, besides the result file: each output is one function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from pytest_loaderperf.errors import MOST_OF_PATH, LoaderPerfError, printable
from pytest_loaderperf.plugin.settings import Settings

Document = dict[str, Any]
Output = Callable[[Document, Settings], str | None]
"""Writes a result where the settings ask for it, and returns the line to print; None if they do not ask.

It may raise OSError, ValueError or LoaderPerfError.
"""


class NotKeptError(LoaderPerfError):
    """An output that the user did not ask for cannot be written: a note, which does not change the exit status."""


class Written(NamedTuple):
    """Lines to print at the end of a run."""

    lines: list[str]
    problems: list[str]
    notes: list[str]


def keep_result(document: Document, settings: Settings) -> str | None:
    """Add the result to the store of the root folder, unless that is off or nothing was measured."""
    if not settings.keep or not document["runs"]:
        return None
    import time

    from pytest_loaderperf.history import StoreError, keep

    try:
        keep(document, settings.root, time.time(), settings.keep)
    except (OSError, StoreError) as error:
        raise NotKeptError(f"not kept for `loaderperf history`: {error}") from None
    return None


OUTPUTS: dict[str, Output] = {"loaderperf_history": keep_result}  # by what the user set, as an error names it


def write_outputs(document: Document, settings: Settings) -> Written:
    """Write all outputs that the settings ask for; one that fails does not keep the others from being written."""
    written = Written([], [], [])
    for name, output in OUTPUTS.items():
        try:
            line = output(document, settings)
        except NotKeptError as note:
            written.notes.append(printable(note, MOST_OF_PATH))
        except (OSError, ValueError, LoaderPerfError) as error:
            written.problems.append(printable(f"{name}: {error}"))
        else:
            if line is not None:
                written.lines.append(line)
    return written
