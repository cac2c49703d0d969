"""Cores for each rank of a host, drawn anew for each trial: a core that others slow down slows no rank lastingly."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from pytest_loaderperf.measurement.activity import child_pids, descendants

Cores = frozenset[int]


def drawn_cores(hosts: Sequence[str], cores: Sequence[Cores], order: random.Random) -> list[Cores]:
    """The cores of each rank, as many for each on a host. Where there are fewer than ranks, some share one.

    Ranks that the launcher has given different cores, and those of a host with one core, keep all of theirs.
    """
    drawn = list(cores)
    for host in dict.fromkeys(hosts):
        ranks = [rank for rank, its in enumerate(hosts) if its == host]
        free = sorted(cores[ranks[0]])
        if len(free) < 2 or any(cores[rank] != cores[ranks[0]] for rank in ranks):  # noqa: PLR2004 one is no choice
            continue
        order.shuffle(free)
        each = max(1, len(free) // len(ranks))
        for place, rank in enumerate(order.sample(ranks, len(ranks))):
            first = place * each % len(free)
            drawn[rank] = frozenset(free[first : first + each])
    return drawn


@contextmanager
def on_cores(cores: Cores) -> Iterator[None]:
    """In this block this process and its descendants, with all their threads, run on ``cores``; empty: anywhere."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    own = os.sched_getaffinity(0)
    before = {task: os.sched_getaffinity(task) for task in _tasks()}
    _run_on(dict.fromkeys(before, cores))
    try:
        yield
    finally:
        _run_on({task: before.get(task, own) for task in _tasks()})


def _tasks() -> list[int]:
    """The threads of this process and of those that descend from it."""
    found: list[int] = []
    for pid in (os.getpid(), *descendants(child_pids())):
        with suppress(OSError):  # it has ended
            found += map(int, os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208 cheaper
    return found


def _run_on(cores: dict[int, Cores] | dict[int, set[int]]) -> None:
    for task, its in cores.items():
        with suppress(OSError):  # it has ended, or may no longer use them
            os.sched_setaffinity(task, its)
