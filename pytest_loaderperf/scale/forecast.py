"""What a job of many ranks is expected to do with a loader, how sure that is, and which quantile of latency matters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pytest_loaderperf.scale.blocks import Floats, block_length, drawn
from pytest_loaderperf.scale.model import Job, waits, work_of
from pytest_loaderperf.scale.recorded import Recorded

NOTICED = 0.01  # of a step: a step that waits less is not counted as one that waits
_STEPS, _LEAST_STEPS = 200, 60  # that are simulated of each job, after it has settled
_RANK_STEPS = 1_000_000  # of one job: of larger ones fewer steps are simulated, each of which has more batches
_RANKS_AT_ONCE = 512  # at least: several small jobs are simulated together
_AS_RECORDED = 8  # sets that are the record itself, which give the estimate
_REDRAWN = 32  # sets that are drawn again from it, which give the interval
_TAILS = (0.025, 0.975)  # of a 95 % interval
_MOST_NUMBERS = 8_000_000  # of the state of all jobs that are simulated together: 64 MB
_LEAST_BEYOND = 2  # batches that must have taken at least as long as a quantile, for it to count as seen
_SEED = 0  # the same result each time


class Range(NamedTuple):
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float


class Cell(NamedTuple):
    """One job: its step time with waiting, its accelerator utilisation, and the share of its steps that wait."""

    ranks: int
    prefetch: int
    step_s: Range
    use: Range
    waiting: Range


class Tail(NamedTuple):
    """The quantile of latency that matters for ``ranks``: few batches are so slow, and yet a good part of the steps.

    ``share`` of the batches are faster than ``latency_s``; ``steps`` of the steps have a batch on some rank that is
    not. ``needed``: so many batches are enough to see the quantile; ``seen``: there are so many.
    """

    ranks: int
    share: float
    latency_s: float
    steps: float
    needed: int
    seen: bool


class Forecast(NamedTuple):
    """``cells`` by ranks and prefetch, and a tail for each number of ranks. ``reach``: the largest quantile seen."""

    step_s: float
    cells: tuple[Cell, ...]
    tails: tuple[Tail, ...]
    reach: float
    block: float


def forecast(recorded: Recorded, ranks: Sequence[int], prefetches: Sequence[int], step_s: float) -> Forecast:
    """Simulate a job for each of ``ranks`` and ``prefetches``, whose step takes ``step_s`` seconds without waiting.

    Ranks are taken to be independent, and each to be as fast as the recorded loader.
    """
    rng = np.random.default_rng(_SEED)
    work_s = work_of(recorded.latencies_s, recorded.workers, recorded.prefetch)
    block = block_length(work_s)
    redrawn = work_s[drawn(len(work_s), block, _REDRAWN, rng)]
    sets = np.concatenate([np.tile(work_s, (_AS_RECORDED, 1)), redrawn])
    workers = max(1, recorded.workers)
    jobs = [Job(count, prefetch, workers, step_s, block) for count in ranks for prefetch in prefetches]
    tails = tuple(tail(recorded.latencies_s, count) for count in ranks)
    reach = 1 - _LEAST_BEYOND / len(recorded.latencies_s)
    return Forecast(step_s, tuple(_cell(sets, job, rng) for job in jobs), tails, reach, block)


def tail(latencies_s: Floats, ranks: int) -> Tail:
    """The quantile with one nine for each digit of ``ranks``: p90 up to 10 ranks, p99 up to 100, and so on."""
    nines = max(1, math.ceil(math.log10(ranks) - 1e-9))
    share = 1 - 10.0**-nines
    latency_s = float(np.quantile(latencies_s, share, method="higher"))
    slow = float(np.mean(latencies_s >= latency_s))
    needed = _LEAST_BEYOND * 10**nines
    return Tail(
        ranks,
        share,
        latency_s,
        -math.expm1(ranks * math.log1p(-slow)) if slow < 1 else 1.0,
        needed,
        len(latencies_s) >= needed,
    )


def _cell(sets: Floats, job: Job, rng: np.random.Generator) -> Cell:
    copies = -(-_RANKS_AT_ONCE // job.ranks)
    steps = min(_STEPS, max(_LEAST_STEPS, _RANK_STEPS // job.ranks))
    numbers = copies * job.ranks * (job.prefetch + min(job.workers, job.prefetch) + 3)
    together = max(1, _MOST_NUMBERS // numbers)
    parts = [waits(sets[at : at + together], job, steps, copies, rng) for at in range(0, len(sets), together)]
    waited_s = np.concatenate(parts).reshape(len(sets), -1)
    step_s = job.step_s + waited_s.mean(axis=1)
    waiting = (waited_s > NOTICED * job.step_s).mean(axis=1)
    found = _range(step_s)
    use = Range(*(job.step_s / value for value in (found.value, found.high, found.low)))
    return Cell(job.ranks, job.prefetch, found, use, _range(waiting))


def _range(of_sets: Floats) -> Range:
    """The mean of the sets as recorded; the interval of the others, which at least includes it."""
    value = float(of_sets[:_AS_RECORDED].mean())
    low, high = (float(end) for end in np.quantile(of_sets[_AS_RECORDED:], _TAILS))
    return Range(value, min(low, value), max(high, value))
