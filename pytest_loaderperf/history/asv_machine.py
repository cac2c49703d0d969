"""What asv is told about the machine. asv has no field for a GPU, so its name is part of the ``cpu``."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_loaderperf.history.asv_files import MACHINE, MACHINE_VERSION, read

FILE = ".asv-machine.json"  # in the user's home: the machines that `asv machine` was told of


def machine_of(facts: Mapping[str, Any], directory: Path) -> dict[str, str]:
    """The machine that has these ``facts`` of a result file, as asv describes machines.

    Its name is the one that ``asv machine`` was given, else that of this host. If the results ``directory`` has a
    machine of that name, CPU and number of cores, it is the same one: a new kernel or some other bytes of memory would
    begin another line in asv. Raises ResultError for a broken file.
    """
    import psutil

    host = platform.node() or "unknown"
    told = read(Path.home() / FILE, MACHINE_VERSION) or {}
    machines = {name: known for name, known in told.items() if isinstance(known, dict)}
    named = machines.get(host) or (next(iter(machines.values())) if len(machines) == 1 else {})  # as asv does
    found = {
        "machine": host,
        "os": f"{platform.system()} {platform.release()}",
        "arch": platform.machine(),
        "ram": str(psutil.virtual_memory().total),
        "num_cpu": str(facts.get("cores") or os.cpu_count()),
    }
    found |= {key: str(named[key]) for key in found if key in named} | {"cpu": cpu_text(facts)}
    before = read(directory / found["machine"] / MACHINE, MACHINE_VERSION) or {}
    same = all(before.get(key) == found[key] for key in ("cpu", "num_cpu", "arch"))
    kept = {key: str(before[key]) for key in ("os", "ram") if same and key in before and key not in named}
    return found | kept


def cpu_text(facts: Mapping[str, Any]) -> str:
    """The CPU, and the GPU if there is one."""
    return " + ".join(str(part) for part in (facts.get("cpu"), facts.get("gpu")) if part)
