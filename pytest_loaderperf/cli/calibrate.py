# ruff: noqa: T201 a command prints
"""``loaderperf calibrate``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_loaderperf import arguments
from pytest_loaderperf.defaults import DEFAULT_ALPHA, DEFAULT_BUDGET_SECONDS, DEFAULT_CLAIMS
from pytest_loaderperf.errors import MOST_OF_PATH, LoaderPerfError, printable

if TYPE_CHECKING:
    from pytest_loaderperf.runs.calibration import Row
    from pytest_loaderperf.runs.known_work import Work

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 argparse has no public name for it


def add_calibrate_command(commands: Commands) -> None:
    """Add the command ``calibrate``."""
    calibrate = commands.add_parser("calibrate", help="measure how often verdicts are right on this machine")
    add, shown = calibrate.add_argument, "default %(default)s"
    add("--claims", metavar="N", type=arguments.count, default=DEFAULT_CLAIMS, help=f"claims of each kind, {shown}")
    add("--noise", action="store_true", help="with two other processes that alternately use a core")
    add("--base", action="store_true", help="compare with a loader in another process")
    makers = calibrate.add_mutually_exclusive_group()
    makers.add_argument("--workers", metavar="N", type=_whole, default=0, help="DataLoaders with N workers (default 0)")
    makers.add_argument(
        "--threads", metavar="N", type=_whole, default=0, help="loaders of N threads and a queue (default 0)"
    )
    add(
        "--batch-ms",
        metavar="MS",
        type=_milliseconds,
        help="work of a batch of the other side (default 0.12; with workers or threads 3, at least 1)",
    )
    add("--bursts", action="store_true", help="every 50th batch takes as long as 25")
    add(
        "--handover",
        action="store_true",
        help="also claims on equal work whose batches take twice as long to receive; needs --workers",
    )
    add(
        "--effects",
        metavar="LIST",
        type=_effects,
        help="slowdowns in percent beyond the threshold, 0: same work (0,1,2,3,5,7,10)",
    )
    add(
        "--alpha",
        metavar="P",
        type=arguments.probability,
        default=DEFAULT_ALPHA,
        help=f"false-alarm share of each claim, {shown}",
    )
    add(
        "--budget",
        metavar="SECONDS",
        type=arguments.seconds,
        default=DEFAULT_BUDGET_SECONDS,
        help=f"time for each claim, {shown}",
    )
    add(
        "--seconds",
        metavar="LIST",
        type=_seconds,
        default=[1.0, 5.0, 10.0],
        help="also count FAIL within these times (1,5,10)",
    )
    add("--json", metavar="FILE", type=arguments.file_path, help="write the result to FILE")
    add("--plot", metavar="FILE", type=_picture, help="draw the operating curve, as PNG or SVG")
    add(
        "--beside",
        metavar="FILE.json",
        type=arguments.file_path,
        action="append",
        default=[],
        help="draw that earlier result's curve, too; may be given again",
    )
    calibrate.set_defaults(run=_calibrate)


def _picture(text: str) -> Path:
    file = Path(text)
    if file.suffix not in (".png", ".svg", ".pdf"):
        raise argparse.ArgumentTypeError(f"expected a name that ends in .png, .svg or .pdf, got {text!r}")
    return file


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected an integer of at least 0, got {text!r}")
    return int(text)


def _milliseconds(text: str) -> float:
    try:
        return arguments.seconds(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"expected a positive number of ms such as 3, got {text!r}") from None


def _effects(text: str) -> list[float]:
    try:
        effects = [float(percent) / 100 for percent in text.split(",")]
    except ValueError:
        effects = []
    if not effects or not all(0 <= effect < float("inf") for effect in effects):
        raise argparse.ArgumentTypeError(f"expected percents of at least 0, such as 0,2,5, got {text!r}")
    return list(dict.fromkeys(effects))


def _seconds(text: str) -> list[float]:
    try:
        return sorted({arguments.seconds(part) for part in text.split(",")})
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"expected positive seconds such as 1,5,10, got {text!r}") from None


def _calibrate(options: argparse.Namespace) -> int:
    from pytest_loaderperf.measurement import machine_facts
    from pytest_loaderperf.report import calibration_document, calibration_lines, draw_operating_curve, loader_words
    from pytest_loaderperf.report.progress import ProgressLine
    from pytest_loaderperf.runs.calibration import EFFECTS, THRESHOLD, calibrate
    from pytest_loaderperf.runs.results import write_result

    effects = options.effects or EFFECTS
    if options.json is not None and (problem := arguments.not_a_file(options.json, "loaderperf-calibration")):
        raise LoaderPerfError(f"--json: {problem}")
    if options.plot is not None and (problem := arguments.not_a_place(options.plot)):
        raise LoaderPerfError(f"--plot: {problem}")
    if options.beside and options.plot is None:
        raise LoaderPerfError("--beside draws an earlier result's curve: give --plot FILE as well.")
    batch_ms = _batch_ms(options)
    earlier = [_earlier(file) for file in options.beside]
    progress = ProgressLine(sys.stderr, shutil.get_terminal_size().columns)
    with progress:
        rows = calibrate(
            options.claims,
            effects,
            work=_work(options, batch_ms),
            alpha=options.alpha,
            budget_seconds=options.budget,
            noise=options.noise,
            base=options.base,
            handover=options.handover,
            progress=progress.show,
        )
    done, wanted = sum(len(row.outcomes) for row in rows), options.claims * (len(effects) + options.handover)
    document = calibration_document(
        rows,
        machine=machine_facts(),
        alpha=options.alpha,
        budget_seconds=options.budget,
        threshold=THRESHOLD,
        noise=options.noise,
        base=options.base,
        workers=options.workers,
        threads=options.threads,
        batch_ms=batch_ms,
        bursts=options.bursts,
        partial=done < wanted,
    )
    other, name = "base" if options.base else "against", loader_words(document)
    print(f"claim: throughput >= {THRESHOLD} x {other}.throughput, alpha {options.alpha}, budget {options.budget:g} s")
    print(f"loaders: {name}")
    print(*calibration_lines(rows, options.seconds), sep="\n")
    if options.json is not None:
        write_result(document, options.json)
        print(f"result written to {printable(options.json, MOST_OF_PATH)}")
    if options.plot is not None:
        draw_operating_curve([*earlier, (name, rows)], options.plot, options.seconds)
        print(f"operating curve drawn to {printable(options.plot, MOST_OF_PATH)}")
    if done < wanted:
        print(f"loaderperf: {done} of {wanted} claims were measured", file=sys.stderr)
        raise KeyboardInterrupt
    return 0


def _batch_ms(options: argparse.Namespace) -> float:
    from pytest_loaderperf.runs.calibration import ASIDE_BATCH_MS, BATCH_MS, LEAST_ASIDE_BATCH_MS

    aside = options.workers or options.threads
    if options.handover and not options.workers:
        raise LoaderPerfError("--handover is about batches that workers hand over: give --workers N as well.")
    if options.batch_ms is None:
        return ASIDE_BATCH_MS if aside else BATCH_MS
    if aside and options.batch_ms < LEAST_ASIDE_BATCH_MS:
        raise LoaderPerfError(
            f"--batch-ms: expected at least {LEAST_ASIDE_BATCH_MS:g} with workers or threads, got {options.batch_ms:g}"
            ": handing over such a short batch takes as long as making it, so the true ratio is not known."
        )
    return float(options.batch_ms)


def _work(options: argparse.Namespace, batch_ms: float) -> Work:
    from pytest_loaderperf.runs.known_work import Work

    return Work(1, options.workers, options.threads, bursts=options.bursts).lasting(batch_ms)


def _earlier(file: Path) -> tuple[str, Sequence[Row]]:
    """The description of an earlier result, and its rows."""
    from pytest_loaderperf.report import CALIBRATION_SCHEMA, loader_words
    from pytest_loaderperf.runs.calibration import Row

    expected = f"Expected a result that `loaderperf calibrate --json` wrote ({CALIBRATION_SCHEMA})"
    try:
        document = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise LoaderPerfError(f"--beside: cannot read {file}: {error}. {expected}.") from None
    schema: Any = document.get("schema") if isinstance(document, Mapping) else type(document).__name__
    if schema != CALIBRATION_SCHEMA:
        raise LoaderPerfError(f"--beside: {file}: {expected}, got {schema!r}.")
    return loader_words(document), [Row(**row) for row in document["rows"]]
