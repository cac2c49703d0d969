"""The ``loaderperf`` command."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    calibrate = commands.add_parser("calibrate", help="this machine's false-alarm rate and power, as a table")
    calibrate.add_argument("--claims", metavar="N", type=_count, default=50, help="claims of each kind (default 50)")
    calibrate.add_argument("--noise", action="store_true", help="beside two processes that burn a core by turns")
    calibrate.add_argument("--alpha", metavar="P", type=settings.probability, default=0.001, help="default 0.001")
    calibrate.add_argument("--budget", metavar="SECONDS", type=settings.seconds, default=10.0, help="default 10")
    calibrate.add_argument("--json", metavar="FILE", type=Path, help="write the result to FILE")
    calibrate.add_argument("--plot", metavar="FILE", type=Path, help="draw the operating curve, as PNG or SVG")
    calibrate.set_defaults(run=_calibrate)
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except LoaderPerfError as error:
        print(f"loaderperf: {error}", file=sys.stderr)
        return 1


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 up, but {text!r} came")
    return int(text)


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
    from pytest_loaderperf.report import disturbance_lines, result_document, table_lines
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
    for line in [*table_lines([document], width), *disturbance_lines([document])]:
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
        _written(result, options.json)
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    import shutil

    from pytest_loaderperf.calibration import EFFECTS, THRESHOLD, calibrate
    from pytest_loaderperf.measurement import machine_facts
    from pytest_loaderperf.progress import Progress
    from pytest_loaderperf.report import calibration_document, calibration_lines, draw_operating_curve

    if options.json is not None and (problem := settings.not_a_file(options.json)):
        raise LoaderPerfError(f"--json: {problem}")
    progress = Progress(sys.stderr, shutil.get_terminal_size().columns)
    with progress:
        rows = calibrate(
            options.claims,
            EFFECTS,
            alpha=options.alpha,
            budget_seconds=options.budget,
            noise=options.noise,
            progress=progress.show,
        )
    print(f"claim: throughput >= {THRESHOLD} x against.throughput, alpha {options.alpha}, budget {options.budget:g} s")
    print(*calibration_lines(rows), sep="\n")
    if options.plot is not None:
        draw_operating_curve(rows, options.plot)
        print(f"operating curve drawn to {options.plot}")
    if options.json is not None:
        document = calibration_document(
            rows,
            machine=machine_facts(),
            alpha=options.alpha,
            budget_seconds=options.budget,
            threshold=THRESHOLD,
            noise=options.noise,
        )
        _written(document, options.json)
    return 0


def _written(document: dict[str, Any], file: Path) -> None:
    from pytest_loaderperf.report import write_json

    try:
        write_json(document, file)
    except OSError as error:
        raise LoaderPerfError(f"cannot write {file}: {error}") from error
    print(f"result written to {file}")
