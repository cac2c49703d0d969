# ruff: noqa: T201 a command prints
"""How commands print the lines of a report."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_loaderperf.report import TableLine

_COLORS = {"bold": "1", "green": "32", "yellow": "33", "red": "31"}


def print_lines(lines: Iterable[TableLine]) -> None:
    """Print them, in color if standard output is a terminal."""
    colored = sys.stdout.isatty()
    for line in lines:
        color = _COLORS.get(line.color, "") if colored else ""
        print(f"\x1b[{color}m{line.text}\x1b[0m" if color else line.text)
