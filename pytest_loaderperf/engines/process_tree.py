"""CPU time and memory of a process and all its descendants, read from outside."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil

SETTLE_STEP_S = 0.04
SETTLED_CPU_S = 0.011  # one tick of the kernel's clock: less is not seen
SETTLE_WITHIN_S = 1.0
END_WITHIN_S = 5.0


class Tree:
    """The processes below and including ``pid``."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._seen: set[psutil.Process] = set()

    def _members(self) -> list[psutil.Process]:
        with suppress(psutil.NoSuchProcess):
            members = [self._root, *self._root.children(recursive=True)]
            self._seen.update(members)
            return members
        return []

    def cpu_s(self) -> float:
        """Seconds used so far, including those of ended members, which count for their parents."""
        total = 0.0
        for member in self._members():
            with suppress(psutil.Error):
                times = member.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def settled_cpu_s(self) -> float:
        """The same, once it has stopped growing or SETTLE_WITHIN_S have passed: prefetching goes on after a trial."""
        before, until_s = self.cpu_s(), time.monotonic() + SETTLE_WITHIN_S
        while True:
            time.sleep(SETTLE_STEP_S)
            now = self.cpu_s()
            if now - before < SETTLED_CPU_S or time.monotonic() > until_s:
                return now
            before = now

    def pss_nbytes(self) -> int:
        """Proportional set size: a page that k processes share counts 1/k for each."""
        total = 0
        for member in self._members():
            with suppress(psutil.Error):
                total += member.memory_full_info().pss
        return total

    def end(self) -> None:
        """Kill all that is left, also orphans of a root that has ended."""
        self._members()
        for member in self._seen:
            with suppress(psutil.Error):
                member.kill()
        psutil.wait_procs(list(self._seen), timeout=END_WITHIN_S)
