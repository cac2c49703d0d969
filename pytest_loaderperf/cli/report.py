"""``loaderperf report``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_loaderperf.arguments import not_a_place
from pytest_loaderperf.errors import MOST_OF_PATH, LoaderPerfError, printable

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 argparse has no public name for it

Document = dict[str, Any]
Format = Callable[[Sequence[Document]], str]
"""The text of a file, from one or several results. It may raise LoaderPerfError."""


def _interchange(module: str, function: str) -> Format:
    """A function of the package ``report.interchange``, which is imported when it is called."""

    def text(documents: Sequence[Document]) -> str:
        from importlib import import_module

        found = import_module(f"pytest_loaderperf.report.interchange.{module}")
        return str(getattr(found, function)(documents))

    return text


FORMATS: dict[str, Format] = {
    "csv": _interchange("csv_table", "csv_text"),
    "github-bigger": _interchange("github_benchmark", "github_bigger"),
    "github-smaller": _interchange("github_benchmark", "github_smaller"),
    "junit": _interchange("junit", "junit_xml"),
    "pytest-benchmark": _interchange("pytest_benchmark", "pytest_benchmark_json"),
}


def add_report_command(commands: Commands) -> None:
    """Add the command ``report``."""
    report = commands.add_parser("report", help="write results in a format for other tools", description=__doc__)
    report.add_argument("results", metavar="RESULT.json", nargs="+", type=Path, help="file of --loaderperf-json")
    report.add_argument("--format", required=True, choices=sorted(FORMATS), help="what to write")
    report.add_argument("-o", "--output", metavar="FILE", type=Path, help="where to; default: standard output")
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from pytest_loaderperf.report import read_json, whole_or_absent
    from pytest_loaderperf.report.reading import as_written

    if options.output is not None and (problem := not_a_place(options.output)):
        raise LoaderPerfError(f"-o: {problem}")
    documents = [read_json(result) for result in options.results]
    with as_written():
        text = FORMATS[options.format](documents)
    if options.output is None:
        sys.stdout.write(text)
        return 0
    with whole_or_absent(options.output) as scratch:
        scratch.write_bytes(text.encode("utf-8"))  # as bytes: CSV has its own line ends
    print(f"report written to {printable(options.output, MOST_OF_PATH)}")  # noqa: T201 a command prints
    return 0
