"""pytest at ranks on several hosts: the verdicts where the network is fast, and where it is slow and loses packets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from suites.ranks.hosts import Hosts

_TESTS = """
import time
from torch.utils.data import DataLoader

class Numbers:
    def __init__(self, seconds, rank, world_size):
        self.seconds, self.indices = seconds, range(rank, 4000, world_size)
    def __len__(self):
        return len(self.indices)
    def __getitem__(self, index):
        time.sleep(self.seconds)
        return self.indices[index]

def loader(seconds):
    return lambda rank, world_size: DataLoader(Numbers(seconds, rank, world_size), batch_size=20)

def test_as_fast(loaderperf):
    run = loaderperf(loader(2e-4), against=loader(2e-4))
    assert run.throughput >= 0.7 * run.against.throughput

def test_slower(loaderperf):
    run = loaderperf(loader(4e-4), against=loader(2e-4))
    assert run.throughput >= 0.8 * run.against.throughput
"""
_TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=1", "--master-port=29500"]
_PYTEST = ["-m", "pytest", "--loaderperf", "--loaderperf-json=result.json", "--loaderperf-budget=40", "test_far.py"]
_LONGEST_SECONDS = 300.0


class Outcome(NamedTuple):
    """Of one run: its verdicts, the seconds that it measured, and rank 0's output."""

    verdicts: list[str]
    seconds: float
    output: str


def outcome(size: int, delay_s: float, loss: float, cut_after_s: float | None = None) -> Outcome:
    """A run at ``size`` hosts; the last is cut off so many seconds after its first test has begun."""
    with tempfile.TemporaryDirectory() as name, Hosts(folder := Path(name), size, delay_s=delay_s, loss=loss) as hosts:
        (folder / "test_far.py").write_text(_TESTS)
        (folder / "pytest.ini").write_text("[pytest]\n")
        command = [
            "env",
            f"--chdir={folder}",
            sys.executable,
            *_TORCHRUN,
            f"--nnodes={size}",
            f"--master-addr={hosts.addresses[0]}",
        ]
        env = os.environ | {
            "PYTHONPATH": str(Path.cwd()),
            "OMP_NUM_THREADS": "1",
            "PYTEST_ADDOPTS": "-o loaderperf_doctor=0",
        }
        agents = [
            hosts.start(
                number,
                [*command, f"--node-rank={number}", f"--local-addr={hosts.addresses[number]}", *_PYTEST],
                env=env,
                stdout=subprocess.PIPE if number == 0 else subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
            )
            for number in range(size)
        ]
        try:
            if cut_after_s is not None:
                time.sleep(cut_after_s)
                hosts.cut(size - 1)
            output = agents[0].communicate(timeout=_LONGEST_SECONDS)[0]
        finally:
            for agent in agents:
                agent.terminate()
                agent.communicate()
        if not (folder / "result.json").exists():
            return Outcome([], 0.0, output)
        runs = json.loads((folder / "result.json").read_text())["runs"]
        claims = [claim for run in runs for claim in run["claims"]]
        return Outcome([claim["verdict"] for claim in claims], sum(claim["seconds"] for claim in claims), output)
