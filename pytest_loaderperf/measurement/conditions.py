"""What must be the same for every side while it is observed: threads, CPUs, and no garbage collection."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Self

import torch


def usable_cpus() -> frozenset[int]:
    """Numbers of the CPUs that this thread may run on; none where the system does not say."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()


@dataclass(frozen=True, slots=True)
class Conditions:
    """torch's number of threads, and the CPUs that the measuring thread may run on."""

    torch_threads: int
    cpus: frozenset[int]

    @classmethod
    def now(cls) -> Self:
        """As they are."""
        return cls(torch.get_num_threads(), usable_cpus())

    def restore(self) -> None:
        """Put back what a loader has changed, and only that: setting the number of threads anew would start threads."""
        if torch.get_num_threads() != self.torch_threads:
            torch.set_num_threads(self.torch_threads)
        if usable_cpus() != self.cpus:
            with suppress(OSError):  # they have been taken from this process meanwhile
                os.sched_setaffinity(0, self.cpus)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Observe within this block."""
        self.restore()
        was_on = gc.isenabled()
        gc.disable()
        try:
            yield
        finally:
            if was_on:
                gc.enable()
