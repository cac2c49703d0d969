# ruff: noqa: T201 a command prints
"""``python -m suites.history``: steps found, and false ones, by several detectors, as a table."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import ruptures
from asv.step_detect import detect_steps

from pytest_loaderperf.history.steps import find_steps
from suites.history.series import NOISE, Case, Floats, recorded, simulated

REACH = 2  # commits
Found = list[tuple[int, int, int]]
"""Of each step: where it is most likely, and the first and last place it may be at."""


def ours(series: Sequence[Floats]) -> list[Found]:
    return [[(step.at, step.first, step.last) for step in fit.steps] for fit in find_steps(series)]


def ruptures_alone(series: Sequence[Floats]) -> list[Found]:
    """Its fast detector, with a penalty as high as ours; it is told the noise."""
    found = []
    for values in series:
        penalty = 2.5 * np.log(len(values)) * NOISE**2
        ends = ruptures.KernelCPD("linear", min_size=3).fit(values).predict(pen=penalty)[:-1]
        found.append([(int(end), int(end), int(end)) for end in ends])
    return found


def asv_alone(series: Sequence[Floats]) -> list[Found]:
    """All steps of asv, up and down."""
    return [[(step[0],) * 3 for step in detect_steps(list(np.exp(values)))[1:]] for values in series]


DETECTORS: dict[str, Callable[[Sequence[Floats]], list[Found]]] = {
    "ours": ours,
    "ruptures": ruptures_alone,
    "asv": asv_alone,
}


def row(
    case: Case, detector: Callable[[Sequence[Floats]], list[Found]], count: int
) -> tuple[float, float, float, float]:
    """Shares of the true steps whose range is near, and whose best place is; false steps a history; width of ranges."""
    rng = np.random.default_rng(0)
    histories = detector([case.make(rng) for _ in range(count)])
    ranged = placed = false = 0
    widths = []
    for found in histories:
        near = [step for step in found if any(step[1] - REACH <= true <= step[2] + REACH for true in case.truth)]
        ranged += min(len(near), len(case.truth))
        placed += min(sum(abs(step[0] - true) <= REACH for step in near for true in case.truth), len(case.truth))
        false += len(found) - min(len(near), len(case.truth))
        widths += [last - first + 1 for _, first, last in near]
    true = max(1, count * len(case.truth))
    return ranged / true, placed / true, false / count, float(np.median(widths)) if widths else 0.0


def line(case: Case, count: int, slow: int) -> str:
    cells = []
    for name, detector in DETECTORS.items():
        ranged, placed, false, width = row(case, detector, slow if name == "asv" else count)
        if not case.truth:
            cells.append(f"{false:.3f} false")
        elif name == "ours":
            cells.append(f"{ranged:.1%} (best place {placed:.1%}, range {width:g}), {false:.3f} false")
        else:
            cells.append(f"{placed:.1%}, {false:.3f} false")
    return f"| {case.name} | {' | '.join(cells)} |"


def limit(size: float, count: int) -> float:
    """Share of steps whose place the best possible estimate finds: it knows the levels and the noise, and takes the
    place with the most probability within reach.
    """
    rng, before, after, height = np.random.default_rng(0), 60, 60, np.log1p(size)
    found = 0
    for _ in range(count):
        values = NOISE * rng.standard_normal(before + after) + height * (np.arange(before + after) >= before)
        likelihood = np.cumsum((values - height) ** 2 - values**2) / (2 * NOISE**2)  # of the step being after each
        chance = np.exp(likelihood - likelihood.max())
        near = np.convolve(chance, np.ones(2 * REACH + 1), mode="same")
        found += abs(int(near.argmax()) + 1 - before) <= REACH
    return found / count


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m suites.history", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="histories of each kind (default: %(default)s)")
    parser.add_argument("--slow", type=int, default=100, help="of them for asv's detector (default: %(default)s)")
    options = parser.parse_args()
    print(f"| history | {' | '.join(DETECTORS)} |\n|---|{'---|' * len(DETECTORS)}", flush=True)
    for case in chain(simulated(), recorded()):
        print(line(case, options.count, options.slow), flush=True)
    print(f"best possible place of a step of 5 %: {limit(0.05, 20 * options.count):.1%} within {REACH} commits")
    rng = np.random.default_rng(0)
    for name, step in (("no step", 0.0), ("a step of 10 %", 0.1)):
        series = [NOISE * rng.standard_normal(1000) + step * (np.arange(1000) > 500) for _ in range(200)]
        began_s = time.process_time()
        find_steps(series)
        print(f"1,000 commits x 200 series, {name}: {time.process_time() - began_s:.2f} s of CPU time")


if __name__ == "__main__":
    main()
