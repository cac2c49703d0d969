# ruff: noqa: T201 a command prints
"""``python -m suites.scale``: step times of real jobs beside the simulated ones, as a table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial

from pytest_loaderperf.measurement import Key, Steady
from pytest_loaderperf.report.figures import time_text
from pytest_loaderperf.runs.results import document_of
from pytest_loaderperf.runs.script import measure
from pytest_loaderperf.runs.sides import LOADER
from pytest_loaderperf.scale import Recorded, forecast, recorded_in
from suites.scale.job import Pace, loader, real_job

HEAD = """| workers | ranks | step alone | measured step | simulated step (95 % interval) | simulated / measured |
|---|---|---|---|---|---|"""


def record(pace: Pace, batches: int) -> Recorded:
    """What a result keeps of the loader after so many batches."""
    with measure(partial(loader, pace)) as run:
        taken = 0
        while taken < batches:
            for seen in run.rounds.observe([Key(LOADER, Steady())]).records.values():
                taken += len(getattr(seen, "latencies_ns", ()))
        return recorded_in({"runs": [document_of(run)]})


def rows(pace: Pace, ranks: Sequence[int], step_s: float, batches: int, steps: int) -> Iterator[str]:
    """A line for each number of ranks."""
    recorded = record(pace, batches)
    for count in ranks:
        measured_s, alone_s = real_job(count, pace, step_s, steps)
        [cell] = forecast(recorded, [count], [recorded.prefetch], alone_s).cells
        low, value, high = map(time_text, (cell.step_s.low, cell.step_s.value, cell.step_s.high))
        ratio = cell.step_s.value / measured_s
        shown = [str(pace.workers), str(count), time_text(alone_s), time_text(measured_s), f"{value} ({low} to {high})"]
        yield f"| {' | '.join(shown)} | {ratio:.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m suites.scale", description=__doc__)
    parser.add_argument("--typical", type=float, default=0.1, help="seconds that a batch takes, default %(default)s")
    parser.add_argument("--step", type=float, default=0.16, help="seconds of a step, default %(default)s")
    parser.add_argument("--batches", type=int, default=700, help="to record, default %(default)s")
    parser.add_argument("--steps", type=int, default=220, help="of each real job, default %(default)s")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="of the loaders, default %(default)s")
    options = parser.parse_args()
    print(HEAD)
    for workers in options.workers:
        for line in rows(Pace(options.typical, workers), (2, 4, 8), options.step, options.batches, options.steps):
            print(line, flush=True)


if __name__ == "__main__":
    main()
