# ruff: noqa: T201 a command prints
"""``loaderperf history``."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_loaderperf.arguments import file_path, is_result, not_a_file, not_a_page, not_a_place, page, picture
from pytest_loaderperf.cli.lines import print_lines
from pytest_loaderperf.errors import MOST_OF_PATH, LoaderPerfError, printable

if TYPE_CHECKING:
    from pytest_loaderperf.history.table import Table

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 argparse has no public name for it

GOOD, REGRESSED, USAGE = 0, 1, 2  # exit status
_MOST_NAMED = 20  # metrics or tests in a message
_MOST_OF_NAME = 200  # characters of one of them
_ASV_FOLDERS = (".", "results", ".asv/results")  # in the folder that the user names


def add_history_command(commands: Commands) -> None:
    """Add the command ``history``."""
    history = commands.add_parser(
        "history",
        help="show metrics across commits, and the commits where they changed",
        description="Show metrics across commits, and the commits where they changed. Exit status 1: a regression.",
    )
    add = history.add_argument
    add(
        "folder",
        metavar="DIR",
        type=file_path,
        nargs="?",
        default=Path(),
        help="a project with .loaderperf/history.sqlite3, or a results directory of asv (default: here)",
    )
    add("--metric", metavar="M", default="", help="only this metric, such as throughput")
    add("--test", metavar="TEXT", default="", help="only tests with this text in their name")
    add("--since", metavar="REF", help="only changes after this commit")
    add("--html", metavar="FILE", type=page, help="write a page to FILE")
    add("--png", metavar="FILE", type=picture, help="write a picture to FILE, a PNG, SVG or PDF by its ending")
    add("--json", metavar="FILE", type=file_path, help="write what was found to FILE")
    history.set_defaults(run=_history)


def _history(options: argparse.Namespace) -> int:
    """Its exit status. What cannot be read is status 2: 1 says that there are regressions."""
    try:
        return _shown(options)
    except LoaderPerfError as error:
        shown = str(error).replace("\n", "\n  ")
        print(f"loaderperf: {shown}", file=sys.stderr)
        return USAGE


def _shown(options: argparse.Namespace) -> int:
    from pytest_loaderperf.history.changes import find_changes
    from pytest_loaderperf.history.timeline import repository_of, timeline
    from pytest_loaderperf.report.history import history_lines

    _check(options)
    table = _table(options.folder)
    folder = options.folder if options.folder.is_dir() else options.folder.parent
    repository = repository_of(table, [Path(), folder])
    order = timeline(table, repository)
    since = None if options.since is None else order.since(repository, options.since)
    found = find_changes(table, order, metric=options.metric, test=options.test, since=since)
    if not found:
        raise LoaderPerfError(_nothing(table, options, order.remarks))
    print_lines(history_lines(found, order, shutil.get_terminal_size().columns, options.since))
    if options.html is not None:
        from pytest_loaderperf.report.history_pictures import write_page

        write_page(found, order, options.html, "Metrics across commits")
    if options.png is not None:
        from pytest_loaderperf.report.history_pictures import draw_history

        draw_history(found, order, options.png)
    if options.json is not None:
        from pytest_loaderperf.report import write_json
        from pytest_loaderperf.report.history import history_document

        try:
            write_json(history_document(found, order), options.json)
        except OSError as error:
            raise LoaderPerfError(f"cannot write {options.json}: {error}") from error
    for file in filter(None, (options.html, options.png, options.json)):
        print(f"written to {printable(file, MOST_OF_PATH)}")
    return REGRESSED if any(change.regression for series in found for change in series.changes) else GOOD


def _nothing(table: Table, options: argparse.Namespace, remarks: Sequence[str]) -> str:
    """Why there is nothing to show."""
    from pytest_loaderperf.history.changes import NOT_LEVELS

    if not table.values:
        return f"{options.folder}: no results are kept there yet. Measure first: pytest --loaderperf."
    if options.metric in NOT_LEVELS:
        return (
            f"--metric {options.metric}: it compares with another commit in each run, so it has no history. "
            f"Expected one of {_some(metric.name for metric in table.values if metric.name not in NOT_LEVELS)}."
        )
    if options.metric and not any(metric.name == options.metric for metric in table.values):
        names = _some(metric.name for metric in table.values if metric.name not in NOT_LEVELS)
        return f"--metric: expected one of {names}, got {options.metric!r}."
    of_metric = [metric.test for metric in table.values if options.metric in ("", metric.name)]
    if not any(options.test in test for test in of_metric):
        return f"--test: expected a part of the name of a test, got {options.test!r}. There are {_some(of_metric)}."
    said = "".join(f" {remark[0].upper()}{remark[1:]}." for remark in remarks)
    return f"no committed code was measured, so there is no history to show.{said} Commit, and measure again."


def _some(names: Iterable[str]) -> str:
    """The names, or the first few."""
    distinct = sorted(set(names))
    shown = [printable(name, _MOST_OF_NAME) for name in distinct[:_MOST_NAMED]]
    return ", ".join(shown) + (f" and {len(distinct) - _MOST_NAMED:,} more" if len(distinct) > _MOST_NAMED else "")


def _check(options: argparse.Namespace) -> None:
    if options.json is not None and (problem := not_a_file(options.json, "loaderperf-history")):
        raise LoaderPerfError(f"--json: {problem}")
    for name, refused in (("html", not_a_page), ("png", not_a_place)):
        file = getattr(options, name)
        if file is not None and (problem := refused(file)):
            raise LoaderPerfError(f"--{name}: {problem}")


def _table(folder: Path) -> Table:
    from pytest_loaderperf.history import FILE, FOLDER, Store
    from pytest_loaderperf.history.asv_results import is_asv, read_asv

    if folder.is_file() and is_result(folder):
        raise LoaderPerfError(
            f"{folder}: expected a project with {FOLDER}/{FILE}, or results of asv, got one document of loaderperf. "
            "`loaderperf report` and `loaderperf compare` show a result."
        )
    for file in (folder / FOLDER / FILE, folder / FILE, folder):
        if file.is_file():
            with Store(file) as store:
                return store.table()
    for name in _ASV_FOLDERS:
        if is_asv(folder / name):
            return read_asv(folder / name)
    raise LoaderPerfError(
        f"{folder}: expected a project with {FOLDER}/{FILE}, or results of asv, got neither. "
        "Measure first: pytest --loaderperf."
    )
