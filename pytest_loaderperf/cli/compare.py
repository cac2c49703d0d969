"""``loaderperf compare``: two results side by side, or a dataset through every loader engine that is installed."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_loaderperf.arguments import count, file_path, not_a_file, seconds
from pytest_loaderperf.cli.lines import print_lines
from pytest_loaderperf.errors import MOST_OF_PATH, LoaderPerfError, printable

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 argparse has no public name for it

_PAIR = 2
_BATCH_SIZE = 32
_SECONDS = 60.0  # eight turns of a dozen engines: fewer give no interval
_OF_A_DATASET = ("batch_size", "workers", "budget", "engines", "collate")  # options


def add_compare_command(commands: Commands) -> None:
    """Add the command ``compare``."""
    compare = commands.add_parser(
        "compare",
        help="compare two results, or loaders of one dataset",
        description="Show two results side by side, or measure a dataset with every loader engine that is installed.",
    )
    add, shown = compare.add_argument, "(of a dataset)"
    add(
        "what",
        nargs="+",
        metavar="A.json B.json | MODULE:FACTORY",
        help="two files of --loaderperf-json, or the function that makes a dataset, such as mypkg.data:make_dataset",
    )
    add("--batch-size", metavar="N", type=count, help=f"samples of a batch {shown}, default {_BATCH_SIZE}")
    add("--workers", metavar="N", type=count, help=f"workers an engine may have {shown}, default: one a core")
    add("--budget", metavar="SECONDS", type=seconds, help=f"time to measure {shown}, default {_SECONDS:g}")
    add("--engines", metavar="LIST", help=f"only these engines {shown}, separated by commas, and torch's DataLoader")
    add("--collate", metavar="MODULE:FUNCTION", help=f"makes a batch of a list of samples {shown}")
    add("--json", metavar="FILE", type=file_path, help="write the comparison to FILE")
    compare.set_defaults(run=_compare)


def _compare(options: argparse.Namespace) -> int:
    if options.json is not None and (
        problem := not_a_file(options.json, "loaderperf-comparison", "loaderperf-engines")
    ):
        raise LoaderPerfError(f"--json: {problem}")
    what = options.what
    if len(what) == 1 and ":" in what[0] and not Path(what[0]).exists():
        return _compare_engines(options, what[0])
    if len(what) != _PAIR:
        raise LoaderPerfError(
            f"compare: expected two result files, or one dataset as MODULE:FACTORY, got {len(what)}: {' '.join(what)}"
        )
    if given := [name for name in _OF_A_DATASET if getattr(options, name) is not None]:
        name = given[0].replace("_", "-")
        raise LoaderPerfError(f"--{name} is for a dataset: expected MODULE:FACTORY, got two result files.")
    return _compare_results(options, *what)


def _compare_engines(options: argparse.Namespace, spec: str) -> int:
    from pytest_loaderperf.data.execution.cores import usable_cores
    from pytest_loaderperf.engines.comparing import Wanted, compare_engines
    from pytest_loaderperf.engines.loaders import ENGINES
    from pytest_loaderperf.report.engines import engine_lines
    from pytest_loaderperf.report.progress import ProgressLine

    wanted = Wanted(
        dataset=spec,
        engines=list(ENGINES) if options.engines is None else _chosen(options.engines),
        batch_size=options.batch_size or _BATCH_SIZE,
        workers=options.workers or usable_cores(),
        budget_seconds=options.budget or _SECONDS,
        collate=options.collate or "",
    )
    width = shutil.get_terminal_size().columns
    progress = ProgressLine(sys.stderr, width)
    with progress:
        compared = compare_engines(wanted, progress.show)
    print_lines(engine_lines(compared, width))
    _keep(compared, options.json)
    return 0


def _chosen(text: str) -> list[str]:
    """The engines that ``--engines`` names. Raises LoaderPerfError for one that is not known, or cannot run here."""
    from pytest_loaderperf.engines.loaders import ENGINES

    chosen = [name.strip() for name in text.split(",")]
    missing = {name: engine.missing for name, engine in ENGINES.items()}
    if not (bad := [name for name in chosen if missing.get(name, name)]):
        return chosen
    able = ", ".join(name for name, reason in missing.items() if not reason)
    got = ", ".join(f"{name} ({missing[name]})" if name in missing else repr(name) for name in bad)
    absent = [f"{name} ({reason})" for name, reason in missing.items() if ENGINES[name].package and reason]
    more = f" Others: {', '.join(absent)}." if absent and not set(bad) & set(missing) else ""
    raise LoaderPerfError(f"--engines: expected some of {able}, got {got}.{more}")


def _compare_results(options: argparse.Namespace, first: str, second: str) -> int:
    from pytest_loaderperf.report import read_json
    from pytest_loaderperf.report.comparison import comparison, comparison_lines

    a, b = read_json(Path(first)), read_json(Path(second))
    compared = comparison(a, b)
    print_lines(comparison_lines(compared, [first, second], shutil.get_terminal_size().columns))
    _keep(compared, options.json)
    return 0


def _keep(compared: dict[str, Any], file: Path | None) -> None:
    from pytest_loaderperf.report import write_json

    if file is not None:
        write_json(compared, file)
        print(f"comparison written to {printable(file, MOST_OF_PATH)}")  # noqa: T201 a command prints
