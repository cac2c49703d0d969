"""``python -m suites.calibration.obvious``: commits that make a loader 10 and 30 times slower, which must all FAIL.

Each claim has its own repository, whose second commit is slower, and runs ``pytest --loaderperf`` there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from pytest_loaderperf.measurement import machine_facts
from pytest_loaderperf.runs.calibration import noise_load
from suites.calibration.repository import make_repository, measure_repository

SLOWDOWNS = (10, 30)
BATCH_MS = (1.0, 10.0, 100.0, 1000.0)  # of the faster side
WORKERS = (0, 2)
BATCH_SIZE = 4
WITHIN_S = 60.0  # the time for a verdict
STARTS_S = 60.0  # two starts of pytest and torch on a busy machine; the run is ended after this and several verdicts
NO_VERDICT = "no verdict"  # the run ended in an error, or did not end

DATASETS = """
import time


class Images:
    def __len__(self):
        return 8_000

    def __getitem__(self, index):
        {work}
        return index
"""
WORK = {
    "busy": "end_s = time.perf_counter() + {seconds!r}\n        while time.perf_counter() < end_s:\n            pass",
    "sleep": "time.sleep({seconds!r})",
}
TESTS = """
from torch.utils.data import DataLoader

from mypkg.datasets import Images


def test_images(loaderperf):
    run = loaderperf(lambda: DataLoader(Images(), batch_size={batch_size}, num_workers={workers}))
    assert run.throughput >= 0.9 * run.base.throughput
"""


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of commit: how much slower, from which length of a batch, made by how many workers."""

    slowdown: int
    batch_ms: float
    workers: int


@dataclass(frozen=True, slots=True)
class Claim:
    """The verdict of one claim, and the seconds of the whole run of pytest, including its starts."""

    verdict: str
    seconds: float


def judged(cell: Cell, work: str, folder: Path) -> Claim:
    """Make the repository in ``folder``, an empty one, and measure it."""
    item_s = cell.batch_ms * 1e-3 / BATCH_SIZE
    commits = [DATASETS.format(work=WORK[work].format(seconds=item_s * factor)) for factor in (1, cell.slowdown)]
    make_repository(folder, TESTS.format(batch_size=BATCH_SIZE, workers=cell.workers), commits)
    longest_s = STARTS_S + 5 * WITHIN_S
    try:
        outcome = measure_repository(folder, longest_s)
    except subprocess.TimeoutExpired:
        return Claim(NO_VERDICT, longest_s)
    verdict = (outcome.verdicts.get("test_images") or [NO_VERDICT])[0]
    if (verdict == "FAIL") != (outcome.status == 1):  # a verdict without its exit status protects nothing
        verdict = NO_VERDICT
    if verdict == NO_VERDICT:
        print(outcome.output, file=sys.stderr)  # noqa: T201 a command prints
    return Claim(verdict, outcome.seconds)


def table(claims: Mapping[Cell, Sequence[Claim]]) -> str:
    """In Markdown: a row for each cell, and the sum."""
    lines = [
        "| slower | batch | workers | FAIL | within 60 s | median s | longest s | others |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for cell, found in claims.items():
        seconds = [claim.seconds for claim in found]
        others = sorted(claim.verdict for claim in found if claim.verdict != "FAIL")
        lines.append(
            f"| {cell.slowdown} times | {cell.batch_ms:g} ms | {cell.workers} | {_fails(found)} of {len(found)} | "
            f"{_fails(found, WITHIN_S)} of {len(found)} | {statistics.median(seconds):.1f} | {max(seconds):.1f} | "
            f"{', '.join(others)} |"
        )
    together = [claim for found in claims.values() for claim in found]
    lines.append(f"\nFAIL within 60 s: {_fails(together, WITHIN_S)} of {len(together)}")
    return "\n".join(lines)


def _fails(claims: Sequence[Claim], within_s: float = float("inf")) -> int:
    return sum(claim.verdict == "FAIL" and claim.seconds <= within_s for claim in claims)


def main() -> int:
    """0 if every claim was FAIL within 60 s, else 1."""
    parser = argparse.ArgumentParser(prog="python -m suites.calibration.obvious", description=__doc__)
    parser.add_argument("--times", type=int, default=7, help="claims a cell of 16 (default: %(default)s, 112 in all)")
    parser.add_argument("--work", choices=list(WORK), default="busy", help="what an item does (default: %(default)s)")
    parser.add_argument("--batch-ms", type=float, nargs="+", default=BATCH_MS, help="of the quicker side")
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--slowdowns", type=int, nargs="+", default=SLOWDOWNS)
    parser.add_argument("--noise", action="store_true", help="with two other processes that alternately use a core")
    parser.add_argument("--json", type=Path, default=Path(".loaderperf/obvious.json"))
    options = parser.parse_args()
    cells = [Cell(*cell) for cell in product(options.slowdowns, options.batch_ms, options.workers)]
    claims: dict[Cell, list[Claim]] = {cell: [] for cell in cells}
    with noise_load() if options.noise else nullcontext():
        for turn, cell in product(range(options.times), cells):
            with tempfile.TemporaryDirectory() as folder:
                claim = judged(cell, options.work, Path(folder) / "repository")
            claims[cell].append(claim)
            print(f"turn {turn + 1} of {options.times}: {cell}: {claim}", file=sys.stderr)  # noqa: T201 a command prints
    print(table(claims))  # noqa: T201 a command prints
    document = {
        "schema": "loaderperf-obvious/1",
        "machine": machine_facts(),
        "noise": options.noise,
        "work": options.work,
        "cells": [{**asdict(cell), "claims": [asdict(claim) for claim in found]} for cell, found in claims.items()],
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document, indent=1) + "\n")
    return int(any(_fails(found, WITHIN_S) < len(found) for found in claims.values()))


if __name__ == "__main__":
    sys.exit(main())
