"""Loaders whose batches take a known number of equal operations, so the ratio of their throughputs is known."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count, repeat
from queue import Empty, Queue
from threading import Event, Thread
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

BATCHES = 2000  # an epoch: 3 s by two workers at 3 ms a batch, so that most trials are within one
WORKER_SAMPLES = 4  # a batch that workers make
BURST_EVERY = 50  # batches, of each worker
BURST_COST = 25  # ordinary batches
_QUEUED = 2  # batches a thread may be ahead, as torch's prefetch_factor
_POLL_SECONDS = 0.01
_TIMED_OPERATIONS = 20_000  # of the unit of work; 4 ms if an operation is slow
_TIMINGS = 20  # the fastest counts: the others were disturbed


@dataclass(frozen=True, slots=True)
class Work:
    """What a loader does: ``operations`` for an ordinary batch, of the kind of ``spend``.

    ``workers`` processes make the batches, or ``threads`` threads, or the asking thread if both are 0. With
    ``bursts`` one batch in 50 takes as long as 25, as when a shuffle buffer is refilled. ``handover``: operations of
    the main process to receive a batch of ``workers``.

    Throughput is inversely proportional to ``operations``, with or without bursts, as long as ``handover`` is 0.
    Sampling, collating and handing over a batch of workers take about 60 us in a worker and 90 us in the main process,
    2 to 5 % of a batch of 3 ms: a slowdown by 10 % is one by 9.5 to 9.8 %. The same work takes exactly the same time.
    """

    operations: int
    workers: int = 0
    threads: int = 0
    bursts: bool = False
    handover: int = 0

    def times(self, factor: float) -> Work:
        """So many times the operations of a batch."""
        return replace(self, operations=round(self.operations * factor))

    def lasting(self, batch_ms: float) -> Work:
        """The same, with as many operations as take ``batch_ms`` on this machine now."""
        rate = operations_a_second(releases_gil=bool(self.threads))
        return replace(self, operations=max(1, round(rate * batch_ms * 1e-3)))

    def loader(self) -> Iterable[Any]:
        """A loader that does this."""
        if self.threads:
            return ThreadedBatches(self)
        if not self.workers:
            return InlineBatches(self)
        return DataLoader(
            KnownSamples(self),
            batch_size=WORKER_SAMPLES,
            num_workers=self.workers,
            collate_fn=HandedOver(self.handover) if self.handover else np.asarray,
        )

    def operations_of(self, batch: int) -> int:
        """The operations of the batch of that number in its epoch."""
        turn = batch // max(1, self.workers)  # of the worker that makes it
        return self.operations * (BURST_COST if self.bursts and turn % BURST_EVERY == BURST_EVERY - 1 else 1)


def make_loader(**work: Any) -> Iterable[Any]:
    """The loader of ``Work(**work)``: a factory that another process can import."""
    return Work(**work).loader()


def spend(operations: int, *, releases_gil: bool = False) -> None:
    """Take the time of so many equal operations, without memory access, so the placement of memory has no effect.

    ``releases_gil``: operations of another kind, which threads can do in parallel.
    """
    if releases_gil:
        hashlib.pbkdf2_hmac("sha256", b"", b"", operations)
    else:
        deque(repeat(None, operations), maxlen=0)


def operations_a_second(*, releases_gil: bool = False) -> float:
    """How many operations a second this machine does at its fastest."""

    def seconds() -> float:
        began_s = time.perf_counter()
        spend(_TIMED_OPERATIONS, releases_gil=releases_gil)
        return time.perf_counter() - began_s

    return _TIMED_OPERATIONS / min(seconds() for _ in range(_TIMINGS))


class InlineBatches:
    """Batches of one sample, made by the asking thread."""

    def __init__(self, work: Work) -> None:
        self._work, self._batch = work, np.zeros(1)

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[np.ndarray]:
        for number in range(BATCHES):
            spend(self._work.operations_of(number))
            yield self._batch


class ThreadedBatches:
    """Batches of one sample, made by new threads in each epoch, and taken from a bounded queue."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[np.ndarray]:
        done: Queue[np.ndarray] = Queue(_QUEUED * self._work.threads)
        numbers, stopped = count(), Event()

        def fill() -> None:
            while (number := next(numbers)) < BATCHES and not stopped.is_set():
                spend(self._work.operations_of(number), releases_gil=True)
                done.put(np.zeros(1))

        threads = [Thread(target=fill, name="known-work", daemon=True) for _ in range(self._work.threads)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(BATCHES):
                yield done.get()
        finally:
            stopped.set()
            while any(thread.is_alive() for thread in threads):
                with suppress(Empty):
                    done.get(timeout=_POLL_SECONDS)  # one of them may be waiting for room


class KnownSamples(Dataset[int]):
    """A map-style dataset whose samples share the operations of their batch; read in sequence."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def __len__(self) -> int:
        return BATCHES * WORKER_SAMPLES

    def __getitem__(self, index: int) -> int:
        spend(self._work.operations_of(index // WORKER_SAMPLES) // WORKER_SAMPLES)
        return index


class HandedOver:
    """A collate function whose batches take so many operations to unpickle, in the receiving process."""

    def __init__(self, operations: int) -> None:
        self._operations = operations

    def __call__(self, samples: Sequence[int]) -> DearBatch:
        return DearBatch(samples, self._operations)


class DearBatch:
    """Samples on their way to the main process, where they become an array."""

    def __init__(self, samples: Sequence[int], operations: int) -> None:
        self._samples, self._operations = samples, operations

    def __len__(self) -> int:
        return len(self._samples)

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self._samples, self._operations)


def _received(samples: Sequence[int], operations: int) -> np.ndarray:
    spend(operations)
    return np.asarray(samples)
