"""Histories whose steps are known: made up, and cut from recorded trials. Values are logarithms."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Make = Callable[[np.random.Generator], Floats]
NOISE = 0.03  # standard deviation, as a share of the value
RECORDED = Path(__file__).parents[2] / "fixtures" / "series"
AFTER, BEFORE, QUIET = 20, 100, 1000  # commits
SIZES = (0.01, 0.02, 0.05, 0.10, 0.20)


class Case(NamedTuple):
    """A kind of history: its true steps, and how to make one of it."""

    name: str
    truth: tuple[int, ...]
    make: Make


def noise(rng: np.random.Generator, count: int) -> Floats:
    return NOISE * rng.standard_normal(count)


def _step(size: float, before: int, after: int, runs: int = 1) -> Make:
    """A step; each commit's value is the median of ``runs`` runs."""

    def make(rng: np.random.Generator) -> Floats:
        level = np.where(np.arange(before + after) < before, 0.0, np.log1p(size))
        return level + np.median([noise(rng, before + after) for _ in range(runs)], axis=0)

    return make


def _outliers(rng: np.random.Generator, count: int) -> Floats:
    return np.where(rng.random(count) < 0.03, rng.uniform(0.1, 0.6, count), 0.0)


def _drift(height: float, step: float = 0.0) -> Make:
    def make(rng: np.random.Generator) -> Floats:
        place = np.arange(QUIET)
        return noise(rng, QUIET) + height * place / QUIET + step * (place >= QUIET // 2)

    return make


def _correlated(rng: np.random.Generator) -> Floats:
    values = noise(rng, QUIET)
    for i in range(1, QUIET):
        values[i] = 0.5 * values[i - 1] + values[i] * np.sqrt(0.75)
    return values


def _gaps(rng: np.random.Generator) -> Floats:
    """A third of the commits was not measured; the step is after the same measured commit."""
    kept = np.sort(rng.permutation(150)[:100])
    return np.log1p(0.10) * (kept >= kept[60]) + noise(rng, 100)


def simulated() -> Iterator[Case]:
    """Quiet histories of 1,000 commits, and steps."""
    yield Case("1,000 commits, noise 3 %", (), lambda rng: noise(rng, QUIET))
    yield Case("60 commits, noise 3 %", (), lambda rng: noise(rng, 60))
    yield Case(
        "1,000 commits, 3 % of them 10 to 80 % slower", (), lambda rng: noise(rng, QUIET) + _outliers(rng, QUIET)
    )
    yield Case("1,000 commits, noise correlated by 0.5", (), _correlated)
    yield Case("1,000 commits, drift of 10 %", (), _drift(0.1))
    yield Case("1,000 commits, drift of 20 %, step of 10 %", (QUIET // 2,), _drift(0.2, np.log1p(0.1)))
    for size in SIZES:
        yield Case(f"step of {100 * size:g} %, {AFTER} commits after it", (BEFORE,), _step(size, BEFORE, AFTER))
    yield Case("step of 5 %, 10 commits after it", (BEFORE,), _step(0.05, BEFORE, 10))
    yield Case("step of 5 %, 30 commits after it", (BEFORE,), _step(0.05, BEFORE, 30))
    yield Case("step of 5 %, 20 commits, 3 runs each", (BEFORE,), _step(0.05, BEFORE, AFTER, runs=3))
    yield Case("step of 10 %, 1 of 3 commits not measured", (60,), _gaps)


def recorded() -> Iterator[Case]:
    """Recorded trials as commits: of the same work, and with the slower loader's trials from a commit on."""
    for name in ("aa", "aa_workers", "busy_wait_ten_percent"):
        ratio, slower, faster = _columns(name)
        if name.startswith("aa"):
            yield Case(f"recorded {name}: ratios", (), _bootstrap(ratio))
        else:
            times = np.concatenate([_medians(faster), _medians(slower)])
            yield Case(f"recorded {name}: times", (len(times) // 2,), partial(_same, times))


def _columns(name: str) -> tuple[Floats, Floats, Floats]:
    pairs = np.array(json.loads((RECORDED / f"{name}.json").read_text("utf-8"))["pairs"], np.float64)
    slower, faster = np.log(pairs[:, 0] / pairs[:, 1]), np.log(pairs[:, 2] / pairs[:, 3])
    return slower - faster, slower, faster


def _bootstrap(values: Floats) -> Make:
    """Medians of 5 neighbours, as runs have; begins at a random place, so that neighbours stay neighbours."""
    return lambda rng: _medians(np.roll(values, rng.integers(len(values))))


def _medians(values: Floats) -> Floats:
    return np.median(values.reshape(-1, 5), axis=1)


def _same(values: Floats, _rng: np.random.Generator) -> Floats:
    return values
