"""``loaderperf ray``: measure a loader on many workers of a Ray cluster at once, as one job."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_loaderperf.arguments import count, device, file_path, not_a_file, positive, seconds
from pytest_loaderperf.cli.lines import show_run
from pytest_loaderperf.defaults import DEFAULT_BENCH_SECONDS, DEFAULT_DEVICE, DEVICES
from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.remote.naming import name_parts

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 argparse has no public name for it

_PLACEMENTS = ("pack", "spread", "strict-spread")


def add_ray_command(commands: Commands) -> None:
    """Add the command ``ray``."""
    ray = commands.add_parser("ray", help="measure a loader on many workers of a Ray cluster", description=__doc__)
    add, shown = ray.add_argument, "default %(default)s"
    add(
        "loader",
        metavar="MODULE:FACTORY",
        help="the function that makes a worker's loader; it may take rank and world_size",
    )
    add("--workers", metavar="N", type=count, required=True, help="workers, each of which is a rank of the job")
    add(
        "--address",
        metavar="ADDRESS",
        help="of the cluster, such as auto; default: RAY_ADDRESS, or a new one on this machine",
    )
    add("--cpus", metavar="N", type=positive, default=1.0, help=f"CPUs of a worker, also a part of one, {shown}")
    add("--placement", choices=_PLACEMENTS, default=_PLACEMENTS[0], help=f"on few nodes, or on many, {shown}")
    add("--against", metavar="MODULE:FACTORY", help="another loader to compare with")
    for name, does in (("count", "returns its number of samples"), ("touch", "reads it, for lazy batches")):
        add(f"--{name}", metavar="MODULE:FUNCTION", help=f"function that takes a batch and {does}")
    add("--budget", metavar="SECONDS", type=seconds, default=DEFAULT_BENCH_SECONDS, help=f"time to measure, {shown}")
    where = f"where batches must arrive, {shown}"
    add("--device", metavar="|".join(DEVICES), type=device, default=DEFAULT_DEVICE, help=where)
    add("--json", metavar="FILE", type=file_path, help="write the result to FILE")
    ray.set_defaults(run=_ray)


def _ray(options: argparse.Namespace) -> int:
    if options.json is not None and (problem := not_a_file(options.json)):
        raise LoaderPerfError(f"--json: {problem}")
    for spec in filter(None, (options.loader, options.against)):
        name_parts(spec)  # before a cluster starts
    for spec in filter(None, (options.count, options.touch)):
        name_parts(spec, "FUNCTION")
    try:
        import ray  # noqa: F401 what follows needs it
    except ImportError as error:
        raise LoaderPerfError(
            f"ray cannot be imported ({error}). Install it: pip install 'pytest-loaderperf[ray]'"
        ) from error
    from pytest_loaderperf.ray.job import measure_on_ray
    from pytest_loaderperf.ray.worker import Asked
    from pytest_loaderperf.report.progress import ProgressLine

    width = shutil.get_terminal_size().columns
    progress = ProgressLine(sys.stderr, width)
    asked = Asked(
        loader=options.loader,
        against=options.against,
        count=options.count,
        touch=options.touch,
        budget_seconds=options.budget,
        device=options.device,
        folder=str(Path.cwd()),
    )
    with progress:
        measured = measure_on_ray(
            asked,
            options.workers,
            cpus=options.cpus,
            placement=options.placement,
            address=options.address,
            progress=progress.show,
        )
    show_run(measured.document, measured.machine, options.json)
    return 0
