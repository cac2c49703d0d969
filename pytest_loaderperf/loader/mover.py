"""The last stage of a loader whose batches arrive on a GPU: how they get there is measured, then decided.

Copies may be worth page-locked memory and a stream of their own; the first batch tells.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain
from statistics import median
from time import perf_counter
from timeit import repeat
from typing import Any

import torch

from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader.progress import Progress
from pytest_loaderperf.loader.transfer import (
    STEPS_AHEAD,
    CudaRuntime,
    Decision,
    leaves,
    pinned_empty,
    pinned_nbytes,
    transferred,
)

MIN_BATCH_NBYTES = 256 << 10  # at 25 GB/s a copy of 10 us, about what the events of a stream cost
MAX_PINNED_RATIO = 0.8  # of the pageable time: medians of a few copies differ by some 10 % without a cause
DEVICE_SHARE = 16  # batches take at most 1/16 of the free device memory: model and activations may come later
AHEAD = 2  # batches: one being copied, and one ready though the source came late
CONSUMER_BATCHES = STEPS_AHEAD + 2  # those of its queued steps, the one it is given, and the one it has yet to drop
MEASURED_NBYTES = 4 << 20  # bytes a measured copy moves at most: time grows in proportion from there
COPIES = 4  # copies timed together, so that waiting for the last weighs less
REPEATS = 5
_log = logging.getLogger("pytest_loaderperf")


def pays(runtime: CudaRuntime, nbytes: int, *, in_ring: bool) -> tuple[bool, str]:
    """Whether a batch of ``nbytes`` is copied faster by enough from page-locked memory, and why, by a measurement.

    ``in_ring``: batches lie in buffers that are page-locked once, for all; else each is copied into page-locked memory
    first, and that counts. Medians are scaled up from 4 MiB where the batch is larger.
    """
    pageable = torch.ones(min(nbytes, MEASURED_NBYTES), dtype=torch.uint8)
    try:
        pinned = runtime.pin(pageable)
    except RuntimeError:
        return False, "this host cannot page-lock memory"

    def copied_us(host: Callable[[], torch.Tensor]) -> float:
        def copies() -> None:
            for _ in range(COPIES):
                runtime.copy(host())
            runtime.record().synchronize()

        times_s = repeat(copies, timer=perf_counter, number=1, repeat=1 + REPEATS)
        return 1e6 * median(times_s[1:]) / COPIES * nbytes / pageable.nbytes  # the first makes room on the device

    pageable_us = copied_us(lambda: pageable)
    pinned_us = copied_us(lambda: pinned if in_ring else pinned.copy_(pageable))
    most_us = MAX_PINNED_RATIO * pageable_us
    times = f"{pinned_us:,.0f} us page-locked, {pageable_us:,.0f} us pageable"
    return pinned_us <= most_us, f"a batch of {nbytes:,} bytes takes {times}, and pays from {most_us:,.0f} us down"


class Mover:
    """Moves the batches of one loader to ``device``. ``pin_memory``: the caller's word, None to decide.

    Raises DataError where ``device`` names no GPU that is there.
    """

    def __init__(self, device: str, *, memory_budget: int | None, pin_memory: bool | None) -> None:
        if not re.fullmatch(r"cuda(:\d+)?", str(device)):
            raise DataError(f"device must be 'cpu', 'cuda' or 'cuda:N', got {device!r}.")
        if not torch.cuda.is_available():
            raise DataError(f"device={device!r} needs a GPU, but torch sees none here. Use device='cpu'.")
        self._runtime = CudaRuntime(device)
        self._budget, self._pin_memory = memory_budget, pin_memory
        self.decision: Decision | None = None

    def delivered(self, batches: Any, engine: Any, progress: Progress, made: Progress) -> Iterator[Any]:
        """``batches`` of ``engine`` on the device, counted in ``progress``; ``made`` counts them before that."""
        places: deque[tuple[int, int, Any]] = deque()  # of the batches that are on their way

        def counted(batch: Any) -> Any:
            places.append((made.batches, made.skipped, made.states))
            return batch

        source: Iterator[Any] = map(counted, batches)
        with closing(batches):
            if (first := next(source, None)) is not None:
                self.decision = self.decision or self._decide(first, engine)
                source, first = chain(iter([first]), source), None  # held by nobody once it is on its way
                with closing(transferred(source, self._runtime, self.decision)) as moved:
                    for batch in moved:
                        progress.batches, progress.skipped, progress.states = places.popleft()
                        yield batch
                        del batch
            progress.done = True

    def _decide(self, batch: Any, engine: Any) -> Decision:
        """By the user's word, size, budget, a measurement and free device memory, in this order; log the reason.

        A stream needs pinning, for a pageable copy blocks the consumer's thread; up to ``AHEAD`` batches are copied
        early on it, as many as fit. Where pinning is chosen, the buffers of ``engine`` are page-locked from now on.
        """
        sizes = [getattr(leaf, "nbytes", 0) for leaf in leaves(batch)]
        nbytes, buffers = sum(sizes), getattr(engine, "buffers", None)
        locked_nbytes = sum(map(pinned_nbytes, sizes)) * (buffers.plan.batches if buffers else 2)
        too_small = f"a batch of {nbytes:,} bytes is below {MIN_BATCH_NBYTES:,}" if nbytes < MIN_BATCH_NBYTES else ""
        if self._pin_memory is not None:
            pin, reason = self._pin_memory, f"pin_memory={self._pin_memory} was given"
        elif too_small:
            pin, reason = False, too_small
        elif self._budget is not None and locked_nbytes > self._budget:
            pin, reason = False, f"the {locked_nbytes:,} bytes to page-lock exceed memory_budget={self._budget:,}"
        else:
            pin, reason = pays(self._runtime, nbytes, in_ring=buffers is not None)
        ahead = 0
        if pin and too_small:
            reason = f"{reason}; no stream: {too_small}"
        elif pin:
            free_nbytes = self._runtime.free_nbytes
            fitting = free_nbytes // DEVICE_SHARE // nbytes
            ahead = max(0, min(AHEAD, fitting - CONSUMER_BATCHES))
            room = f"1/{DEVICE_SHARE} of the device's {free_nbytes:,} free bytes holds {fitting} batches"
            reason = f"{reason}; {ahead} ahead on a stream: {room}, and the consumer has up to {CONSUMER_BATCHES}"
        reason = f"{'page-locked' if pin else 'pageable'} copies: {reason}"
        _log.info("transfer: %s", reason)
        if pin and buffers is not None:
            buffers.empty = pinned_empty
        return Decision(pin, ahead, reason)
