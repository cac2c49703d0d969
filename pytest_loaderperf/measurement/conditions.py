"""What must be the same for every side while it is observed: threads, CPUs, and no garbage collection."""

from __future__ import annotations

import gc
import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Self

import torch

from pytest_loaderperf.measurement.tracing import untraced


def usable_cpus() -> frozenset[int]:
    """Numbers of the CPUs that this thread may run on; empty if the system does not say."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


@contextmanager
def collector_kept() -> Iterator[None]:
    """After this block the garbage collector is on, or off, as it was before."""
    was_on = gc.isenabled()
    try:
        yield
    finally:
        (gc.enable if was_on else gc.disable)()


@contextmanager
def draws_kept() -> Iterator[None]:
    """After this block the generators of random, NumPy and torch are in the state before it."""
    python, numpy = random.getstate(), sys.modules.get("numpy")
    of_numpy = None if numpy is None else numpy.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(of_numpy)


@dataclass(frozen=True, slots=True)
class Conditions:
    """torch's number of threads, and the CPUs that the measuring thread may run on."""

    torch_threads: int
    cpus: frozenset[int]

    @classmethod
    def now(cls) -> Self:
        """As they are."""
        return cls(torch.get_num_threads(), usable_cpus())

    def on_one_cpu(self, order: random.Random) -> Conditions:
        """The same on one randomly drawn CPU: for sides in several processes that take turns.

        Other programs make some CPUs slower than others, which would affect only the side on such a CPU.
        """
        return replace(self, cpus=frozenset({order.choice(sorted(self.cpus))})) if self.cpus else self

    def restore(self) -> None:
        """Reset what a loader has changed, and only that: setting the number of threads again would start threads."""
        if torch.get_num_threads() != self.torch_threads:
            torch.set_num_threads(self.torch_threads)
        if usable_cpus() != self.cpus:
            with suppress(OSError):  # this process may no longer use them
                os.sched_setaffinity(0, self.cpus)

    def impose(self) -> None:
        """Reset what a loader has changed, for measuring with the collector off."""
        self.restore()
        gc.disable()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Measure within this block, untraced."""
        with collector_kept(), untraced():
            self.impose()
            yield


class SignalHandlers:
    """The handlers of signals that end or time this process, as they are now; main thread only."""

    def __init__(self) -> None:
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS if number is not None}

    def restore(self) -> None:
        """Reset what a loader has changed, except handlers that were not set from Python."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


# Not SIGCHLD, by which torch watches its workers, for good.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGALRM", None))
