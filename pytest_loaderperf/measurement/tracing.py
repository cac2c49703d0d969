"""Tracers, profilers and coverage are off while a loader is made and timed: they only slow the side in this process.

What a loader starts meanwhile, threads and processes, is not traced either; nor, from then on, are threads that run
already, since Python 3.12.
"""

from __future__ import annotations

import multiprocessing.process
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import spawn
from typing import Any

from pytest_loaderperf.errors import MeasureError

# The variables by which coverage starts in a new process.
COVERAGE_ENVIRONMENT = (
    *("COV_CORE_SOURCE", "COV_CORE_CONFIG", "COV_CORE_DATAFILE", "COV_CORE_BRANCH", "COV_CORE_CONTEXT"),
    *("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG"),
)
_TOOLS = range(6)  # the numbers that sys.monitoring has for tools
_Restore = Callable[[], None]


@contextmanager
def untraced(*, starting: bool = False) -> Iterator[None]:
    """Nothing traces this thread, or threads started in this block; afterwards everything is as before.

    With ``starting``, processes that are started are not traced either.

    Raises MeasureError for a profiler that cannot be switched off and on again.
    """
    restores: list[_Restore] = []
    try:
        for switch_off in _ALL if starting else _OF_THIS_PROCESS:
            restores += switch_off()
        yield
    finally:
        for restore in reversed(restores):
            restore()


def _stop_tracing() -> list[_Restore]:
    restores: list[_Restore] = []
    if (tracer := sys.gettrace()) is not None:
        restores.append(_stop("tracer", tracer, sys.gettrace, sys.settrace))
    if (hook := threading.gettrace()) is not None:
        restores.append(_stop("tracer of threads", hook, threading.gettrace, threading.settrace))
        _free_running_threads("settrace_all_threads")
    return restores


def _stop_profiling() -> list[_Restore]:
    restores: list[_Restore] = []
    if (profiler := sys.getprofile()) is not None:
        restores.append(_stop("profiler", profiler, sys.getprofile, sys.setprofile))
    if (hook := threading.getprofile()) is not None:
        restores.append(_stop("profiler of threads", hook, threading.getprofile, threading.setprofile))
        _free_running_threads("setprofile_all_threads")
    return restores


def _free_running_threads(name: str) -> None:
    """Since Python 3.12, one traced thread slows all. What traces another one cannot be asked for, nor put back."""
    if (put_for_all := getattr(threading, name, None)) is not None:
        put_for_all(None)


def _stop(what: str, found: Any, get: Callable[[], Any], put: Callable[[Any], None]) -> _Restore:
    """Switch off what ``get`` has found; the function that puts it back, unless there is another one by then."""
    if callable(found):
        switch_on: _Restore = lambda: put(found)  # noqa: E731 shorter than what it names
        put(None)
    elif hasattr(found, "enable") and hasattr(found, "disable"):  # cProfile's is in C, and cannot be set again
        switch_on = found.enable
        found.disable()
    else:
        raise MeasureError(
            f"a {what} is active, {found!r}. It slows down one side and cannot be switched off while measuring. "
            "Measure in a run without it."
        )

    def restore() -> None:
        if get() is None:
            switch_on()

    return restore


def _stop_monitoring() -> list[_Restore]:
    monitoring: Any = getattr(sys, "monitoring", None)  # since Python 3.12
    if monitoring is None:
        return []
    return [_stop_tool(monitoring, tool) for tool in _TOOLS if monitoring.get_tool(tool) is not None]


def _stop_tool(monitoring: Any, tool: int) -> _Restore:
    """Remove a tool's events and its callbacks: it may have events of single functions."""
    name, events = monitoring.get_tool(tool), monitoring.get_events(tool)
    flags = [flag for flag in vars(monitoring.events).values() if isinstance(flag, int) and flag]
    callbacks = {flag: monitoring.register_callback(tool, flag, None) for flag in flags if flag & (flag - 1) == 0}
    monitoring.set_events(tool, 0)

    def restore() -> None:
        if monitoring.get_tool(tool) == name:
            for flag, callback in callbacks.items():
                monitoring.register_callback(tool, flag, callback)
            monitoring.set_events(tool, events)

    return restore


def _hide_environment() -> list[_Restore]:
    hidden = {name: os.environ[name] for name in COVERAGE_ENVIRONMENT if name in os.environ}
    for name in hidden:
        del os.environ[name]
    return [lambda: os.environ.update(hidden)] if hidden else []


def _spare_workers() -> list[_Restore]:
    """Remove what coverage, with ``concurrency = multiprocessing``, runs at the start of each worker process."""
    original = getattr(sys.modules.get("coverage.multiproc"), "original_bootstrap", None)
    process: Any = multiprocessing.process.BaseProcess
    patched, prepare = process._bootstrap, spawn.get_preparation_data  # noqa: SLF001 what coverage patches
    if original is None or patched is original:
        return []

    def plainly(name: str) -> dict[str, Any]:
        return {key: value for key, value in prepare(name).items() if key != "stowaway"}

    def put(bootstrap: Any, prepared: Any) -> None:
        process._bootstrap, spawn.get_preparation_data = bootstrap, prepared  # noqa: SLF001 as above

    put(original, plainly)
    return [lambda: put(patched, prepare)]


_OF_THIS_PROCESS = (_stop_tracing, _stop_profiling, _stop_monitoring)
_ALL = (*_OF_THIS_PROCESS, _hide_environment, _spare_workers)
