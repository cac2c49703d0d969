# ruff: noqa: T201 a command prints
"""``loaderperf doctor``."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from typing import TYPE_CHECKING

from pytest_loaderperf.arguments import count, file_path, not_a_file, seconds, step
from pytest_loaderperf.cli.lines import print_lines
from pytest_loaderperf.defaults import DEFAULT_DIAGNOSIS_SECONDS
from pytest_loaderperf.errors import MOST_OF_PATH, LoaderPerfError, printable

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 argparse has no public name for it

GOOD, FOUND, USAGE = 0, 1, 2  # exit status
_PARTS = 4  # of the time: timing, counting, what fixes bring, and settings to try; --step adds one
_FEWEST_STEPS = 3  # in the time of its pass: to wait for a batch, there must have been one before


def add_doctor_command(commands: Commands) -> None:
    """Add the command ``doctor``."""
    doctor = commands.add_parser(
        "doctor",
        help="say why a loader is slow: the stage, the mistake, its file and line",
        description="Say why a loader is slow: the stage that takes the time, the mistake, its file and line, the fix.",
    )
    doctor.add_argument(
        "loader", metavar="MODULE:FACTORY", help="the function that makes the loader, such as mypkg.data:make_loader"
    )
    doctor.add_argument(
        "--epochs", metavar="N", type=count, default=3, help="at most, in each pass, default %(default)s"
    )
    doctor.add_argument(
        "--budget",
        metavar="SECONDS",
        type=seconds,
        default=DEFAULT_DIAGNOSIS_SECONDS,
        help="time to observe and to try changes, default %(default)s",
    )
    doctor.add_argument("--rules", metavar="LIST", help="only these rules, separated by commas")
    doctor.add_argument("--json", metavar="FILE", type=file_path, help="write the diagnosis to FILE")
    doctor.add_argument(
        "--step",
        metavar="TIME",
        type=step,
        default=0.0,
        help="a training step such as 10ms: what would it wait for data?",
    )
    doctor.add_argument(
        "--trace",
        metavar="FILE",
        type=file_path,
        help="write what every thread did when, for ui.perfetto.dev or chrome://tracing",
    )
    doctor.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    """Its exit status. What cannot be observed is status 2 as well: 1 says that mistakes were found."""
    try:
        return _diagnosed(options)
    except LoaderPerfError as error:
        shown = str(error).replace("\n", "\n  ")
        print(f"loaderperf: {shown}", file=sys.stderr)
        return USAGE


def _diagnosed(options: argparse.Namespace) -> int:
    import psutil

    from pytest_loaderperf.diagnosis import RULES, diagnose
    from pytest_loaderperf.remote.naming import resolve
    from pytest_loaderperf.report import write_json
    from pytest_loaderperf.report.doctor import doctor_lines
    from pytest_loaderperf.report.progress import ProgressLine
    from pytest_loaderperf.report.trace import cut_seconds, write_trace

    known = [rule.id for rule in RULES]
    chosen = known if options.rules is None else [name.strip() for name in options.rules.split(",")]
    if unknown := [name for name in chosen if name not in known]:
        print(
            f"loaderperf: expected rules among {', '.join(known)}, got {printable(', '.join(unknown))}.",
            file=sys.stderr,
        )
        return USAGE
    for option, file in (("--json", options.json), ("--trace", options.trace)):
        kind = "loaderperf-diagnosis" if option == "--json" else "loaderperf-trace"
        if file is not None and (problem := not_a_file(file, kind)):
            raise LoaderPerfError(f"{option}: {problem}")
    if options.trace is not None and options.trace == options.json:
        raise LoaderPerfError("--trace: expected another file than that of --json, got the same.")
    part_seconds = options.budget / (_PARTS + bool(options.step))
    if options.step * _FEWEST_STEPS > part_seconds:
        raise LoaderPerfError(
            f"--step: expected at most {part_seconds / _FEWEST_STEPS:.3g} s, got {options.step:g} s. "
            "Give a shorter step, or more time with --budget."
        )
    width = shutil.get_terminal_size().columns
    progress = ProgressLine(sys.stderr, width)
    native_threads = psutil.Process().num_threads()
    try:
        source = resolve(options.loader)
    except SystemExit as error:  # of the module, at its import
        raise LoaderPerfError(
            f"{options.loader} ended Python when it was imported, with status {error.code}."
        ) from error
    # Threads that torch has started do not exist in a forked process, where an operation would wait for them for ever.
    threads = 1 if psutil.Process().num_threads() > native_threads else None
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a module may have changed it
    with progress:
        diagnosis = diagnose(
            source,
            name=options.loader,
            seconds=part_seconds,
            epochs=options.epochs,
            threads=threads,
            tries=True,
            advises=True,
            silent=[name for name in known if name not in chosen],
            progress=progress.show,
            step_seconds=options.step,
            traced=options.trace is not None,
        )
    print_lines(doctor_lines(diagnosis, width))
    if options.json is not None:
        write_json(diagnosis.to_json(), options.json)
        print(f"diagnosis written to {printable(options.json, MOST_OF_PATH)}")
    if options.trace is not None:
        write_trace(diagnosis, options.trace)
        cut = cut_seconds(diagnosis.ledger.timeline)
        part = f" (its first {cut:.1f} s: more spans than fit)" if cut else ""
        print(f"trace written to {printable(options.trace, MOST_OF_PATH)}{part}: open it in ui.perfetto.dev")
    return FOUND if diagnosis else GOOD
