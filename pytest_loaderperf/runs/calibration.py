"""This machine's false-alarm rate and power: claims whose correct verdict is known, measured like any other."""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pytest_loaderperf.data.execution.cores import usable_cores
from pytest_loaderperf.remote.interpreter import OtherInterpreter
from pytest_loaderperf.remote.naming import import_name
from pytest_loaderperf.runs.known_work import Work, make_loader
from pytest_loaderperf.runs.options import Options
from pytest_loaderperf.runs.run import Run
from pytest_loaderperf.runs.sides import BASE

THRESHOLD = 0.97  # of the claim "throughput >= 0.97 x against.throughput"
EFFECTS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.10)  # slowdowns beyond the threshold; 0: an A/A run
NOISE_PROCESSES = 2
BATCH_MS = 0.12  # of an inline loader: a few batches are a slice
ASIDE_BATCH_MS = 3.0  # of workers and threads: much longer than the hand-over of a batch
LEAST_ASIDE_BATCH_MS = 1.0  # below, the hand-over hides more than a tenth of a slowdown
_BURNERS = """
import os, random, sys, time
measuring, burners = map(int, sys.argv[1:])
for _ in range(burners):
    pid = os.fork()
    if not pid:
        break
    print(pid, flush=True)
else:
    os._exit(0)
os.close(1)
random.seed()
while True:
    try:
        os.kill(measuring, 0)
    except OSError:
        break
    end_s = time.perf_counter() + random.expovariate(1 / 0.5)
    while time.perf_counter() < end_s:
        pass
    time.sleep(random.expovariate(1))
"""


@dataclass
class Row:
    """The verdicts on loaders that are slower than the threshold allows by ``effect``; 0: an A/A run.

    With ``handover`` they do the same work, but the main process takes twice as long to receive a batch.
    ``seconds``: from the first build to the verdict, including the confirmation of a FAIL.
    """

    effect: float = 0.0
    outcomes: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    handover: bool = False

    @property
    def slower(self) -> bool:
        """Whether the claim is false."""
        return self.effect > 0 or self.handover

    @property
    def true_ratio(self) -> float:
        """The other side's operations divided by the loader's: the ratio of their throughputs without ``handover``."""
        return THRESHOLD / (1 + self.effect) if self.effect else 1.0

    def works(self, work: Work) -> tuple[Work, Work]:
        """The loader's and the other side's, which is ``work``.

        A hand-over takes as long as the other side's workers, if they have all cores, need from one batch to the next.
        With twice as much the loader waits for the hand-over, and its throughput is at least a fifth lower.
        """
        if self.handover:
            cost = work.operations // min(work.workers, usable_cores())
            return replace(work, handover=2 * cost), replace(work, handover=cost)
        return work.times(1 / self.true_ratio), work

    def share(self, outcome: str, within_s: float = float("inf")) -> float:
        """The share of claims with that outcome within so many seconds."""
        hits = [o == outcome and s <= within_s for o, s in zip(self.outcomes, self.seconds, strict=True)]
        return sum(hits) / len(hits)

    @property
    def median_s(self) -> float:
        """The median of the seconds that the claims took."""
        return statistics.median(self.seconds)


def calibrate(
    claims: int,
    effects: Sequence[float],
    *,
    work: Work,
    alpha: float,
    budget_seconds: float,
    noise: bool,
    base: bool = False,
    handover: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """``claims`` claims for each of ``effects``, against a loader that does ``work``, in random order.

    With ``noise``, under a load; with ``base``, against a loader in another process, a new one for each claim. With
    ``handover``, as many more on a loader whose batches take twice as long to receive; ``work`` must have workers.
    After an interrupt the rows hold fewer claims, and rows without any are left out.
    """
    rows = [Row(effect) for effect in effects] + [Row(handover=True)] * handover
    order = rows * claims
    random.Random(0).shuffle(order)  # noqa: S311 no secret depends on it
    with noise_load() if noise else nullcontext():
        try:
            for done, row in enumerate(order):
                progress(f"claim {done + 1} of {len(order)}")
                outcome, seconds = _judged(*row.works(work), alpha, budget_seconds, base=base)
                row.outcomes.append(outcome)
                row.seconds.append(seconds)
        except KeyboardInterrupt:  # these take hours
            if not any(row.outcomes for row in rows):
                raise
    return [row for row in rows if row.outcomes]


def _judged(work: Work, other_work: Work, alpha: float, budget_seconds: float, *, base: bool) -> tuple[str, float]:
    """The outcome of one claim, and the seconds it took."""
    options = Options(budget_seconds=budget_seconds, max_budget_seconds=budget_seconds, next_alpha=lambda: alpha)
    against = None if base else other_work.loader
    if base:
        head = OtherInterpreter(import_name(make_loader), sys.executable, arguments=asdict(other_work), **options.there)
        side = head.side(BASE)
        options = replace(options, make_base=lambda: side)
    began_s = time.perf_counter()
    with Run(work.loader, against, options=options) as run:
        other = run.base if base else run.against
        claim: Any = run.throughput >= THRESHOLD * other.throughput
        return str(claim.ruling.outcome), time.perf_counter() - began_s


@contextmanager
def noise_load() -> Iterator[None]:
    """Processes that alternately use a core for about 0.5 s and rest for about 1 s.

    They are not children of this process, because those count as a loader's.
    """
    command = [sys.executable, "-c", _BURNERS, str(os.getpid()), str(NOISE_PROCESSES)]
    started = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 our own
    try:
        yield
    finally:
        for pid in map(int, started.stdout.split()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
