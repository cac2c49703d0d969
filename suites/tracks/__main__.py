"""``python -m suites.tracks``: every format and cache on the three tracks; exit status 1 if an aim is missed."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from math import prod
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from pytest_loaderperf.data.formats import FORMATS
from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader
from pytest_loaderperf.measurement import resolve_device
from pytest_loaderperf.measurement.machine import machine_facts
from pytest_loaderperf.report import write_json
from suites.tracks import compare, inputs, memory, report, tracks
from suites.tracks.images import MADE, Images, image_sets
from suites.tracks.report import BEFORE, Row

CACHES = ("whole", "chunked", inputs.BACKGROUND, "mapped", "compressed", "lru", "lazy")
REAL_CACHES = ("whole", "mapped")  # for real images; the synthetic ones show the others
COMPARED_CACHES = ("whole", "chunked")  # views of what a library read, and copies into memory of one kind
ROUNDS = 3
ACCESSES = 300  # of a sample, a round, in at most TRIAL_NS
TRIAL_NS = 50_000_000
STEPS, LOOP_NS = 40, 200_000_000

Found = Mapping[tuple[str, str], inputs.Made | str]  # by images and format


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m suites.tracks", description=__doc__)
    parser.add_argument("--samples", type=int, default=1000, help="made images, and photographs' tiles (%(default)s)")
    parser.add_argument("--images", nargs="+", help="which sets of images (default: all that there are)")
    parser.add_argument("--microscopy", type=Path, default=Path("../shared/data/microscopy"), help="a folder of TIFFs")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of every format and cache (default: %(default)s)")
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--caches", nargs="+", choices=[BEFORE, *CACHES], default=[BEFORE, *CACHES])
    parser.add_argument(
        "--memory", type=int, default=4096, metavar="MIB", help="of rows under a budget (%(default)s; 0: none)"
    )
    parser.add_argument("--device", choices=["cpu", "cuda", "auto"], default="auto", help="of the model")
    parser.add_argument("--folder", type=Path, default=Path(".loaderperf/tracks"), help="where the data are kept")
    parser.add_argument("--json", type=Path, default=Path(".loaderperf/tracks.json"))
    parser.add_argument("--plot", type=Path, help="draw the tracks into this PNG or SVG file")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 a command prints


def _chosen(options: argparse.Namespace) -> dict[str, Images]:
    sets = image_sets(options.samples, options.microscopy)
    unknown = set(options.images or ()) - set(sets)
    if unknown:
        raise DataError(f"no images called {', '.join(sorted(unknown))}. There are: {', '.join(sets)}.")
    return {name: images for name, images in sets.items() if name in (options.images or sets)}


def _row(images: str, kind: str, cache: str, found: inputs.Made | str) -> Row:
    if isinstance(found, str):
        return Row(images, kind, cache, found)
    return Row(images, kind, cache, None, found.nbytes, found.write_s)


def _measure(row: Row, made: inputs.Made, training: tracks.Training, turn: int) -> None:
    """One round of one row."""
    with ExitStack() as opened:
        if row.cache == BEFORE:
            dataset = made.before(opened)
            loader: Iterable[Any] = DataLoader(dataset, batch_size=tracks.BATCH_SIZE, shuffle=True)
        else:
            dataset = made.after(opened, row.cache)
            loader = opened.enter_context(ReferenceLoader(dataset, batch_size=tracks.BATCH_SIZE, shuffle=True))
        row.sample_ns.append(tracks.sample_ns(dataset, ACCESSES, TRIAL_NS, seed=turn))
        if row.cache == "whole":
            row.bare_ns.append(tracks.sample_ns(tracks.Bare(dataset), ACCESSES, TRIAL_NS, seed=turn))
        row.samples_per_s.append(tracks.samples_per_s(loader, TRIAL_NS))
        row.waits.append(tracks.data_wait(loader, training, STEPS, LOOP_NS))


def _run_tracks(sets: Mapping[str, Images], found: Found, options: argparse.Namespace) -> list[Row]:
    rows = [
        _row(name, kind, cache, found[name, kind])
        for name in sets
        for kind in options.formats
        for cache in options.caches
        if name == MADE or cache in (BEFORE, *REAL_CACHES)
    ]
    device = resolve_device(options.device)
    trainings = {name: tracks.Training(prod(images.pixels.shape[1:]), device) for name, images in sets.items()}
    for turn in range(options.rounds):
        _say(f"round {turn + 1} of {options.rounds}")
        measured = [row for row in rows if row.problem is None]
        for row in random.Random(turn).sample(measured, len(measured)):  # noqa: S311 no secret depends on it
            made = found[row.images, row.format]
            assert isinstance(made, inputs.Made)
            try:
                _measure(row, made, trainings[row.images], turn)
            except DataError as error:
                row.problem = str(error)
    return rows


def main() -> int:
    options, began_s = _arguments(), time.monotonic()
    sets = _chosen(options)
    _say(f"writing what is missing to {options.folder}")
    found: Found = {
        (name, kind): inputs.made(kind, images, options.folder)
        for name, images in sets.items()
        for kind in options.formats
    }
    rows = _run_tracks(sets, found, options)
    _say("comparing loaders")
    compared = [
        one
        for name, images in sets.items()
        for cache in COMPARED_CACHES
        for one in compare.compared(images, _written(found, name), cache)
    ]
    preload = inputs.preload_seconds(sets[MADE], options.rounds) if MADE in sets else {}
    taken = None
    if options.memory:
        _say(f"loading {options.memory:,} MiB under a budget")
        taken = memory.measure(options.memory << 20, options.folder / "large", options.rounds)
    figures = [*report.figures(rows, compared, preload), *(report.memory_figures(taken) if taken else ())]
    _say("\n".join([report.table(rows), *map(str, figures)]))
    document = {
        "schema": "loaderperf-tracks/2",
        "machine": machine_facts(),
        "rows": [asdict(row) for row in rows],
        "compared": [asdict(one) for one in compared],
        "preload_seconds": preload,
        "memory": asdict(taken) if taken else None,
        "figures": [asdict(figure) | {"missed": figure.missed} for figure in figures],
    }
    write_json(document, options.json)
    if options.plot:
        from suites.tracks.plot import draw

        draw(rows, options.plot)
    _say(f"{(time.monotonic() - began_s) / 60:.1f} minutes; raw figures in {options.json}")
    return 1 if any(figure.missed for figure in figures) or any(row.problem for row in rows) else 0


def _written(found: Found, images: str) -> dict[str, inputs.Made]:
    return {kind: made for (name, kind), made in found.items() if name == images and isinstance(made, inputs.Made)}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DataError as error:
        sys.exit(f"tracks: {error}")
