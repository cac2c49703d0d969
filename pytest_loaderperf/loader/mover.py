"""The last stage of a loader whose batches arrive on a GPU: how they get there is measured, then decided.

Copies may be worth page-locked memory and a stream of their own; the first batch tells.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch

from pytest_loaderperf.errors import DataError, LoaderPerfError
from pytest_loaderperf.loader.progress import Progress
from pytest_loaderperf.loader.transfer import (
    STEPS_AHEAD,
    CudaRuntime,
    Decision,
    Runtime,
    Transfer,
    leaves,
    pinned_empty,
    pinned_nbytes,
)

MIN_BATCH_NBYTES = 256 << 10  # at 25 GB/s a copy of 10 us, about what the events of a stream cost
MAX_PINNED_RATIO = 0.8  # of the pageable time: medians of a few copies differ by some 10 % without a cause
DEVICE_SHARE = 16  # batches take at most 1/16 of the free device memory: model and activations may come later
AHEAD = 2  # batches: one being copied, and one ready though the source came late
CONSUMER_BATCHES = STEPS_AHEAD + 2  # those of its queued steps, the one it is given, and the one it has yet to drop
MEASURED_NBYTES = 4 << 20  # bytes a measured copy moves at most: time grows in proportion from there
COPIES = 4  # copies timed together, so that waiting for the last weighs less
REPEATS = 5
_END = object()
_log = logging.getLogger("pytest_loaderperf")


@dataclass(frozen=True, slots=True)
class CopyTimes:
    """Seconds a batch takes: pageable to device, page-locked to device, pageable to page-locked."""

    pageable_s: float
    pinned_s: float
    pinning_s: float


def measure_copy(runtime: Runtime, nbytes: int) -> CopyTimes | None:
    """Medians for a batch of ``nbytes``, scaled up from 4 MiB if it is larger; None if the host cannot page-lock."""
    sample = min(nbytes, MEASURED_NBYTES)
    pageable = torch.ones(sample, dtype=torch.uint8)
    try:
        pinned = torch.from_numpy(pinned_empty((sample,), np.dtype(np.uint8)))
    except LoaderPerfError:
        return None

    def copies(host: torch.Tensor) -> None:
        for _ in range(COPIES):
            runtime.copy(host, non_blocking=True)
        runtime.record().synchronize()

    pinning_s = _median_s(partial(pinned.copy_, pageable))
    copy_s = [_median_s(partial(copies, host)) / COPIES for host in (pageable, pinned)]
    return CopyTimes(*(seconds * nbytes / sample for seconds in (*copy_s, pinning_s)))


def _median_s(function: Callable[[], object]) -> float:
    times = []
    for _ in range(1 + REPEATS):
        begin = perf_counter()
        function()
        times.append(perf_counter() - begin)
    return median(times[1:])  # the first makes room on the device


def decide(
    *,
    batch_nbytes: int,
    pinned_nbytes_needed: int,
    memory_budget_nbytes: int | None,
    free_device_nbytes: int,
    measure: Callable[[], CopyTimes | None],
    in_ring: bool = True,
    pin_memory: bool | None = None,
) -> Decision:
    """Decide by size, budget, a measurement and free device memory, in this order; log the reason once, at INFO.

    ``pin_memory`` is the user's word, which is obeyed; None leaves it to the rules. ``measure`` is called only where
    the rules before it leave pinning open. ``in_ring``: batches lie in buffers that are page-locked once, for all;
    else each is copied into page-locked memory first, and that counts. A stream needs pinning, for a pageable copy
    blocks the consumer's thread; up to ``AHEAD`` batches are copied early on it, as many as fit.
    """
    too_small = f"a batch of {batch_nbytes:,} bytes is below {MIN_BATCH_NBYTES:,}"
    small = batch_nbytes < MIN_BATCH_NBYTES
    ahead = 0
    if pin_memory is not None:
        pin, reason = pin_memory, f"pin_memory={pin_memory} was given"
    elif small:
        pin, reason = False, too_small
    elif memory_budget_nbytes is not None and pinned_nbytes_needed > memory_budget_nbytes:
        over = f"exceed the memory budget of {memory_budget_nbytes:,}"
        pin, reason = False, f"the {pinned_nbytes_needed:,} bytes to page-lock {over}"
    else:
        pin, reason = _pays(measure(), batch_nbytes, in_ring=in_ring)
    if pin:
        ahead, why = (0, f"no stream: {too_small}") if small else _fitting(batch_nbytes, free_device_nbytes)
        reason = f"{reason}; {why}"
    reason = f"{'page-locked' if pin else 'pageable'} copies: {reason}"
    _log.info("transfer: %s", reason)
    return Decision(pin, ahead > 0, ahead, reason)


def _pays(times: CopyTimes | None, batch_nbytes: int, *, in_ring: bool) -> tuple[bool, str]:
    """Whether page-locked memory is faster by enough, and why."""
    if times is None:
        return False, "this host cannot page-lock memory"
    pinned_s = times.pinned_s + (0 if in_ring else times.pinning_s)
    most_s = MAX_PINNED_RATIO * times.pageable_s
    pinned, pageable, most = (f"{seconds * 1e6:,.0f} us" for seconds in (pinned_s, times.pageable_s, most_s))
    reason = f"a batch of {batch_nbytes:,} bytes takes {pinned} page-locked, {pageable} pageable"
    return (True, reason) if pinned_s <= most_s else (False, f"{reason}, and pays from {most} down")


def _fitting(batch_nbytes: int, free_nbytes: int) -> tuple[int, str]:
    """How many batches to copy ahead, 0 for no stream, and why."""
    ahead = max(0, min(AHEAD, free_nbytes // DEVICE_SHARE // batch_nbytes - CONSUMER_BATCHES))
    batches = max(ahead, 1) + CONSUMER_BATCHES
    needed, free = f"{batches * batch_nbytes:,}", f"the device's {free_nbytes:,} free bytes"
    if ahead:
        return ahead, f"{ahead} ahead on a stream: {batches} batches take {needed} of {free}"
    return 0, f"no stream: {batches} batches would take {needed} bytes, more than 1/{DEVICE_SHARE} of {free}"


class Mover:
    """Moves the batches of one loader to ``device``. ``pin_memory``: the caller's word, None to decide.

    Raises DataError where ``device`` names no GPU that is there.
    """

    def __init__(self, device: str, *, memory_budget: int | None, pin_memory: bool | None) -> None:
        if torch.device(device).type != "cuda":
            raise DataError(f"device must be 'cpu', 'cuda' or 'cuda:N', but {device!r} came.")
        if not torch.cuda.is_available():
            raise DataError(f"device={device!r} needs a GPU, but torch sees none here. Use device='cpu'.")
        self._runtime = CudaRuntime(device)
        self._budget, self._pin_memory = memory_budget, pin_memory
        self.decision: Decision | None = None

    def delivered(self, batches: Iterator[Any], engine: Any, progress: Progress, made: Progress) -> Iterator[Any]:
        """``batches`` of ``engine`` on the device, counted in ``progress``; ``made`` counts them before that."""
        first = next(batches, _END)
        if first is _END:
            progress.done = True
            return
        if self.decision is None:
            self.decision = self._decide(first, engine)
        moved: Any = Transfer(chain([first], batches), self._runtime, self.decision)
        del first
        try:
            for batch in moved:
                progress.batches += 1
                progress.skipped = made.skipped if made.batches == progress.batches else progress.skipped
                yield batch
            progress.done = True
        finally:
            moved.close()
            if hasattr(batches, "close"):
                batches.close()

    def _decide(self, batch: Any, engine: Any) -> Decision:
        sizes = [getattr(leaf, "nbytes", 0) for leaf in leaves(batch)]
        batch_nbytes = max(1, sum(sizes))
        buffers = getattr(engine, "buffers", None)
        decision = decide(
            batch_nbytes=batch_nbytes,
            pinned_nbytes_needed=sum(map(pinned_nbytes, sizes)) * (buffers.plan.batches if buffers else 2),
            memory_budget_nbytes=self._budget,
            free_device_nbytes=self._runtime.free_nbytes,
            measure=partial(measure_copy, self._runtime, batch_nbytes),
            in_ring=buffers is not None,
            pin_memory=self._pin_memory,
        )
        if decision.pin and buffers is not None:
            buffers.empty = pinned_empty
        return decision
