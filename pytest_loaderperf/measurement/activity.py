"""The processes of a loader, the CPU time they use, and waiting until they have stopped using it."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

IDLE_SHARE = 0.05  # of one core: less than this is the interpreter's own housekeeping
_INTERVAL_SECONDS = 0.001
_QUIET_INTERVALS = 2  # in a row: one may fall between two bursts of a worker
_READING_NS = 60_000  # what reading one process's CPU time itself costs this process
PATIENCE_SECONDS = 2.0  # a loader that still works after this will never be idle


def child_pids() -> list[int]:
    """The live child processes of this process."""
    try:  # far cheaper than a walk over all processes
        listed = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    except OSError:
        listed = []
    if listed:
        return [int(pid) for text in listed for pid in text.split()]
    try:
        return [child.pid for child in psutil.Process().children()]
    except psutil.Error:
        return []


def _child_cpu_ns(pid: int) -> int:
    try:  # nanoseconds on Linux; cpu_times() counts whole clock ticks
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        pass
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0
    return int((times.user + times.system) * 1e9)


def cpu_ns(children: list[int]) -> int:
    """CPU time so far of this process and of ``children``, in nanoseconds."""
    return time.process_time_ns() + sum(map(_child_cpu_ns, children))


def wait_until_idle(children: list[int], patience_seconds: float = PATIENCE_SECONDS) -> bool:
    """Sleep until the CPU time of this process and ``children`` stands still; False if it never did."""
    deadline = time.monotonic() + patience_seconds
    quiet = 0
    before_ns, before_at_ns = cpu_ns(children), time.perf_counter_ns()
    while quiet < _QUIET_INTERVALS:
        time.sleep(_INTERVAL_SECONDS)
        now_ns, now_at_ns = cpu_ns(children), time.perf_counter_ns()
        still = now_ns - before_ns <= IDLE_SHARE * (now_at_ns - before_at_ns) + _READING_NS * (1 + len(children))
        quiet = quiet + 1 if still else 0
        before_ns, before_at_ns = now_ns, now_at_ns
        if time.monotonic() > deadline:
            return False
    return True
