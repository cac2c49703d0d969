"""The processes of a loader, the CPU time they use, and waiting until they use none."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import psutil

from pytest_loaderperf.measurement.record import Effort

IDLE_SHARE = 0.05  # of one core: less is the interpreter's own work
_INTERVAL_SECONDS = 0.001
_QUIET_INTERVALS = 2  # in a row: one may be between two bursts of a worker
_RUNNABLE = (b"R", b"D")  # states of a process, see proc(5)
_READING_NS = 60_000  # how long it takes to read one process's CPU time
_CPUCLOCK_SCHED = 2  # of the kernel's posix-timers.h: time spent running, in nanoseconds
_CPUCLOCK_THREAD = 4  # there, too: of a thread, and no process
_CUTIME = 13  # and cstime, in /proc/PID/stat behind the command's name, see proc(5)
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 10_000_000  # the kernel's unit
PATIENCE_SECONDS = 2.0  # a loader that is still busy then never rests


def child_pids(pid: int | str = "self") -> list[int]:
    """The live child processes of process ``pid``, or of this one."""
    tasks = f"/proc/{pid}/task"
    try:  # far faster than listing all processes
        listed = [_read(f"{tasks}/{thread}/children") for thread in os.listdir(tasks)]  # noqa: PTH208 cheaper, too
    except OSError:
        listed = []
    if listed:
        return [int(child) for text in listed for child in text.split()]
    try:
        return [child.pid for child in psutil.Process(None if pid == "self" else int(pid)).children()]
    except psutil.Error:
        return []


def thread_ids() -> frozenset[int]:
    """The threads of this process, those of native code among them. Cheap, as it is asked for in every round."""
    try:
        return frozenset(map(int, os.listdir("/proc/self/task")))  # noqa: PTH208 cheaper
    except OSError:
        return frozenset(thread.id for thread in psutil.Process().threads())


def children_of_this_thread() -> frozenset[int]:
    """Live child processes that the calling thread has started; if the system does not say, those of this process."""
    try:
        return frozenset(map(int, _read(f"/proc/self/task/{threading.get_native_id()}/children").split()))
    except OSError:
        return frozenset(child_pids())


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 half the time of Path.read_bytes
        return file.readall()


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time of processes so far, and how long each of their threads waited for a CPU, by process; 0 is this one.

    ``threads_ns``: CPU time of each thread of this process.
    """

    cpu_ns: dict[int, int]
    delays_ns: dict[int, dict[int, int]]
    threads_ns: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, children: Iterable[int]) -> Self:
        """The usage of this process and ``children``, with all their threads; ended ones are left out."""
        cpu_ns, delays_ns = {}, {}
        for pid in (0, *children):
            with suppress(OSError, ValueError):
                delays = _delays_ns(f"/proc/{pid or 'self'}/task")
                cpu_ns[pid], delays_ns[pid] = _child_cpu_ns(pid) if pid else time.process_time_ns(), delays
        return cls(cpu_ns, delays_ns, thread_cpu_ns())

    def since(self, before: Usage, wall_ns: int) -> Effort | None:
        """The work since ``before``, ``wall_ns`` ago, of the processes in both; None if there are none."""
        cpu_ns = {pid: ns - before.cpu_ns[pid] for pid, ns in self.cpu_ns.items() if pid in before.cpu_ns}
        if not cpu_ns:
            return None
        waits_ns = {pid: self._waits_ns(before, pid) for pid in cpu_ns}
        busiest_ns, busiest = max((ns + sum(waits_ns[pid].values()), pid) for pid, ns in cpu_ns.items())
        # Others of its threads, such as a watchdog, wait for a CPU as well, but nobody for them.
        works_ns, thread = (0, busiest) if busiest else self._busiest_thread(before)
        waited_ns = waits_ns[busiest].get(thread, 0)
        delayed = waited_ns / max(1, wall_ns, works_ns + waited_ns)
        own_ns = cpu_ns.pop(0, 0)
        return Effort(own_ns, sum(cpu_ns.values()), busiest_ns / max(1, wall_ns), delayed)

    def _waits_ns(self, before: Usage, pid: int) -> dict[int, int]:
        """How long each thread of ``pid`` has waited since ``before``; those that are new, in their life."""
        known = before.delays_ns[pid]
        return {thread: ns - known.get(thread, 0) for thread, ns in self.delays_ns[pid].items()}

    def _busiest_thread(self, before: Usage) -> tuple[int, int]:
        """The CPU time since ``before`` of the thread of this process that has most, and its number."""
        known = before.threads_ns
        return max(((ns - known.get(thread, 0), thread) for thread, ns in self.threads_ns.items()), default=(0, 0))


def continue_stopped(pids: Iterable[int]) -> None:
    """Continue those of ``pids`` that were started by Python here and then stopped: otherwise nothing can end them."""
    stopped = [pid for pid in pids if _state(str(pid)) == b"T"]
    ours = [process.pid or 0 for process in multiprocessing.active_children()] if stopped else []
    for pid in set(stopped).intersection(ours):
        with suppress(OSError):  # it has ended meanwhile
            os.kill(pid, signal.SIGCONT)


