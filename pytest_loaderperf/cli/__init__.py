"""The ``loaderperf`` command."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from types import FrameType
from typing import Any

from pytest_loaderperf.arguments import device, file_path, not_a_file, seconds
from pytest_loaderperf.cli.calibrate import add_calibrate_command
from pytest_loaderperf.cli.compare import add_compare_command
from pytest_loaderperf.cli.data import add_data_commands
from pytest_loaderperf.cli.doctor import add_doctor_command
from pytest_loaderperf.cli.github import add_github_commands
from pytest_loaderperf.cli.history import add_history_command
from pytest_loaderperf.cli.lines import show_run
from pytest_loaderperf.cli.ray import add_ray_command
from pytest_loaderperf.cli.report import add_report_command
from pytest_loaderperf.cli.scale import add_scale_command
from pytest_loaderperf.defaults import DEFAULT_BENCH_SECONDS, DEFAULT_DEVICE, DEVICES
from pytest_loaderperf.errors import LoaderPerfError, refusal

INTERRUPTED, PIPE_CLOSED = 130, 141  # as in shells: 128 plus the signal


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Exit status: 0 on success, 1 if the loader cannot be found or measured (``data``: if problems
    are found), 2 for bad usage, 130 if it was interrupted.
    """
    try:
        return _command(arguments)
    except KeyboardInterrupt:  # also while torch is imported, which takes seconds
        print("loaderperf: interrupted", file=sys.stderr)
        return INTERRUPTED


def _command(arguments: Sequence[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="loaderperf", description="Measure PyTorch-style data loaders.")
    parser.add_argument("--version", action="version", version=version("pytest-loaderperf"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    bench = commands.add_parser("bench", help="measure a loader and print a table")
    bench.add_argument(
        "loader", metavar="MODULE:FACTORY", help="the function that makes the loader, such as mypkg.data:make_loader"
    )
    bench.add_argument("--against", metavar="MODULE:FACTORY", help="another loader to compare with")
    bench.add_argument(
        "--python", metavar="PYTHON", help="interpreter that runs --against's loader, in its own process"
    )
    for name, does in (("count", "returns its number of samples"), ("touch", "reads it, for lazy batches")):
        bench.add_argument(f"--{name}", metavar="MODULE:FUNCTION", help=f"function that takes a batch and {does}")
    add, shown = bench.add_argument, "default %(default)s"
    add("--budget", metavar="SECONDS", type=seconds, default=DEFAULT_BENCH_SECONDS, help=f"time to measure, {shown}")
    add(
        "--device",
        metavar="|".join(DEVICES),
        type=device,
        default=DEFAULT_DEVICE,
        help=f"where batches must arrive, {shown}",
    )
    bench.add_argument("--json", metavar="FILE", type=file_path, help="write the result to FILE")
    bench.set_defaults(run=_bench)
    add_doctor_command(commands)
    add_history_command(commands)
    add_calibrate_command(commands)
    add_data_commands(commands)
    add_report_command(commands)
    add_scale_command(commands)
    add_github_commands(commands)
    add_compare_command(commands)
    add_ray_command(commands)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # readable in every encoding
    options = parser.parse_args(arguments)
    try:
        with _interrupts_kept():
            status = int(options.run(options))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads the output has enough of it, as head does
        _abandon_output()
        return PIPE_CLOSED
    except (OSError, MemoryError) as error:
        print(f"loaderperf: {refusal(error)}", file=sys.stderr)
        _abandon_output()
        return 1
    except LoaderPerfError as error:
        shown = str(error).replace("\n", "\n  ")  # a name with a line end cannot imitate a line of ours
        print(f"loaderperf: {shown}", file=sys.stderr)
        return 1
    return status


@contextmanager
def _interrupts_kept() -> Iterator[None]:
    """Raise KeyboardInterrupt for an interrupt even if a library, while it is imported, turns it into another error."""
    heard: list[int] = []

    def interrupted(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        signal.default_int_handler(number, frame)

    watches = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    watches = watches and threading.current_thread() is threading.main_thread()
    if watches:
        signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    except Exception as error:
        if heard and not isinstance(error, LoaderPerfError):  # the watchdog interrupts as well, and says so
            raise KeyboardInterrupt from None
        raise
    finally:
        if watches and signal.getsignal(signal.SIGINT) is interrupted:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _abandon_output() -> None:
    """Discard what standard output has refused; Python would try to write it again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _bench(options: argparse.Namespace) -> int:
    import shutil

    from pytest_loaderperf.measurement import Reading, machine_facts
    from pytest_loaderperf.remote.interpreter import OtherInterpreter
    from pytest_loaderperf.remote.naming import resolve
    from pytest_loaderperf.report.progress import ProgressLine
    from pytest_loaderperf.runs.options import Options
    from pytest_loaderperf.runs.results import document_of
    from pytest_loaderperf.runs.run import Run

    if options.json is not None and (problem := not_a_file(options.json)):
        raise LoaderPerfError(f"--json: {problem}")
    if options.python is not None and options.against is None:
        raise LoaderPerfError("--python runs the loader of --against: give --against MODULE:FACTORY as well.")
    width = shutil.get_terminal_size().columns
    progress = ProgressLine(sys.stderr, width)
    bench_options = Options(budget_seconds=options.budget, device=options.device, progress=progress.show)
    reading = Reading(_function(options.count, "--count"), _function(options.touch, "--touch"))
    against = options.against
    if options.python is not None:
        against = OtherInterpreter(against, options.python, reading=reading, **bench_options.there)
    elif against is not None:
        against = resolve(against)
    loader = resolve(options.loader)
    with progress, Run(loader, against, options=bench_options, reading=reading, name=options.loader) as run:
        run.look_until(options.budget)
        document = document_of(run)
    show_run(document, machine_facts(), options.json)
    return 0


def _function(spec: str | None, option: str) -> Any:
    """The function of batches that ``option`` names; None without the option."""
    from pytest_loaderperf.remote.naming import resolve

    if spec is None:
        return None
    function = resolve(spec, "FUNCTION", f"a function of a batch, for {option}")
    if not callable(function):
        raise LoaderPerfError(
            f"{option} {spec}: expected a function that takes a batch, got {type(function).__name__}."
        )
    return function
