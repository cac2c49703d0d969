"""How many cores this process may use: its affinity, and the quota of the control groups that it is in."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

PROC = Path("/proc/self")


def usable_cores() -> int:
    """Cores that this process may run on, limited by its CPU quota: 1.5 counts as two. At least one."""
    count = getattr(os, "process_cpu_count", None)  # from Python 3.13 on; it respects the affinity, and -X cpu_count
    if count is not None:
        cores = count() or 1
    elif hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return max(1, math.ceil(min(cores, cgroup_quota(PROC))))


def cgroup_quota(proc: Path) -> float:
    """The cores that the control groups (version 1 and 2) of the process at ``proc`` allow; infinity: no limit.

    A group inside another one has at most the quota of that one.
    """
    quotas = [math.inf]
    for folder, is_v2 in _folders(proc):
        with suppress(OSError, ValueError, ZeroDivisionError):  # no such file: this group sets no limit
            if is_v2:
                quota, period = (folder / "cpu.max").read_text("ascii").split()
            else:
                quota, period = ((folder / f"cpu.cfs_{part}_us").read_text("ascii") for part in ("quota", "period"))
            if quota != "max" and int(quota) > 0:
                quotas.append(int(quota) / int(period))
    return min(quotas)


def _folders(proc: Path) -> Iterator[tuple[Path, bool]]:
    """The folders of the groups that limit the process, and of those around them, and whether they are of version 2."""
    try:
        groups = [line.split(":", 2) for line in (proc / "cgroup").read_text("utf-8").splitlines()]
        mounts = [line.split() for line in (proc / "mountinfo").read_text("utf-8").splitlines()]
    except OSError:  # no Linux
        return
    v1 = next((path for _, controllers, path in groups if "cpu" in controllers.split(",")), None)
    v2 = next((path for number, controllers, path in groups if number == "0" and not controllers), None)
    for mount in mounts:
        kind, _, options = mount[mount.index("-") + 1 :][:3]
        is_v2 = kind == "cgroup2"
        path = v2 if is_v2 else v1
        if path is None or not (is_v2 or (kind == "cgroup" and "cpu" in options.split(","))):
            continue
        root, point = PurePosixPath(mount[3]), Path(mount[4])
        group = PurePosixPath(path)
        # A container may see its own group as the mount's root, but its path as outside.
        inside = group.relative_to(root) if group.is_relative_to(root) else PurePosixPath()
        for part in (inside, *inside.parents):
            yield point / part, is_v2
