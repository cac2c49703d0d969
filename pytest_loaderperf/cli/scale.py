# ruff: noqa: T201 a command prints
"""``loaderperf scale``: what a training job of many ranks would do with a loader that was measured."""

from __future__ import annotations

import argparse
import shutil
from typing import TYPE_CHECKING

from pytest_loaderperf.arguments import file_path, not_a_file, not_a_page, not_a_place, page, picture, step
from pytest_loaderperf.cli.lines import print_lines
from pytest_loaderperf.errors import MOST_OF_PATH, LoaderPerfError, printable

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 argparse has no public name for it

_RANKS = (8, 64, 512, 4096)
_MOST_RANKS, _MOST_AHEAD = 65_536, 1_024  # of larger ones, memory and time would have no limit
_DEEPER = (2, 4)  # times the loader's own prefetch; batches, if it has none


def add_scale_command(commands: Commands) -> None:
    """Add the command ``scale``."""
    scale = commands.add_parser(
        "scale",
        help="simulate a job of many ranks, from measured batch latencies",
        description="Simulate a training job of many ranks, each with a loader like the one that was measured.",
    )
    add = scale.add_argument
    add("result", metavar="RESULT.json", type=file_path, help="a file of --loaderperf-json or bench --json")
    add(
        "--step", metavar="TIME", type=step, required=True, help="time of a training step without waiting: 250ms, 0.25s"
    )
    add(
        "--ranks",
        metavar="N,...",
        type=_ranks,
        default=_RANKS,
        help=f"how many ranks train together, default {','.join(map(str, _RANKS))}",
    )
    add(
        "--prefetch",
        metavar="N,...",
        type=_prefetches,
        help="how many batches each rank's loader makes ahead, default: as it did, and twice and 4 times as many",
    )
    add("--test", metavar="TEXT", default="", help="the test with this text in its name, if there are several")
    add("--loader", metavar="NAME", default="", help="one of the test's loaders, default: the one that it is about")
    add("--html", metavar="FILE", type=page, help="write a page to FILE")
    add("--png", metavar="FILE", type=picture, help="write a picture to FILE, a PNG, SVG or PDF by its ending")
    add("--json", metavar="FILE", type=file_path, help="write the numbers to FILE")
    scale.set_defaults(run=_scale)


def _ranks(text: str) -> tuple[int, ...]:
    return _numbers(text, "ranks", 1, _MOST_RANKS, "8,64,512")


def _prefetches(text: str) -> tuple[int, ...]:
    return _numbers(text, "batches", 0, _MOST_AHEAD, "2,8")


def _numbers(text: str, what: str, least: int, most: int, example: str) -> tuple[int, ...]:
    """Different numbers, in order."""
    parts = [part.strip() for part in text.split(",")]
    if not all(
        part.isascii() and part.isdecimal() and least <= int(part[: len(str(most)) + 1]) <= most for part in parts
    ):
        raise argparse.ArgumentTypeError(
            f"expected numbers of {what} from {least} to {most:,} such as {example}, got {text!r}"
        )
    return tuple(sorted(set(map(int, parts))))


def _scale(options: argparse.Namespace) -> int:
    from pytest_loaderperf.report import read_json, write_json
    from pytest_loaderperf.report.scale import scale_document, scale_lines
    from pytest_loaderperf.scale import forecast, recorded_in

    _check(options)
    document = read_json(options.result)
    recorded = recorded_in(document, options.test, options.loader)
    found = forecast(recorded, options.ranks, options.prefetch or _depths(recorded.prefetch), options.step)
    print_lines(scale_lines(recorded, found, shutil.get_terminal_size().columns))
    if options.html is not None:
        from pytest_loaderperf.report.scale_pictures import write_scale_page

        write_scale_page(recorded, found, options.html)
    if options.png is not None:
        from pytest_loaderperf.report.scale_pictures import draw_scale

        draw_scale(found, options.png)
    if options.json is not None:
        try:
            write_json(scale_document(recorded, found), options.json)
        except OSError as error:
            raise LoaderPerfError(f"cannot write {options.json}: {error}") from error
    for file in filter(None, (options.html, options.png, options.json)):
        print(f"written to {printable(file, MOST_OF_PATH)}")
    return 0


def _depths(own: int) -> tuple[int, ...]:
    """The loader's own prefetch and deeper ones."""
    deeper = (times * max(1, own) for times in _DEEPER)
    return own, *(depth for depth in deeper if depth <= _MOST_AHEAD)


def _check(options: argparse.Namespace) -> None:
    """Refuse files that cannot be written, or must not be replaced, before the simulation."""
    if options.json is not None and (problem := not_a_file(options.json, "loaderperf-scale")):
        raise LoaderPerfError(f"--json: {problem}")
    if options.html is not None and (problem := not_a_page(options.html)):
        raise LoaderPerfError(f"--html: {problem}")
    if options.png is not None and (problem := not_a_place(options.png)):
        raise LoaderPerfError(f"--png: {problem}")
