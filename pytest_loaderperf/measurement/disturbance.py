"""What else the machine did meanwhile: its counters are read before and after a measurement, and evaluated later."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pytest_loaderperf.measurement.activity import TICK_NS, tree_cpu_ns

Counters = Mapping[str, int]  # name with its unit -> value; what cannot be read is absent
Span = tuple[float, Counters]  # seconds, and what the counters grew by in them

STOLEN, OTHERS, QUOTA, THROTTLED = "stolen", "other_processes", "cpu_quota", "throttled"
_SMALL_SHARE = 0.05  # less is normal on any machine
_STRETCH_SECONDS = 0.5  # the kernel counts in ticks of 10 ms, so shorter rounds are evaluated together
_FREQUENCY = "frequency_percent"  # of the CPU's highest; a state, all others are counters
_PRESSURES = ("cpu", "memory", "io")
_BUSY, _STEAL = 3, 7  # of a CPU's times in /proc/stat: user, nice and system come first, see proc(5)
_LAST_CPU = 36  # in /proc/self/stat, behind the command's name
_MOST_THROTTLE_FILES = 16  # two for each CPU; a package's CPUs count together
_UNREADABLE = (OSError, ValueError, IndexError, ZeroDivisionError)


class Machine:
    """Reads Linux's counters under ``root``, for ``cpus`` if they are per CPU.

    ``tree_ns`` gives the CPU time of our own processes.
    """

    def __init__(self, cpus: Collection[int], root: Path = Path("/"), tree_ns: Callable[[], int] = tree_cpu_ns) -> None:
        self.cpus = len(cpus)
        self._names = {f"cpu{cpu}".encode() for cpu in cpus}
        self._proc, self._cpu_folder = root / "proc", root / "sys/devices/system/cpu"
        self._cgroup = root / "sys/fs/cgroup/cpu.stat"
        self._throttle_files = sorted(self._cpu_folder.glob("cpu*/thermal_throttle/*_count"))[:_MOST_THROTTLE_FILES]
        self._tree_ns = tree_ns

    def read(self) -> dict[str, int]:
        """The counters now."""
        found: dict[str, int] = {}
        with suppress(*_UNREADABLE):
            found |= self._cpu_times()
        for name in _PRESSURES:
            with suppress(*_UNREADABLE):
                some = _read(self._proc / "pressure" / name).split(b"\n", 1)[0]
                found[f"{name}_pressure_us"] = int(some.rsplit(b"total=", 1)[1])
        with suppress(*_UNREADABLE):
            words = _read(self._cgroup).split()
            found["quota_us"] = int(words[words.index(b"throttled_usec") + 1])
        with suppress(*_UNREADABLE):
            counts = [int(_read(path)) for path in self._throttle_files]
            found |= {"throttle_count": sum(counts)} if counts else {}
        with suppress(*_UNREADABLE):
            found[_FREQUENCY] = self._frequency_percent()
        return found

    def _cpu_times(self) -> dict[str, int]:
        rows = [line.split() for line in _read(self._proc / "stat").split(b"\n") if line.startswith(b"cpu")]
        times = [[int(ticks) for ticks in row[1:]] for row in rows if row[0] in self._names]
        if not any(map(sum, times)):  # some containers have the file, but all zeros
            return {}
        return {
            "busy_ns": sum(sum(ticks[:_BUSY]) for ticks in times) * TICK_NS,
            "stolen_ns": sum(ticks[_STEAL] for ticks in times) * TICK_NS,
            "own_ns": self._tree_ns(),
        }

    def _frequency_percent(self) -> int:
        behind_name = _read(self._proc / "self/stat").rsplit(b")", 1)[1].split()
        folder = self._cpu_folder / f"cpu{int(behind_name[_LAST_CPU])}" / "cpufreq"
        return round(100 * int(_read(folder / "scaling_cur_freq")) / int(_read(folder / "cpuinfo_max_freq")))


def _read(path: Path) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 half the time of Path.read_bytes
        return file.readall()


def grown(before: Counters, after: Counters) -> dict[str, int]:
    """What happened between two readings; a counter that went backwards is left out."""
    changes = {name: after[name] - before[name] for name in after if name in before and name != _FREQUENCY}
    state = {_FREQUENCY: after[_FREQUENCY]} if _FREQUENCY in after else {}
    return {name: change for name, change in changes.items() if change >= 0} | state


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
    """Whether each cause that could be read disturbed this time. Pressure is not one: the loader may cause it."""
    small_ns = _SMALL_SHARE * seconds * 1e9
    found: dict[str, bool] = {}
    if "stolen_ns" in counters:
        found[STOLEN] = counters["stolen_ns"] > small_ns + TICK_NS
    if "busy_ns" in counters and "own_ns" in counters:
        found[OTHERS] = counters["busy_ns"] - counters["own_ns"] > cpus * (small_ns + TICK_NS)
    if "quota_us" in counters:
        found[QUOTA] = counters["quota_us"] * 1000 > small_ns
    if "throttle_count" in counters:
        found[THROTTLED] = counters["throttle_count"] > 0
    return found


def _totals(rounds: Sequence[Counters]) -> dict[str, float | None]:
    def total(name: str, unit: float = 1) -> float | None:
        values = [counters[name] for counters in rounds if name in counters]
        return sum(values) * unit if values else None

    others = [seen["busy_ns"] - seen["own_ns"] for seen in rounds if "busy_ns" in seen and "own_ns" in seen]
    percents = [seen[_FREQUENCY] for seen in rounds if _FREQUENCY in seen]
    return {
        "stolen_seconds": total("stolen_ns", 1e-9),
        "other_cpu_seconds": max(0, sum(others)) * 1e-9 if others else None,
        "quota_seconds": total("quota_us", 1e-6),
        "throttle_count": total("throttle_count"),
        **{f"{name}_pressure_seconds": total(f"{name}_pressure_us", 1e-6) for name in _PRESSURES},
        "lowest_frequency": min(percents) / 100 if percents else None,
    }
