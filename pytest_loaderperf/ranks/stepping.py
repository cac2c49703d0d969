"""A simulated training loop on several ranks, which wait for the slowest at the end of a step, as DDP does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from pytest_loaderperf.measurement import AnySide
from pytest_loaderperf.measurement.record import StepRecord

_BARRIERS = 2.0  # times as long as a barrier are the steps between two, which include it


@dataclass(frozen=True, slots=True)
class Loop:
    """``settling`` untimed and ``timed`` timed steps of ``seconds``, with a batch each; a barrier takes ``gate_s``."""

    seconds: float
    settling: int
    timed: int
    gate_s: float

    @property
    def every(self) -> int:
        """How many steps from one barrier to the next: one, unless that is shorter than the barrier."""
        return max(1, math.ceil(_BARRIERS * self.gate_s / self.seconds))

    @property
    def gates(self) -> int:
        """Barriers of the whole loop."""
        return sum(math.ceil(steps / self.every) for steps in (self.settling, self.timed))

    def observe(self, side: AnySide, gate: Callable[[], None]) -> StepRecord | None:
        """Run it on ``side``, which is in an epoch; None if that ends before."""
        if self._steps(side, self.settling, gate) is None:
            return None
        return self._steps(side, self.timed, gate)

    def _steps(self, side: AnySide, steps: int, gate: Callable[[], None]) -> StepRecord | None:
        waits_ns: list[int] = []
        computed_ns = 0
        for first in range(0, steps, self.every):
            part = min(self.every, steps - first)
            wait_ns = 0
            for _ in range(part):
                record = side.take(1)
                if record is None:
                    return None
                wait_ns += record.wall_ns
                began_ns = time.perf_counter_ns()
                time.sleep(max(0.0, self.seconds - self.gate_s / part))
                computed_ns += time.perf_counter_ns() - began_ns
            gate()  # not by the clock: it also waits for the slowest rank
            computed_ns += round(self.gate_s * 1e9)
            waits_ns.append(wait_ns)
        return StepRecord(sum(waits_ns), sum(waits_ns) + computed_ns, tuple(waits_ns))
