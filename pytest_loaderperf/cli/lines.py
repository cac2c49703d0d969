# ruff: noqa: T201 a command prints
"""How commands print the lines of a report, and what one run gave."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_loaderperf.defaults import DEFAULT_ALPHA
from pytest_loaderperf.errors import MOST_OF_PATH, printable

if TYPE_CHECKING:
    from pytest_loaderperf.report import TableLine

_COLORS = {"bold": "1", "green": "32", "yellow": "33", "red": "31"}


def print_lines(lines: Iterable[TableLine]) -> None:
    """Print them, in color if standard output is a terminal."""
    colored = sys.stdout.isatty()
    for line in lines:
        color = _COLORS.get(line.color, "") if colored else ""
        print(f"\x1b[{color}m{line.text}\x1b[0m" if color else line.text)


def show_run(document: dict[str, Any], machine: Mapping[str, Any], file: Path | None) -> None:
    """Print the table of one run that was measured without pytest, and write its result to ``file``, if given."""
    from pytest_loaderperf.report import disturbance_lines, result_document, table_lines
    from pytest_loaderperf.runs.results import head_commit, repository_root, write_result

    for line in [*table_lines([document], shutil.get_terminal_size().columns), *disturbance_lines([document])]:
        print(line.text)
    if file is not None:
        result = result_document(
            machine=machine,
            commit=head_commit(),
            base_commit=None,
            alpha=DEFAULT_ALPHA,
            runs=[document],
            partial=False,
            root=repository_root(),
        )
        write_result(result, file)
        print(f"result written to {printable(file, MOST_OF_PATH)}")
