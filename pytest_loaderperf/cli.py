"""The ``loaderperf`` command."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_loaderperf import settings
from pytest_loaderperf.errors import LoaderPerfError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 where it did its work, 1 where the loader cannot be found or measured, 2 for bad usage."""
    parser = argparse.ArgumentParser(prog="loaderperf", description="Measure PyTorch-style data loaders.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    bench = commands.add_parser("bench", help="the numbers of a loader, as a table")
    bench.add_argument("loader", metavar="MODULE:FACTORY", help="such as mypkg.data:make_loader")
    bench.add_argument("--against", metavar="MODULE:FACTORY", help="another loader to measure beside it")
    bench.add_argument("--budget", metavar="SECONDS", type=settings.seconds, default=5.0, help="default 5")
    bench.add_argument("--device", metavar="cpu|cuda|auto", type=settings.device, default="cpu", help="default cpu")
    bench.add_argument("--json", metavar="FILE", type=Path, help="write the result to FILE")
    bench.set_defaults(run=_bench)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except LoaderPerfError as error:
        print(f"loaderperf: {error}", file=sys.stderr)
        return 1


def resolve(spec: str) -> object:
    """The object that ``package.module:name`` names, with the current folder importable. Raises LoaderPerfError."""
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise LoaderPerfError(f"expected MODULE:FACTORY such as mypkg.data:make_loader, but {spec!r} came.")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise LoaderPerfError(
            f"cannot import {module_name!r}: {error}. Run this where that module can be found."
        ) from error
    found: object = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise LoaderPerfError(
                f"{module_name!r} has no {name!r}. Give the name of the function that makes the loader."
            )
        found = getattr(found, part)
    return found


def _bench(options: argparse.Namespace) -> int:
    import shutil

    from pytest_loaderperf.measurement import machine_facts
    from pytest_loaderperf.options import DEFAULT_ALPHA, Options
    from pytest_loaderperf.progress import Progress
    from pytest_loaderperf.report import result_document, table_lines, write_json
    from pytest_loaderperf.results import document_of, head_commit
    from pytest_loaderperf.run import Run

    if options.json is not None and (problem := settings.not_a_file(options.json)):
        raise LoaderPerfError(f"--json: {problem}")
    width = shutil.get_terminal_size().columns
    progress = Progress(sys.stderr, width)
    against = None if options.against is None else resolve(options.against)
    bench_options = Options(budget_seconds=options.budget, device=options.device, progress=progress.show)
    with progress, Run(resolve(options.loader), against, options=bench_options, name=options.loader) as run:
        run.look_until(options.budget)
        document = document_of(run)
    for line in table_lines([document], width):
        print(line.text)
    if options.json is not None:
        result = result_document(
            machine=machine_facts(),
            commit=head_commit(),
            base_commit=None,
            alpha=DEFAULT_ALPHA,
            runs=[document],
            partial=False,
        )
        try:
            write_json(result, options.json)
        except OSError as error:
            raise LoaderPerfError(f"cannot write {options.json}: {error}") from error
        print(f"result written to {options.json}")
    return 0
