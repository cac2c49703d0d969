"""Facts about the machine that a result was measured on."""

from __future__ import annotations

import multiprocessing
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

_STEAL_FIELD = 8  # of the line "cpu" in /proc/stat, see proc(5)


def machine_facts() -> dict[str, object]:
    """CPU, cores, versions, GPU and driver, start method and container limits, as plain JSON values."""
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        **{name: _version(name) for name in ("torch", "numpy", "pyarrow")},
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "driver": _first_line("/proc/driver/nvidia/version"),
        "start_method": multiprocessing.get_start_method(),
        "container_limits": {name: _first_line(f"/sys/fs/cgroup/{name}") for name in ("cpu.max", "memory.max")},
    }


def steal_seconds() -> float:
    """Seconds that a hypervisor gave to others while this machine wanted to run, since boot; 0 if unknown."""
    line = _first_line("/proc/stat")
    fields = line.split() if line else []
    return int(fields[_STEAL_FIELD]) / os.sysconf("SC_CLK_TCK") if len(fields) > _STEAL_FIELD else 0.0


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _first_line(path: str) -> str | None:
    try:
        return Path(path).read_text().splitlines()[0]
    except (OSError, IndexError):
        return None