def _others(children: Iterable[int]) -> list[str]:
    """This process's threads except the calling one, and ``children``, by their names in /proc."""
    own = thread_ids() - {threading.get_native_id()}
    return [*(f"self/task/{thread}" for thread in own), *map(str, children)]


def _state(task: str) -> bytes:
    """One letter, see proc(5); empty if the system does not say."""
    try:
        return _read(f"/proc/{task}/stat").rsplit(b")", 1)[1].split()[0]
    except (OSError, IndexError):
        return b""


def thread_cpu_ns() -> dict[int, int]:
    """CPU time so far of each thread of this process, by its number; empty if the system does not say.

    It reads the threads' clocks: the figures under /proc are as old as the kernel's last tick, up to 4 or 10 ms.
    """
    found = {}
    with suppress(OSError):
        for thread in map(int, os.listdir("/proc/self/task")):  # noqa: PTH208 cheaper
            with suppress(OSError):  # it has ended
                found[thread] = time.clock_gettime_ns((~thread << 3) | _CPUCLOCK_THREAD | _CPUCLOCK_SCHED)
    return found


def _delays_ns(tasks: str) -> dict[int, int]:
    """Nanoseconds that each of the threads under ``tasks`` waited for a CPU, see proc(5), schedstat.

    The file also has the time they ran, but only up to the kernel's last tick.
    """
    waited_ns = {}
    for thread in os.listdir(tasks):  # noqa: PTH208 cheaper
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            waited_ns[int(thread)] = int(_read(f"{tasks}/{thread}/schedstat").split()[1])
    return waited_ns


def waited_for_cpu_ns() -> int:
    """Nanoseconds so far in which the calling thread was ready to run and waited for a CPU; 0 if unknown."""
    try:
        return int(_read("/proc/thread-self/schedstat").split()[1])
    except (OSError, IndexError):
        return 0


def descendants(pids: Iterable[int]) -> list[int]:
    """``pids`` and all live processes that descend from them."""
    found = list(pids)
    for pid in found:  # grows meanwhile
        found += child_pids(pid)
    return found


def _child_cpu_ns(pid: int) -> int:
    if sys.platform == "linux":
        with suppress(OSError):  # the clock of a process, all its threads together: see clock_getcpuclockid(3)
            return time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0
    return int((times.user + times.system) * 1e9)


def _ended_cpu_ns(pid: int) -> int:
    """CPU time of the children of ``pid`` that have ended."""
    try:
        behind_name = _read(f"/proc/{pid}/stat").rsplit(b")", 1)[1].split()
        return sum(map(int, behind_name[_CUTIME : _CUTIME + 2])) * TICK_NS
    except (OSError, ValueError, IndexError):
        return 0


def tree_cpu_ns() -> int:
    """CPU time so far of this process and of all that descend from it, the ended ones too, in nanoseconds."""
    pids = descendants(child_pids())
    ended = os.times()
    ended_ns = int((ended.children_user + ended.children_system) * 1e9)
    return cpu_ns(pids) + ended_ns + sum(map(_ended_cpu_ns, pids))


def cpu_ns(children: Sequence[int]) -> int:
    """CPU time so far of this process and of ``children``, in nanoseconds."""
    return time.process_time_ns() + sum(map(_child_cpu_ns, children))


def wait_until_idle(children: list[int], patience_seconds: float = PATIENCE_SECONDS) -> bool:
    """Sleep until this process and ``children`` use no CPU time; False if they always did."""
    return active_until(children, patience_seconds) is not None


def active_until(children: Sequence[int], patience_seconds: float = PATIENCE_SECONDS) -> int | None:
    """The same; the last moment of activity, by ``time.perf_counter_ns``, to a millisecond; None for False."""
    deadline = time.monotonic() + patience_seconds
    quiet = 0
    before_ns, before_at_ns = cpu_ns(children), time.perf_counter_ns()
    ended_ns = before_at_ns
    while quiet < _QUIET_INTERVALS:
        time.sleep(_INTERVAL_SECONDS)
        now_ns, now_at_ns = cpu_ns(children), time.perf_counter_ns()
        still = now_ns - before_ns <= IDLE_SHARE * (now_at_ns - before_at_ns) + _READING_NS * (1 + len(children))
        quiet = quiet + 1 if still else 0
        if quiet == _QUIET_INTERVALS and any(_state(task) in _RUNNABLE for task in _others(children)):
            quiet = 0  # it only waits for a CPU, or for a disk
        if not quiet:  # it may have come to rest within this interval
            ended_ns = min(now_at_ns, before_at_ns + max(0, now_ns - before_ns - _READING_NS // 2))
        before_ns, before_at_ns = now_ns, now_at_ns
        if time.monotonic() > deadline:
            return None
    return ended_ns
