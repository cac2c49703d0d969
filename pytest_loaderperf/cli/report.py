# ruff: noqa: T201 a command prints
"""``loaderperf report``: result files in the formats of other programs, and as a page to look at."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_loaderperf.arguments import file_path, is_result, not_a_page, not_a_place
from pytest_loaderperf.errors import MOST_OF_PATH, LoaderPerfError, printable

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 argparse has no public name for it

Document = dict[str, Any]


def _html(documents: Sequence[Document]) -> str:
    from pytest_loaderperf.report.page import page

    return page(documents)


def _markdown(documents: Sequence[Document]) -> str:
    from pytest_loaderperf.report.markdown import markdown

    return markdown(documents)


def _interchange(module: str, function: str) -> Callable[[Sequence[Document]], str]:
    """A function of the package ``report.interchange``, which is imported when it is called."""

    def text(documents: Sequence[Document]) -> str:
        from importlib import import_module

        found = import_module(f"pytest_loaderperf.report.interchange.{module}")
        return str(getattr(found, function)(documents))

    return text


FORMATS: dict[str, Callable[[Sequence[Document]], str]] = {
    "html": _html,
    "markdown": _markdown,
    "csv": _interchange("csv_table", "csv_text"),
    "github-bigger": _interchange("github_benchmark", "github_bigger"),
    "github-smaller": _interchange("github_benchmark", "github_smaller"),
    "junit": _interchange("junit", "junit_xml"),
    "pytest-benchmark": _interchange("pytest_benchmark", "pytest_benchmark_json"),
}
"""The text of results, by the name of its format. A document's ``file`` is the path that it was read from."""
SUFFIXES = {
    ".html": "html",
    ".htm": "html",
    ".md": "markdown",
    ".csv": "csv",
    ".xml": "junit",
}  # which a file's name may say instead
_ASV, _DEFAULT = "asv", "html"  # asv's results are a folder, to which each result is added


def add_report_command(commands: Commands) -> None:
    """Add the command ``report``."""
    report = commands.add_parser(
        "report",
        help="show results as a page, or in the format of another program",
        description="Write results as a page to look at, or in the format of another program.",
    )
    report.add_argument(
        "results", metavar="RESULT.json", type=file_path, nargs="+", help="a file of --loaderperf-json or bench --json"
    )
    report.add_argument(
        "-o", "--output", metavar="FILE", type=file_path, help="write to FILE, default: standard output"
    )
    report.add_argument(
        "--format",
        metavar="FORMAT",
        choices=[*FORMATS, _ASV],
        help=f"{', '.join(FORMATS)} or {_ASV}; default: as FILE's name says, else {_DEFAULT}",
    )
    report.set_defaults(run=_report)


def _report(options: argparse.Namespace) -> int:
    from pytest_loaderperf.report import read_json

    name = options.format or _DEFAULT
    if name == _ASV:
        return _add_to_asv(options)
    if options.output is not None:
        name = options.format or SUFFIXES.get(options.output.suffix.lower(), _DEFAULT)
        _check_output(options.output, name)
    documents = [read_json(path) | {"file": str(path)} for path in options.results]
    text = FORMATS[name](documents)
    if options.output is None:
        print(text, end="" if text.endswith("\n") else "\n")
        return 0
    _write(text, options.output)
    print(f"report written to {printable(options.output, MOST_OF_PATH)}")
    return 0


def _add_to_asv(options: argparse.Namespace) -> int:
    from pytest_loaderperf.history.asv import differences, write_asv
    from pytest_loaderperf.report import read_json

    if options.output is None:
        raise LoaderPerfError("--format asv: expected -o DIR, the results directory of asv, such as .asv/results.")
    for path in options.results:
        document, here = read_json(path), Path.cwd()
        if differing := differences(document.get("commit"), options.output, here):
            raise LoaderPerfError(
                f"{path}: {differing}, so nobody knows whether this is the commit's result. Nothing was written. "
                "Put the changes aside (git stash), and write again."
            )
        print(write_asv(document, options.output, root=here))
    return 0


def _check_output(path: Path, name: str) -> None:
    """Refuse a place that cannot be written, a result, and for a page what is no page of ours, such as a test."""
    if problem := not_a_place(path):
        raise LoaderPerfError(f"-o: {problem}")
    if path.exists() and is_result(path):
        shown = printable(path, MOST_OF_PATH)
        raise LoaderPerfError(f"-o: {shown} is a result, which a report does not replace. Give another path.")
    if name == _DEFAULT and (problem := not_a_page(path)):
        raise LoaderPerfError(f"-o: {problem}")


def _write(text: str, path: Path) -> None:
    from pytest_loaderperf.report import write_text

    try:
        write_text(text, path)
    except OSError as error:
        raise LoaderPerfError(f"cannot write {path}: {error}") from error
