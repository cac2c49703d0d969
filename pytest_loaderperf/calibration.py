"""This machine's false-alarm rate and power: claims whose truth is known, measured and judged as any other."""

from __future__ import annotations

import random
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import repeat
from typing import Any

import numpy as np

from pytest_loaderperf.heads import OtherHead
from pytest_loaderperf.options import Options
from pytest_loaderperf.run import Run
from pytest_loaderperf.sources import BASE

THRESHOLD = 0.97  # of the claim "throughput >= 0.97 x against.throughput"
EFFECTS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.10)  # slowdowns beyond the threshold; 0: an A/A run
NOISE_PROCESSES = 2
OPERATIONS = 100_000  # a batch of the other side: some 120 us
_BATCHES = 2000  # an epoch
_BURNER = """
import os, random, time
parent = os.getppid()
while os.getppid() == parent:
    end_s = time.perf_counter() + random.expovariate(1 / 0.5)
    while time.perf_counter() < end_s:
        pass
    time.sleep(random.expovariate(1))
"""


class KnownWork:
    """A loader of which a batch takes ``operations`` equal steps: its throughput is in inverse proportion to them.

    They touch no memory, so that where things happen to lie does not change what is true.
    """

    def __init__(self, operations: int) -> None:
        self._operations, self._batch = operations, np.zeros(1)

    def __len__(self) -> int:
        return _BATCHES

    def __iter__(self) -> Iterator[np.ndarray]:
        for _ in range(_BATCHES):
            deque(repeat(None, self._operations), maxlen=0)
            yield self._batch


@dataclass
class Row:
    """What became of the claims on loaders that are slower than the threshold allows by ``effect``; 0: an A/A run.

    ``seconds``: from the first build to the verdict, the confirmation of a FAIL included.
    """

    effect: float
    outcomes: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    @property
    def true_ratio(self) -> float:
        """Throughput against the other side's."""
        return THRESHOLD / (1 + self.effect) if self.effect else 1.0

    def share(self, outcome: str, within_s: float = float("inf")) -> float:
        """The share of claims that came out so, within so many seconds."""
        hits = [o == outcome and s <= within_s for o, s in zip(self.outcomes, self.seconds, strict=True)]
        return sum(hits) / len(hits)

    @property
    def median_s(self) -> float:
        """Seconds that half of the claims took at most."""
        return statistics.median(self.seconds)


def calibrate(
    claims: int,
    effects: Sequence[float],
    *,
    alpha: float,
    budget_seconds: float,
    noise: bool,
    base: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """``claims`` claims for each of ``effects``, in random order.

    With ``noise``, beside a load; with ``base``, against a loader in another process, a new one for each claim.
    """
    rows = [Row(effect) for effect in effects]
    order = rows * claims
    random.Random(0).shuffle(order)  # noqa: S311 no secret depends on it
    with noise_load() if noise else _quiet():
        for done, row in enumerate(order):
            progress(f"claim {done + 1} of {len(order)}")
            outcome, seconds = _judged(row.true_ratio, alpha, budget_seconds, base=base)
            row.outcomes.append(outcome)
            row.seconds.append(seconds)
    return rows


def other_work() -> KnownWork:
    """The loader that others are held against."""
    return KnownWork(OPERATIONS)


def _judged(true_ratio: float, alpha: float, budget_seconds: float, *, base: bool) -> tuple[str, float]:
    """The outcome of one claim, and the seconds it took."""
    options = Options(budget_seconds=budget_seconds, next_alpha=lambda: alpha)
    operations = round(OPERATIONS / true_ratio)
    against = None if base else other_work
    if base:
        side = OtherHead(f"{__name__}:{other_work.__name__}", sys.executable, options=options).side(BASE)
        options = replace(options, make_base=lambda: side)
    began_s = time.perf_counter()
    with Run(lambda: KnownWork(operations), against, options=options) as run:
        other = run.base if base else run.against
        claim: Any = run.throughput >= THRESHOLD * other.throughput
        return str(claim.ruling.outcome), time.perf_counter() - began_s


@contextmanager
def _quiet() -> Iterator[None]:
    yield


@contextmanager
def noise_load() -> Iterator[None]:
    """Processes that burn a core for some 0.5 s and rest for some 1 s, by turns."""
    burners = [subprocess.Popen([sys.executable, "-c", _BURNER]) for _ in range(NOISE_PROCESSES)]  # noqa: S603 our own
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
