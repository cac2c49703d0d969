"""What else the machine did meanwhile: its counters are read before and after a measurement, and evaluated later."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from pytest_loaderperf.measurement.activity import TICK_NS, tree_cpu_ns

Counters = Mapping[str, int]  # name with its unit -> value; what cannot be read is absent
Span = tuple[float, Counters]  # seconds, and what the counters grew by in them

STOLEN, OTHERS, QUOTA = "stolen", "other_processes", "cpu_quota"
_SMALL_SHARE = 0.05  # less is normal on any machine
_STRETCH_SECONDS = 0.5  # the kernel counts in ticks of 10 ms, so shorter rounds are evaluated together
_QUOTA_FILE = Path("/sys/fs/cgroup/cpu.stat")


class Machine:
    """Reads the counters of ``cpus``, and of a cgroup's CPU quota in ``quota_file``.

    ``tree_ns`` gives the CPU time of our own processes.
    """

    def __init__(
        self, cpus: Collection[int], quota_file: Path = _QUOTA_FILE, tree_ns: Callable[[], int] = tree_cpu_ns
    ) -> None:
        self.cpus = len(cpus)
        self._cpus, self._quota_file, self._tree_ns = cpus, quota_file, tree_ns

    def read(self) -> dict[str, int]:
        """The counters now."""
        found: dict[str, int] = {}
        with suppress(OSError, ValueError, NotImplementedError):
            found |= self._cpu_times()
        with suppress(OSError, ValueError, IndexError):
            words = self._quota_file.read_text().split()
            found["quota_us"] = int(words[words.index("throttled_usec") + 1])
        return found

    def _cpu_times(self) -> dict[str, int]:
        times = [times for cpu, times in enumerate(psutil.cpu_times(percpu=True)) if cpu in self._cpus]
        if not any(map(sum, times)):  # some containers have the file, but all zeros
            return {}
        busy_s = sum(cpu.user + cpu.nice + cpu.system for cpu in times)
        found = {"busy_ns": round(busy_s * 1e9), "own_ns": self._tree_ns()}
        if hasattr(times[0], "steal"):
            found["stolen_ns"] = round(sum(cpu.steal for cpu in times) * 1e9)
        return found


def grown(before: Counters, after: Counters) -> dict[str, int]:
    """What happened between two readings; a counter that went backwards is left out."""
    changes = {name: after[name] - before[name] for name in after if name in before}
    return {name: change for name, change in changes.items() if change >= 0}


class Log:
    """Spans of time, with what the counters of ``machine`` grew by in them."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.spans: list[Span] = []
        self._since_s = math.inf

    def begin(self) -> None:
        """Begin a span."""
        self._since_s, self._before = time.perf_counter(), self.machine.read()

    def tick(self, now_s: float) -> None:
        """Begin the next span, if this one is long enough to be evaluated by itself."""
        if now_s - self._since_s > _STRETCH_SECONDS:
            self.end()
            self.begin()

    def end(self) -> None:
        """End the span."""
        now_s = time.perf_counter()
        self.spans.append((now_s - self._since_s, grown(self._before, self.machine.read())))
        self._since_s = math.inf


@dataclass(frozen=True, slots=True)
class Disturbance:
    """How much of the measuring time was disturbed, and by what.

    ``share`` is None if nothing could be read. ``causes`` has the share of each cause that could be read; time with
    several causes counts for the first. ``totals`` sums up what was read; None: could not be read.
    """

    share: float | None
    causes: Mapping[str, float]
    totals: Mapping[str, float | None]


def disturbance(spans: Sequence[Span], cpus: int) -> Disturbance:
    """Evaluate what was read."""
    judged_s = 0.0
    disturbed_s: dict[str, float] = {}
    for seconds, counters in _stretches(spans):
        found = _causes(seconds, counters, cpus)
        judged_s += seconds if found else 0
        disturbed_s = dict.fromkeys(found, 0.0) | disturbed_s
        cause = next((cause for cause, strong in found.items() if strong), None)
        if cause is not None:
            disturbed_s[cause] += seconds
    causes = {cause: seconds / judged_s for cause, seconds in disturbed_s.items()}
    return Disturbance(sum(causes.values()) if causes else None, causes, _totals([counters for _, counters in spans]))


def _stretches(spans: Sequence[Span]) -> list[Span]:
    """Spans joined until they are long enough, with the sum of each counter that all of them have."""
    stretches: list[Span] = []
    for span in spans:
        if stretches and stretches[-1][0] < _STRETCH_SECONDS:
            span = _together(stretches.pop(), span)  # noqa: PLW2901 the stretch goes on
        stretches.append(span)
    if len(stretches) > 1 and stretches[-1][0] < _STRETCH_SECONDS:
        last = stretches.pop()
        stretches.append(_together(stretches.pop(), last))
    return stretches


def _together(one: Span, other: Span) -> Span:
    return one[0] + other[0], {name: one[1][name] + other[1][name] for name in one[1] if name in other[1]}


def _causes(seconds: float, counters: Counters, cpus: int) -> dict[str, bool]:
    """Whether each cause that could be read disturbed this time."""
    small_ns = _SMALL_SHARE * seconds * 1e9
    found: dict[str, bool] = {}
    if "stolen_ns" in counters:
        found[STOLEN] = counters["stolen_ns"] > small_ns + TICK_NS
    if "busy_ns" in counters and "own_ns" in counters:
        found[OTHERS] = counters["busy_ns"] - counters["own_ns"] > cpus * (small_ns + TICK_NS)
    if "quota_us" in counters:
        found[QUOTA] = counters["quota_us"] * 1000 > small_ns
    return found


def _totals(rounds: Sequence[Counters]) -> dict[str, float | None]:
    def total(name: str, unit: float) -> float | None:
        values = [counters[name] for counters in rounds if name in counters]
        return sum(values) * unit if values else None

    others = [seen["busy_ns"] - seen["own_ns"] for seen in rounds if "busy_ns" in seen and "own_ns" in seen]
    return {
        "stolen_seconds": total("stolen_ns", 1e-9),
        "other_cpu_seconds": max(0, sum(others)) * 1e-9 if others else None,
        "quota_seconds": total("quota_us", 1e-6),
    }
