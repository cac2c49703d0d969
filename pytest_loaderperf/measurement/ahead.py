"""Whether a loader works in the background: on a thread pool that existed before it, or on another machine.

New threads and processes are noticed when they start. An older pool is recognised by threads that use CPU time while
the consumer sleeps, and by batches that are ready after a pause, but not without one.
"""

from __future__ import annotations

import math
import os
import statistics
import threading
import time
from typing import Any

import torch

from pytest_loaderperf.measurement.activity import thread_cpu_ns, thread_ids
from pytest_loaderperf.measurement.record import SteadyRecord

_OTHERS_SHARE = 0.1  # of the time: what other threads of this process may use as the interpreter's own
_OWN_SHARE = 0.5  # of the time that the consumer runs, if it makes its batches itself and does not wait for a disk
_BATCHES = 8  # without a pause; the later ones are not ready
_PAUSES = 3
_MOMENTS, _MOMENT_SECONDS, _MOMENT_SHARE = 5, 0.001, 0.1  # pauses, of which each is too short for a batch
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.01, 0.15
_PAUSE_BATCHES = 3.0  # a pause in which a loader that works in the background makes some
_BURNED = 0.05  # of a pause, by other threads; reading their clocks and the watchdog take about 0.3 ms
_BURNED_AT_FIRST = 0.2  # of the first pause: it is measured only once
_READY = 0.3  # of the time that a batch takes without a pause: a ready one takes at most this
_SHORTEST_BATCH_SECONDS = 1e-4  # a ready batch looks the same as one that is made this fast
_PARALLEL_ELEMENTS = 1 << 17  # from some 2^15 on torch uses all its threads
_PARALLEL_NS = 200_000  # CPU time that shows that a thread works for torch
_UNASKED_PAUSES = 5  # a thread that works in all of these works in every pause
_LONGEST_PARALLEL_SECONDS = 2.0  # on a busy machine a thread waits for a core; once in a process


class Clocks:
    """The CPU time of the asking thread and of the other threads of this process, since it was made."""

    __slots__ = ("_own_ns", "_process_ns", "_wall_ns")

    def __init__(self) -> None:
        self._wall_ns, self._process_ns, self._own_ns = (
            time.perf_counter_ns(),
            time.process_time_ns(),
            time.thread_time_ns(),
        )

    def shares(self) -> tuple[float, float]:
        """The shares of the elapsed time in which the asking thread ran, and in which others ran."""
        own_ns = time.thread_time_ns() - self._own_ns
        others_ns = time.process_time_ns() - self._process_ns - own_ns
        wall_ns = max(1, time.perf_counter_ns() - self._wall_ns)
        return own_ns / wall_ns, others_ns / wall_ns

    @property
    def suspicious(self) -> bool:
        """Whether other threads may have made the batches that were requested meanwhile."""
        own, others = self.shares()
        return others > _OTHERS_SHARE or own < _OWN_SHARE

    @property
    def others_run(self) -> bool:
        """Whether other threads of this process worked much meanwhile."""
        return self.shares()[1] > _OTHERS_SHARE


def works_in_a_pause() -> bool:
    """Whether other threads of this process, except torch's, work while the asking one sleeps for a moment.

    After the first batch of an epoch, this also finds loaders whose epoch is so small that all of it is ready soon.
    """
    before = thread_cpu_ns()
    time.sleep(_SHORTEST_PAUSE_SECONDS)
    least_ns = _BURNED_AT_FIRST * _SHORTEST_PAUSE_SECONDS * 1e9
    after = thread_cpu_ns()
    return _burned_ns(before, after) > least_ns and _burned_ns(before, after, torch_threads()) > least_ns


