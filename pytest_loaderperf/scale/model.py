"""The model: ranks that load ahead, and begin each step together.

Each rank has ``workers`` that make its batches in turn, at most ``prefetch`` ahead of the training loop. A step begins
when the slowest rank has its batch, as with synchronous gradients, and takes the same time on all ranks. Without
prefetch, a batch is made when it is requested, and its time adds to the step.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]


class Job(NamedTuple):
    """``ranks`` that train together. ``block``: how many batches in a row a rank takes from a record, on average."""

    ranks: int
    prefetch: int
    workers: int
    step_s: float
    block: float


def settling_steps(job: Job) -> int:
    """Steps until it no longer matters that all prefetch was empty at the start."""
    return 2 * job.prefetch + 20


def waits(work_s: Floats, job: Job, steps: int, copies: int, rng: np.random.Generator) -> Floats:
    """Seconds that each step waits for its slowest rank; shape (sets, copies, steps).

    ``work_s``: seconds of work for each batch in a row, shape (sets, batches). Each of ``copies`` independent jobs a
    set runs ``steps`` after those in which it settles. Each rank begins at a random place of its set, and moves to
    another one after each block.
    """
    sets, batches = work_s.shape
    shape = (sets, copies, job.ranks)
    flat, first = work_s.ravel(), (np.arange(sets) * batches)[:, None, None]
    place = rng.integers(batches, size=shape)
    settling = settling_steps(job)
    found = np.empty((settling + steps, sets, copies))
    lanes = min(job.workers, job.prefetch)
    made_s = np.zeros((max(1, lanes), *shape))  # when the worker whose turn it is has made its last batch
    taken_s = np.zeros((max(1, job.prefetch), *shape))  # when the batch was taken that makes room for this one
    ready_s, now_s = np.zeros((sets, copies)), np.zeros((sets, copies))
    for step in range(settling + steps):
        work = flat[first + place]
        if job.prefetch:
            lane, room = step % lanes, step % job.prefetch
            np.maximum(made_s[lane], taken_s[room], out=made_s[lane])
            made_s[lane] += work
            np.maximum(made_s[lane], now_s[..., None], out=taken_s[room])
            ready_s = taken_s[room].max(axis=-1)
        else:
            ready_s = now_s + work.max(axis=-1)
        found[step] = ready_s - now_s
        now_s = ready_s + job.step_s
        place += 1
        place[place == batches] = 0
        _jump(place, job.block, batches, rng)
    return np.moveaxis(found[settling:], 0, -1)


def _jump(place: np.ndarray[Any, np.dtype[np.int64]], block: float, batches: int, rng: np.random.Generator) -> None:
    """Move to other places those ranks whose block ends; the number of those, and then which, are drawn."""
    if block <= 1:
        place[...] = rng.integers(batches, size=place.shape)
        return
    flat = place.reshape(-1)
    which = np.flatnonzero(rng.random(flat.size, dtype=np.float32) < 1 / block)
    flat[which] = rng.integers(batches, size=len(which))


def work_of(latencies_s: Floats, workers: int, prefetch: int) -> Floats:
    """Seconds of work for each batch, from how long each was waited for by a consumer that does nothing else.

    With one worker, or without one, these are the same. Several workers make batches at the same time: the work of a
    batch began when its worker had made the one before, or when there was room for it, and ended when it was received,
    if the consumer waited for it. A batch that was ready before is taken to be a typical one.
    """
    lanes = min(workers, prefetch)
    if lanes <= 1 or len(latencies_s) <= prefetch:
        return latencies_s
    received_s = np.concatenate([[0.0], np.cumsum(latencies_s)])
    typical_s = float(np.median(received_s[lanes:] - received_s[:-lanes]))
    ready_s = _READY * typical_s
    made_s, work_s = received_s.copy(), np.zeros(len(received_s))
    for batch in range(prefetch, len(received_s)):
        began_s = max(received_s[batch - prefetch], made_s[batch - lanes])
        if latencies_s[batch - 1] < ready_s:
            made_s[batch] = min(received_s[batch], began_s + typical_s)
        work_s[batch] = made_s[batch] - began_s
    return work_s[prefetch:]


_READY = 0.02  # of the typical work: a batch that is received sooner after the one before was ready
