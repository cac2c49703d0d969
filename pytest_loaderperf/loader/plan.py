"""How many threads, how far ahead, and what it takes of memory: decided from shapes, dtypes and the budget alone."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_loaderperf.data.execution.executor import MAX_DEFAULT_WORKERS
from pytest_loaderperf.errors import DataError

CHUNK_NBYTES = 3 << 19  # bytes gathered by one task: hides the ~20 us that a hand-over between threads costs
HANDOVER_NBYTES = 512 << 10  # below this, a chunk is gathered sooner than it is handed over: no threads
INLINE_NBYTES = 128 << 10  # bytes gathered at once where there are no threads: hides the cost of small calls
EPOCH_SHARE = 3  # buffers hold at most a third of an epoch
SPARE_CHUNKS = 2  # tasks queued beyond one a worker, so that a worker never waits for the consumer to bring it one
SPARE_BATCHES = 2  # beyond what is prefetched: the batch in the consumer's hands, and the one it is about to drop
PREFETCH_FACTOR = 2  # batches a worker has in flight, as in torch


@dataclass(frozen=True, slots=True)
class Plan:
    """``workers`` threads (0: none); ``ahead`` tasks of ``chunk`` batches each begun before they are due."""

    workers: int
    ahead: int
    chunk: int

    @property
    def batches(self) -> int:
        """Batches that the buffers hold at most, beyond those that the consumer keeps."""
        return self.chunk * (self.ahead + SPARE_BATCHES)

    @property
    def depth(self) -> int:
        """Batches that may be ready before they are asked for."""
        return self.batches - SPARE_BATCHES


@dataclass(frozen=True, slots=True)
class Memory:
    """What a loader allocates, in bytes: ``batch`` for one batch, ``buffers`` for all of them, ``order`` for an epoch's
    indices; ``pinned`` says how much of it is page-locked. None: not known before the first sample.
    """

    batch: int | None
    buffers: int | None
    pinned: int
    order: int


def plan_arrays(
    batch_nbytes: int,
    batches: int | None,
    *,
    workers: int | None,
    prefetch_factor: int | None,
    cores: int,
    budget: int | None,
    single: bool,
) -> Plan:
    """The plan for gathering batches of ``batch_nbytes``, ``batches`` an epoch (None: unknown), on ``cores`` cores.

    ``single``: tasks are single batches, for they vary in size. Raises DataError where two batches exceed ``budget``.
    """
    most = _batches_within(budget, batch_nbytes)

    def chunk_of(nbytes: int, ahead: int) -> int:
        share = most if batches is None else min(most, batches // EPOCH_SHARE)
        return 1 if single else max(1, min(nbytes // max(1, batch_nbytes), share // (ahead + SPARE_BATCHES)))

    inline = Plan(0, 0, chunk_of(INLINE_NBYTES, 0))
    chosen = workers
    workers = min(MAX_DEFAULT_WORKERS, cores) - 1 if workers is None else workers
    if workers == 0 or most <= SPARE_BATCHES:
        return inline
    ahead = workers + SPARE_CHUNKS
    if prefetch_factor is not None:
        held = min(workers * prefetch_factor + SPARE_BATCHES, most)
        chunk = 1 if single else max(1, held // (ahead + SPARE_BATCHES))
        return Plan(workers, held // chunk - SPARE_BATCHES, chunk)
    ahead = min(ahead, most - SPARE_BATCHES)
    chunk = chunk_of(CHUNK_NBYTES, ahead)
    if chosen is None and chunk * batch_nbytes < HANDOVER_NBYTES:
        return inline
    return Plan(workers, ahead, chunk)


def plan_samples(workers: int, prefetch_factor: int | None) -> Plan:
    """The plan for fetching samples on ``workers`` threads: by default a batch in each, and one that waits."""
    return Plan(workers, workers * (prefetch_factor or 1), 1)


def within(plan: Plan, batch_nbytes: int, budget: int | None) -> Plan:
    """``plan`` with as little ahead as ``budget`` asks for, now that a batch's size is known. Raises DataError."""
    depth = min(plan.depth, _batches_within(budget, batch_nbytes) - SPARE_BATCHES)
    return Plan(plan.workers, depth, 1) if depth < plan.depth else plan


def _batches_within(budget: int | None, batch_nbytes: int) -> int:
    if budget is None:
        return 1 << 62
    most = budget // max(1, batch_nbytes)
    if most < SPARE_BATCHES:
        raise DataError(
            f"memory_budget={budget:,} bytes holds less than {SPARE_BATCHES} batches of {batch_nbytes:,} bytes, which "
            f"is the least a loader needs. Give at least {SPARE_BATCHES * batch_nbytes:,}, or a smaller batch_size."
        )
    return most
