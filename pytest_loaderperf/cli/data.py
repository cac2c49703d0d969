# ruff: noqa: T201 a command prints
"""``loaderperf data make|list|check``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from typing import TYPE_CHECKING, Any

from pytest_loaderperf import arguments
from pytest_loaderperf.errors import MOST_OF_PATH, LoaderPerfError, printable

if TYPE_CHECKING:
    from pytest_loaderperf.report.progress import ProgressLine

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 argparse has no public name for it

GOOD, PROBLEMS, USAGE = 0, 1, 2  # exit status


def add_data_commands(commands: Commands) -> None:
    """Add the command ``data`` and its three commands."""
    data = commands.add_parser("data", help="make, list and check data on disk")
    verbs = data.add_subparsers(required=True, metavar="COMMAND")
    make = verbs.add_parser("make", help="write a workload to disk")
    make.add_argument("workload", metavar="NAME|SPEC.toml", help="as `loaderperf data list` shows, or a TOML file")
    make.add_argument(
        "-o", "--output", metavar="PATH", type=arguments.file_path, required=True, help="where to write it"
    )
    make.add_argument("--format", metavar="F", help="default: by the suffix of PATH")
    make.add_argument("--samples", metavar="N", type=arguments.count, help="instead of the spec's own")
    make.add_argument("--seed", metavar="S", type=_whole, help="instead of the spec's own")
    make.add_argument("--force", action="store_true", help="replace an existing PATH")
    make.set_defaults(run=_make)
    listing = verbs.add_parser("list", help="list the workloads and the formats")
    listing.set_defaults(run=_list)
    check = verbs.add_parser("check", help="look for damage in a folder of images or in a table")
    check.add_argument("path", metavar="PATH", type=arguments.file_path, help="a folder of images, or a table")
    check.add_argument("--max-errors", metavar="N", type=_whole, help="stop after N problems, 0: never (10)")
    check.add_argument("--workers", metavar="N", type=arguments.count, help="threads (default min(4, cores))")
    check.add_argument("--classes", metavar="N", type=arguments.count, help="labels must be below N")
    check.add_argument(
        "--shape", metavar="SIZES", type=_shape, help="shape of every image or array column, such as 100,100"
    )
    check.add_argument("--dtype", metavar="DTYPE", help="dtype of every image or array column, such as uint16")
    check.add_argument(
        "--option",
        metavar="NAME=VALUE",
        type=_option,
        action="append",
        help="an option of the format, such as split=train; VALUE is JSON or text; can be repeated",
    )
    check.add_argument("--json", metavar="FILE", type=arguments.file_path, help="write the result to FILE")
    check.set_defaults(run=_check)


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected an integer of at least 0, got {text!r}")
    return int(text)


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, such as split=train, got {text!r}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.split(",")
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise argparse.ArgumentTypeError(f"expected sizes such as 100,100, got {text!r}")
    return tuple(map(int, sizes))


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _refused(error: LoaderPerfError) -> int:
    print(f"loaderperf: {error}", file=sys.stderr)  # always one line
    return USAGE


def _progress() -> ProgressLine:
    from pytest_loaderperf.report.progress import ProgressLine

    return ProgressLine(sys.stderr, shutil.get_terminal_size().columns)


def _make(options: argparse.Namespace) -> int:
    from pytest_loaderperf.data import make, workload
    from pytest_loaderperf.data.workloads.make import checked_target
    from pytest_loaderperf.report import made_line

    try:
        made = workload(options.workload, **_given(options, "samples", "seed"))
        checked_target(options.output, options.format, force=options.force)
    except LoaderPerfError as error:
        return _refused(error)
    progress = _progress()
    with progress:
        done = make(made, options.output, options.format, force=options.force, progress=progress.show)
    print(made_line(done))
    return GOOD


def _list(_: argparse.Namespace) -> int:
    from pytest_loaderperf.data.workloads.make import bundled, known_formats
    from pytest_loaderperf.report import format_lines, workload_lines

    print(*workload_lines(bundled()), "", *format_lines(known_formats()), sep="\n")
    return GOOD


def _check(options: argparse.Namespace) -> int:
    from pytest_loaderperf.data import check
    from pytest_loaderperf.report import check_lines
    from pytest_loaderperf.runs.results import write_result

    progress = _progress()
    try:
        if options.json is not None and (problem := arguments.not_a_file(options.json, "loaderperf-check")):
            raise LoaderPerfError(f"--json: {problem}")
        with progress:
            given = _given(options, "max_errors", "workers", "classes", "shape", "dtype")
            result = check(options.path, progress=progress.show, options=dict(options.option or []), **given)
    except LoaderPerfError as error:
        return _refused(error)
    print(*check_lines(result), sep="\n")
    if options.json is not None:
        write_result(result.document(), options.json)
        print(f"result written to {printable(options.json, MOST_OF_PATH)}")
    return GOOD if result.good else PROBLEMS
