"""``python -m suites.calibration.compare``: the share of claims that FAIL, by our rule and by other rules."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from pytest_loaderperf.measurement import Key, Steady, machine_facts
from pytest_loaderperf.runs.calibration import noise_load
from pytest_loaderperf.runs.known_work import Work
from pytest_loaderperf.runs.run import Run
from pytest_loaderperf.runs.sides import AGAINST, LOADER
from suites.calibration.judges import ALPHA, PERCENT, Recording, judged, table

SLOWDOWNS = (0.0, 0.03, 0.05, 0.08, 0.10)  # of the loader's work
WORK = Work(operations=100_000)  # a batch of the other side: about 120 us
ROUNDS = 150
LATER = 2  # turns between a saved run and the new one: several seconds


def record(slowdown: float, rounds: int) -> Recording:
    """A loader whose work is ``slowdown`` more than the other side's, and that side, in ``rounds`` rounds."""
    keys = [Key(name, Steady()) for name in (LOADER, AGAINST)]
    with Run(WORK.times(1 + slowdown).loader, WORK.loader) as run, run.rounds.watched():
        return Recording([run.rounds.observe(keys).records for _ in range(rounds)])


def recorded(claims: int, rounds: int) -> dict[float, list[Recording]]:
    """Enough for ``claims`` claims on each slowdown: in turns, each in random order."""
    order, recordings = random.Random(0), {slowdown: list[Recording]() for slowdown in SLOWDOWNS}  # noqa: S311 an order
    for turn in range(claims + LATER):
        print(f"turn {turn + 1} of {claims + LATER}", file=sys.stderr)  # noqa: T201 a command prints
        for slowdown in order.sample(SLOWDOWNS, len(SLOWDOWNS)):
            recordings[slowdown].append(record(slowdown, rounds))
    return recordings


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m suites.calibration.compare", description=__doc__)
    parser.add_argument("--claims", type=int, default=40, help="claims on each slowdown (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds a claim (default: %(default)s)")
    parser.add_argument("--noise", action="store_true", help="with two other processes that alternately use a core")
    parser.add_argument("--json", type=Path, default=Path(".loaderperf/compare.json"))
    options = parser.parse_args()
    began_s = time.monotonic()
    with noise_load() if options.noise else nullcontext():
        recordings = recorded(options.claims, options.rounds)
    outcomes = {
        slowdown: [judged(of[claim], of[claim + LATER]) for claim in range(options.claims)]
        for slowdown, of in recordings.items()
    }
    print(table(outcomes), f"\n{(time.monotonic() - began_s) / 60:.1f} minutes", sep="\n")  # noqa: T201 a command prints
    document = {
        "schema": "loaderperf-compare/1",
        "machine": machine_facts(),
        "noise": options.noise,
        "rounds": options.rounds,
        "alpha": ALPHA,
        "percent": PERCENT,
        "slowdowns": [{"slowdown": slowdown, "fails": claims} for slowdown, claims in outcomes.items()],
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
