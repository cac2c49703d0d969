"""``loaderperf compare``: two results side by side, or a dataset through every loader engine that is installed."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_loaderperf.arguments import not_a_file
from pytest_loaderperf.errors import MOST_OF_PATH, LoaderPerfError, printable

if TYPE_CHECKING:
    from pytest_loaderperf.report import TableLine

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 argparse has no public name for it

_COLORS = {"bold": "1", "green": "32", "yellow": "33", "red": "31"}
_PAIR = 2


def add_compare_command(commands: Commands) -> None:
    """Add the command ``compare``."""
    compare = commands.add_parser("compare", help="compare two results, or loaders of one dataset", description=__doc__)
    compare.add_argument("what", nargs="+", metavar="A.json B.json", help="two files of --loaderperf-json")
    compare.add_argument("--json", metavar="FILE", type=Path, help="write the comparison to FILE")
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    if options.json is not None and (problem := not_a_file(options.json)):
        raise LoaderPerfError(f"--json: {problem}")
    if len(options.what) != _PAIR:
        raise LoaderPerfError(f"compare: expected two result files, got {len(options.what)}.")
    return _compare_results(options, *options.what)


def _compare_results(options: argparse.Namespace, first: str, second: str) -> int:
    from pytest_loaderperf.report import read_json, write_json
    from pytest_loaderperf.report.comparison import comparison, comparison_lines

    compared = comparison(read_json(Path(first)), read_json(Path(second)))
    _show(comparison_lines(compared, [first, second], shutil.get_terminal_size().columns))
    if options.json is not None:
        write_json(compared, options.json)
        print(f"comparison written to {printable(options.json, MOST_OF_PATH)}")  # noqa: T201 a command prints
    return 0


def _show(lines: Iterable[TableLine]) -> None:
    colored = sys.stdout.isatty()
    for line in lines:
        color = _COLORS.get(line.color, "") if colored else ""
        print(f"\x1b[{color}m{line.text}\x1b[0m" if color else line.text)  # noqa: T201 a command prints
