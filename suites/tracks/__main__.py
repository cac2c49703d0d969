"""``python -m suites.tracks``: every format and cache on the three tracks; exit status 1 where a figure is missed."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from pytest_loaderperf.data.formats import FORMATS
from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader
from pytest_loaderperf.measurement import resolve_device
from pytest_loaderperf.measurement.machine import machine_facts
from pytest_loaderperf.report import write_json
from suites.peers.report import Figure
from suites.tracks import inputs, report, tracks
from suites.tracks.report import BEFORE, Row

CACHES = ("whole", "chunked", inputs.BACKGROUND, "mapped", "compressed", "lru", "lazy")
ROUNDS = 3
ACCESSES = 300  # of a sample, a round
TRIAL_NS = 100_000_000
STEPS = 40


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m suites.tracks", description=__doc__)
    parser.add_argument("--samples", type=int, default=1000, help="images (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of every format and cache (default: %(default)s)")
    parser.add_argument("--formats", nargs="+", choices=list(FORMATS), default=list(FORMATS))
    parser.add_argument("--caches", nargs="+", choices=[BEFORE, *CACHES], default=[BEFORE, *CACHES])
    parser.add_argument("--device", choices=["cpu", "cuda", "auto"], default="auto", help="of the model")
    parser.add_argument("--folder", type=Path, default=Path(".loaderperf/tracks"), help="where the data are kept")
    parser.add_argument("--json", type=Path, default=Path(".loaderperf/tracks.json"))
    parser.add_argument("--plot", type=Path, help="draw the tracks into this PNG or SVG file")
    return parser.parse_args()


def _measure(row: Row, made: inputs.Made, plain: ReferenceLoader[Any], training: tracks.Training, turn: int) -> None:
    """One round of one row, with the same loader over plain arrays right before its own."""
    row.array_per_s.append(tracks.samples_per_s(plain, TRIAL_NS))
    with ExitStack() as opened:
        if row.cache == BEFORE:
            dataset = made.before(opened)
            loader: Iterable[Any] = DataLoader(dataset, batch_size=tracks.BATCH_SIZE, shuffle=True)
        else:
            dataset = made.after(opened, row.cache)
            loader = opened.enter_context(ReferenceLoader(dataset, batch_size=tracks.BATCH_SIZE, shuffle=True))
        row.sample_ns.append(tracks.sample_ns(dataset, ACCESSES, seed=turn))
        row.samples_per_s.append(tracks.samples_per_s(loader, TRIAL_NS))
        row.waits.append(tracks.data_wait(loader, training, STEPS))


def _row(kind: str, cache: str, made: Mapping[str, inputs.Made | str]) -> Row:
    found = made[kind]
    if isinstance(found, str):
        return Row(kind, cache, found)
    return Row(kind, cache, None, found.nbytes, found.write_s)


def main() -> int:
    options, began_s = _arguments(), time.monotonic()
    arrays = inputs.images(options.samples)
    made = {kind: inputs.made(kind, arrays, options.folder) for kind in options.formats}
    rows = [_row(kind, cache, made) for kind in options.formats for cache in options.caches]
    training = tracks.Training(inputs.SIDE**2, resolve_device(options.device))
    with ReferenceLoader(arrays, batch_size=tracks.BATCH_SIZE, shuffle=True) as plain:
        for turn in range(options.rounds):
            measured = [row for row in rows if row.problem is None]
            for row in random.Random(turn).sample(measured, len(measured)):  # noqa: S311 no secret depends on it
                found = made[row.format]
                assert isinstance(found, inputs.Made)
                try:
                    _measure(row, found, plain, training, turn)
                except DataError as error:
                    row.problem = str(error)
    preload = inputs.preload_seconds(arrays, options.rounds)
    figures = report.figures(rows, preload)
    print(report.table(rows), *figures, sep="\n")  # noqa: T201 a command prints
    _write(options.json, rows, preload, figures)
    if options.plot:
        from suites.tracks.plot import draw

        draw(rows, options.plot)
    print(f"{(time.monotonic() - began_s) / 60:.1f} minutes; raw figures in {options.json}")  # noqa: T201
    return 1 if any(figure.missed for figure in figures) or any(row.problem for row in rows) else 0


def _write(file: Path, rows: list[Row], preload: Mapping[str, list[float]], figures: list[Figure]) -> None:
    document = {
        "schema": "loaderperf-tracks/1",
        "machine": machine_facts(),
        "rows": [asdict(row) for row in rows],
        "preload_seconds": preload,
        "figures": [{**asdict(figure), "missed": figure.missed} for figure in figures],
    }
    write_json(document, file)


if __name__ == "__main__":
    sys.exit(main())
