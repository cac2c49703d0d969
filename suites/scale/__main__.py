# ruff: noqa: T201 a command prints
"""``python -m suites.scale``: step times of real jobs beside the simulated ones, as a table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from functools import partial

from pytest_loaderperf.report.figures import time_text
from pytest_loaderperf.runs.results import document_of
from pytest_loaderperf.runs.script import measure
from pytest_loaderperf.scale import Recorded, forecast, recorded_in
from suites.scale.job import Pace, loader, step_seconds

HEAD = (
    "| workers | ranks | measured step | simulated step (95 % interval) | simulated / measured |\n|---|---|---|---|---|"
)


def record(pace: Pace, seconds: float) -> Recorded:
    """What a result keeps of the loader after ``seconds`` of measuring."""
    with measure(partial(loader, pace), budget=seconds, max_budget=seconds) as run:
        run.look_until(seconds)
        return recorded_in({"runs": [document_of(run)]})


def rows(pace: Pace, ranks: Sequence[int], step_s: float, seconds: float, steps: int) -> Iterator[str]:
    """A line for each number of ranks."""
    recorded = record(pace, seconds)
    for cell in forecast(recorded, ranks, [recorded.prefetch], step_s).cells:
        measured_s = step_seconds(cell.ranks, pace, step_s, steps)
        low, value, high = map(time_text, (cell.step_s.low, cell.step_s.value, cell.step_s.high))
        ratio = cell.step_s.value / measured_s
        yield f"| {pace.workers} | {cell.ranks} | {time_text(measured_s)} | {value} ({low} to {high}) | {ratio:.2f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m suites.scale", description=__doc__)
    parser.add_argument("--typical", type=float, default=0.05, help="seconds that a batch takes, default %(default)s")
    parser.add_argument("--step", type=float, default=0.06, help="seconds of a step, default %(default)s")
    parser.add_argument("--budget", type=float, default=40.0, help="seconds to record, default %(default)s")
    parser.add_argument("--steps", type=int, default=250, help="of each real job, default %(default)s")
    options = parser.parse_args()
    print(HEAD)
    for workers in (0, 1, 2):
        for line in rows(Pace(options.typical, workers), (2, 4, 8), options.step, options.budget, options.steps):
            print(line, flush=True)


if __name__ == "__main__":
    main()
