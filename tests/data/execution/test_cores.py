from __future__ import annotations

import math
import os

import pytest

from pytest_loaderperf.data.execution import cores

V2 = "25 30 0:22 / {root} rw - cgroup2 cgroup2 rw\n"
V1 = "32 31 0:29 {seen} {root} rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
V1 += "33 31 0:30 / /nowhere rw - cgroup cgroup rw,memory\n"


@pytest.fixture
def machine(tmp_path):
    """Writes the files of a process in control groups, and gives the folder that stands for /proc/self."""
    proc, root = tmp_path / "proc", tmp_path / "cgroup"

    def make(cgroup, mountinfo, files):
        proc.mkdir()
        (proc / "cgroup").write_text(cgroup, "utf-8")
        (proc / "mountinfo").write_text(
            "22 27 0:21 / /proc rw - proc proc rw\n" + mountinfo.format(root=root, seen="/"), "utf-8"
        )
        for name, text in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, "ascii")
        return proc

    return make


@pytest.mark.parametrize(
    "files, quota",
    [
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({}, math.inf),
        ({"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2),
        ({"a/cpu.max": "800000 100000\n", "a/b/cpu.max": "50000 100000\n"}, 0.5),
        ({"a/cpu.max": "100000 100000\n", "a/b/cpu.max": "400000 100000\n"}, 1),
        ({"a/b/cpu.max": "garbage\n"}, math.inf),
    ],
)
def test_a_quota_of_version_2_is_the_least_of_the_group_and_those_around_it(machine, files, quota):
    assert cores.cgroup_quota(machine("0::/a/b\n", V2, files)) == quota


@pytest.mark.parametrize(
    "limits, quota",
    [
        ({"a/b": (100_000, 50_000)}, 2),
        ({"a": (50_000, 100_000), "a/b": (-1, 100_000)}, 0.5),
        ({"a/b": (-1, 100_000)}, math.inf),
        ({".": (300_000, 100_000)}, 3),
    ],
)
def test_a_quota_of_version_1_is_the_least_of_the_group_and_those_around_it(machine, limits, quota):
    files = {}
    for folder, (share, period) in limits.items():
        files |= {f"{folder}/cpu.cfs_quota_us": f"{share}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}
    assert cores.cgroup_quota(machine("9:memory:/x\n4:cpu,cpuacct:/a/b\n0::/z\n", V1, files)) == quota


def test_a_container_that_is_told_its_path_outside_finds_its_group_at_the_mounts_root(machine):
    mount = V1.replace("{seen}", "/docker/0123")
    files = {"cpu.cfs_quota_us": "100000", "cpu.cfs_period_us": "100000"}
    assert cores.cgroup_quota(machine("4:cpu,cpuacct:/docker/0123\n", mount, files)) == 1


def test_a_system_without_control_groups_sets_no_limit(tmp_path):
    assert cores.cgroup_quota(tmp_path) == math.inf


@pytest.mark.parametrize(
    "quota, affinity, usable", [(1, 64, 1), (1.5, 64, 2), (0.25, 64, 1), (math.inf, 3, 3), (8, 3, 3)]
)
@pytest.mark.parametrize("counts", [False, True], ids=["affinity", "process_cpu_count"])
def test_cores_are_those_of_the_affinity_as_far_as_the_quota_fills_them(monkeypatch, quota, affinity, usable, counts):
    monkeypatch.setattr(cores, "cgroup_quota", lambda proc: quota)
    if counts:
        monkeypatch.setattr(os, "process_cpu_count", lambda: affinity, raising=False)
    else:
        monkeypatch.delattr(os, "process_cpu_count", raising=False)
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
    assert cores.usable_cores() == usable
