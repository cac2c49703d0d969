"""How long the workers of a Ray Train loop wait for their batches."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from pytest_loaderperf.errors import MeasureError
from pytest_loaderperf.report.ray_train import wait_lines

Batch = TypeVar("Batch")
Record = dict[str, Any]
_NS = 1e9  # in a second
_WIDTH = 100  # columns of the table: a worker has no terminal
_PATIENCE_SECONDS = 60.0  # to collect records of workers that have all arrived


def measure_in_ray_train(batches: Iterable[Batch]) -> TrainLoop[Batch]:
    """``batches`` of a loop in ``train_loop_per_worker``, with the time that the loop waits for each.

    Iterate over it, also for several epochs, and call ``result()`` on every worker at the end. Raises MeasureError
    outside a Ray Train loop.
    """
    import ray.train

    try:
        context = ray.train.get_context()
        rank, size = context.get_world_rank(), context.get_world_size()
    except Exception as error:  # of several types, by version of Ray
        raise MeasureError(
            "measure_in_ray_train: expected to be called in the train_loop_per_worker of a Ray Train trainer, got no "
            f"training context ({type(error).__name__}). Call it there, or measure the loader alone with measure(...)."
        ) from error
    return TrainLoop(batches, rank, size)


class TrainLoop(Generic[Batch]):
    """Iterating gives ``batches`` unchanged. A wait is from the end of a step, where the loop asks for the next batch,
    to that batch. The first step of each epoch is excluded from waits and steps, because it includes the start.

    ``clock``: integer nanoseconds.
    """

    def __init__(
        self, batches: Iterable[Batch], rank: int, size: int, clock: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self._batches, self._rank, self._size, self._clock = batches, rank, size, clock
        self._waits_ns: list[int] = []
        self._steps_ns: list[int] = []
        self._firsts_ns: list[int] = []

    def __iter__(self) -> Iterator[Batch]:
        asked_ns = self._clock()
        is_first = True
        for batch in self._batches:
            got_ns = self._clock()
            yield batch
            done_ns = self._clock()
            if is_first:
                self._firsts_ns.append(got_ns - asked_ns)
            else:
                self._waits_ns.append(got_ns - asked_ns)
                self._steps_ns.append(done_ns - got_ns)
            is_first, asked_ns = False, self._clock()

    def result(self) -> dict[str, Any]:
        """The waits of all workers, on each worker; every worker must call it. Rank 0 prints them as a table.

        ``workers``: by rank, each with ``rank``, ``host``, ``steps`` (without first ones), ``data_wait`` (waits over
        waits and steps), and in seconds ``mean_wait_seconds``, ``mean_step_seconds`` and ``first_batch_seconds`` (the
        median of the epochs'). ``data_wait``: the largest of the workers, because the others wait for that worker.
        ``skew``: the largest mean wait over the median of the workers; None if the median is 0.

        Raises MeasureError on all workers if one of them did fewer than two steps in every epoch.
        """
        found = summary(_gathered(self.record(), self._rank, self._size))
        if self._rank == 0:
            # Not print: Ray Train replaces it by one that prints twice.
            sys.stdout.write("".join(f"{line.text}\n" for line in wait_lines(found, _WIDTH)))
            sys.stdout.flush()
        return found

    def record(self) -> Record:
        """What this worker measured, in plain types."""
        import ray.util

        steps = len(self._waits_ns)
        waits_s, steps_s = sum(self._waits_ns) / _NS, sum(self._steps_ns) / _NS
        return {
            "rank": self._rank,
            "host": ray.util.get_node_ip_address(),
            "steps": steps,
            "data_wait": waits_s / (waits_s + steps_s) if waits_s + steps_s else 0.0,
            "mean_wait_seconds": waits_s / max(1, steps),
            "mean_step_seconds": steps_s / max(1, steps),
            "first_batch_seconds": statistics.median(self._firsts_ns or [0]) / _NS,
        }


def summary(workers: list[Record]) -> dict[str, Any]:
    """The result of the loop from the records of all workers, by rank. Raises MeasureError for one without steps."""
    if idle := [one for one in workers if not one["steps"]]:
        where = ", ".join(f"rank {one['rank']} on {one['host']}" for one in idle)
        raise MeasureError(
            "expected at least 2 steps in an epoch of each worker, because the first is excluded, got fewer on "
            f"{where}. Iterate over what measure_in_ray_train returns, with more batches."
        )
    waits = [one["mean_wait_seconds"] for one in workers]
    median = statistics.median(waits)
    return {
        "data_wait": max(one["data_wait"] for one in workers),
        "skew": max(waits) / median if median else None,
        "workers": workers,
    }


def _gathered(record: Record, rank: int, size: int) -> list[Record]:
    """The records of all workers, by rank."""
    import ray
    from ray.train.collective import broadcast_from_rank_zero

    meeting = ray.remote(num_cpus=0)(_Meeting).remote(size) if rank == 0 else None
    meeting = broadcast_from_rank_zero(meeting)  # all have arrived
    found: list[Record] = ray.get(meeting.gather.remote(rank, record), timeout=_PATIENCE_SECONDS)
    broadcast_from_rank_zero(None)  # the meeting ends with the rank that made it
    return found


class _Meeting:
    """An actor in which all workers leave their record, and get all of them."""

    def __init__(self, size: int) -> None:
        self._size, self._records, self._complete = size, dict[int, Record](), asyncio.Event()

    async def gather(self, rank: int, record: Record) -> list[Record]:
        self._records[rank] = record
        if len(self._records) == self._size:
            self._complete.set()
        await self._complete.wait()
        return [self._records[one] for one in sorted(self._records)]
