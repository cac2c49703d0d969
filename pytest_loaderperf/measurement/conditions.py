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
    """Numbers of the CPUs that this thread may run on; none where the system does not say."""
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
    """After this block random, NumPy and torch go on drawing as if nobody had drawn, or seeded them, within it."""
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
        """The like on one of the CPUs, which is drawn: for sides in several processes, one of which is on at a time.

        Each CPU has a neighbour of its own on the same core, and a process that stays on one of them suffers alone.
        """
        return replace(self, cpus=frozenset({order.choice(sorted(self.cpus))})) if self.cpus else self

    def restore(self) -> None:
        """Put back what a loader has changed, and only that: setting the number of threads anew would start threads."""
        if torch.get_num_threads() != self.torch_threads:
            torch.set_num_threads(self.torch_threads)
        if usable_cpus() != self.cpus:
            with suppress(OSError):  # they have been taken from this process meanwhile
                os.sched_setaffinity(0, self.cpus)

    def impose(self) -> None:
        """Put back what a loader has changed, the collector being off, for observing."""
        self.restore()
        gc.disable()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Observe within this block, untraced."""
        with collector_kept(), untraced():
            self.impose()
            yield


class SignalHandlers:
    """How this process answers the signals that end or time it, as it was when this was made; main thread only."""

    def __init__(self) -> None:
        self._handlers = {number: signal.getsignal(number) for number in _SIGNALS if number is not None}

    def restore(self) -> None:
        """Put back what a loader has changed. Handlers that were not set from Python cannot be, and stay."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number, handler in self._handlers.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


# Not SIGCHLD, by which torch watches its workers, for good.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGALRM", None))