def runs_ahead(side: Any, batch_seconds: float) -> bool:
    """Whether other threads work for ``side``, a batch of which takes ``batch_seconds``, also in pauses.

    torch's own threads do not count: they only work on request.
    """
    if batch_seconds * _PAUSE_BATCHES > _LONGEST_PAUSE_SECONDS:
        return False  # the test would take seconds
    time.sleep(_SHORTEST_PAUSE_SECONDS)  # in which others fill their prefetch
    torchs = torch_threads()
    before, began_s = thread_cpu_ns(), time.perf_counter()
    waits_ns: list[int] = []
    while time.perf_counter() - began_s < _SHORTEST_PAUSE_SECONDS or len(waits_ns) < _BATCHES:
        if (record := _next(side)) is None:
            break
        waits_ns.append(record.wall_ns)
    if _burned_ns(before, thread_cpu_ns(), torchs) > _OTHERS_SHARE * (time.perf_counter() - began_s) * 1e9:
        return True
    usual_ns = statistics.median(waits_ns[len(waits_ns) // 2 :]) if waits_ns else 0  # the first ones may be ready
    ready_ns = 0.0
    if usual_ns > _SHORTEST_BATCH_SECONDS * 1e9:
        ready_ns = _READY * min(usual_ns, _after_moments_ns(side, usual_ns))
    pause_s = max(_SHORTEST_PAUSE_SECONDS, _PAUSE_BATCHES * batch_seconds)
    burned = ready = 0
    for _ in range(_PAUSES):
        before = thread_cpu_ns()
        time.sleep(pause_s)
        burned += _burned_ns(before, thread_cpu_ns(), torchs) > _BURNED * pause_s * 1e9
        record = _next(side)
        ready += record is not None and record.wall_ns < ready_ns
    return burned > 1 or ready == _PAUSES


def _after_moments_ns(side: Any, usual_ns: float) -> float:
    """How long a batch, which usually takes ``usual_ns``, takes after pauses that are too short to make one.

    On a busy machine a thread that has slept even shortly gets a core immediately, and is many times as fast as
    one that has used up its share.
    """
    waits_ns: list[int] = []
    for _ in range(_MOMENTS):
        time.sleep(min(_MOMENT_SECONDS, _MOMENT_SHARE * usual_ns * 1e-9))
        if (record := _next(side)) is not None:
            waits_ns.append(record.wall_ns)
    return sorted(waits_ns)[-2] if len(waits_ns) == _MOMENTS else math.inf  # batches may come in bursts


def _next(side: Any) -> SteadyRecord | None:
    """The next batch, while the epoch lasts."""
    taken: SteadyRecord | None = side.take(1) if side.more_in_epoch(1) else None
    return taken


def _burned_ns(before: dict[int, int], after: dict[int, int], torchs: frozenset[int] = frozenset()) -> int:
    """CPU time from ``before`` to ``after`` of all threads except the asking one and torch's."""
    mine = {threading.get_native_id(), *torchs}
    return sum(ns - before.get(thread, 0) for thread, ns in after.items() if thread not in mine)


def torch_threads() -> frozenset[int]:
    """The threads on which torch does one operation in parallel for the asking one, which is among them.

    The first call in this process starts them. It must happen before a loader works, which might use them. So they are
    searched once, and again only if another thread asks, or if one of them has ended, as when torch temporarily has
    fewer.
    """
    key = os.getpid(), torch.get_num_threads()
    found = _torchs.get(key, frozenset())
    if threading.get_native_id() not in found or not found <= thread_ids():
        found = _torchs[key] = _look_for_torchs(key[1])
    return found


_torchs: dict[tuple[int, int], frozenset[int]] = {}  # by process, as a fork has its parent's dict, and their number


def _look_for_torchs(threads: int) -> frozenset[int]:
    numbers = torch.ones(_PARALLEL_ELEMENTS)
    began_s, mine, unasked = time.perf_counter(), threading.get_native_id(), _busy_unasked()
    before = thread_cpu_ns()
    found = frozenset({mine})
    while len(found) < threads and time.perf_counter() - began_s < _LONGEST_PARALLEL_SECONDS:
        numbers.sum()
        if not before:  # the system does not tell
            break
        ran_ns = {thread: ns - before.get(thread, 0) for thread, ns in thread_cpu_ns().items()}
        found = frozenset(thread for thread, ns in ran_ns.items() if ns > _PARALLEL_NS) - unasked | {mine}
    return found


def _busy_unasked() -> frozenset[int]:
    """The other threads that keep working while the asking one sleeps.

    torch's threads spin for some milliseconds of CPU time after a request, which on a busy machine may take far longer.
    """
    busy: frozenset[int] | None = None
    for _ in range(_UNASKED_PAUSES):
        before = thread_cpu_ns()
        time.sleep(_SHORTEST_PAUSE_SECONDS)
        ran = frozenset(thread for thread, ns in thread_cpu_ns().items() if ns - before.get(thread, ns) > _PARALLEL_NS)
        busy = ran if busy is None else busy & ran
        if not busy:
            break
    return busy or frozenset()
