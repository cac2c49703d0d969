"""pytest at ranks on several hosts: what all say where the network is slow, loses packets or is cut."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, NamedTuple

from suites.ranks.hosts import Hosts

_TESTS = """
import os, time
from pathlib import Path
from torch.utils.data import DataLoader

class Numbers:
    def __init__(self, seconds, rank, world_size):
        self.seconds, self.indices = seconds, range(rank, 4000, world_size)
    def __len__(self):
        return len(self.indices)
    def __getitem__(self, index):
        time.sleep(self.seconds)
        return self.indices[index]

class Telling(Numbers):
    def __getitem__(self, index):
        if index == 999:
            Path("measures_" + os.environ["RANK"]).touch()
        return super().__getitem__(index)

def loader(seconds, numbers=Numbers):
    return lambda rank, world_size: DataLoader(numbers(seconds, rank, world_size), batch_size=20)

def test_as_fast(loaderperf):
    run = loaderperf(loader(2e-4), against=loader(2e-4))
    assert run.throughput >= 0.7 * run.against.throughput

def test_slower(loaderperf):
    run = loaderperf(loader(2e-3), against=loader(2e-4))
    assert run.throughput >= 0.8 * run.against.throughput
"""
_CUT = """
def test_cut(loaderperf):
    run = loaderperf(loader(2e-4, Telling), against=loader(2e-4))
    assert run.throughput >= 1.0 * run.against.throughput
"""
_RUN = """
import os, sys
from pathlib import Path
import pytest
status = int(pytest.main(sys.argv[1:]))
Path("status_" + os.environ["RANK"]).write_text(str(status))
sys.exit(status)
"""
_PYTEST = [
    "run.py",
    "--loaderperf",
    "--loaderperf-json=result.json",
    "--loaderperf-budget=40",
    "--loaderperf-alpha=0.01",
]

_ENVIRON = {"OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": "-o loaderperf_doctor=0"}
_PORT = 29500
_LONGEST_SECONDS = 300.0


class Outcome(NamedTuple):
    """Of one job: its verdicts, the hosts in its result, the status of each rank's pytest, and each host's output.

    ``named_s``: seconds from the cut, if there was one, until host 0 had ended.
    """

    verdicts: list[str]
    hosts: list[str]
    statuses: dict[str, int]
    outputs: list[str]
    named_s: float = 0.0


def outcome(
    size: int,
    ranks: int,
    meet: Literal["static", "c10d"],
    *,
    delay_s: float = 0.0,
    loss: float = 0.0,
    cut: bool = False,
) -> Outcome:
    """A job of ``ranks`` ranks on each of ``size`` hosts, which torchrun lets ``meet``.

    ``cut``: has a third test, in which the last host is cut off. Raises HostsError.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        hosts = stack.enter_context(Hosts(folder, size, delay_s=delay_s, loss=loss))
        for name, text in {"test_far.py": _TESTS + _CUT * cut, "run.py": _RUN, "pytest.ini": "[pytest]\n"}.items():
            (folder / name).write_text(text)
        outputs = [stack.enter_context((folder / f"output_{number}").open("w+")) for number in range(size)]
        agents = [
            hosts.start(
                number,
                ["env", f"--chdir={folder}", *_torchrun(hosts, number, ranks, meet)],
                env=os.environ | _ENVIRON | {"PYTHONPATH": str(Path.cwd())},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
            for number, output in enumerate(outputs)
        ]
        cut_s = time.monotonic()
        try:
            if cut:
                _wait_until_measuring(folder, size * ranks, agents)
                cut_s = time.monotonic()
                hosts.cut(size - 1)
            agents[0].wait(_LONGEST_SECONDS)
            named_s = time.monotonic() - cut_s
            for agent in agents:
                agent.wait(_LONGEST_SECONDS)
        finally:
            for agent in agents:
                agent.terminate()
                agent.wait()
        return _found(folder, outputs)._replace(named_s=named_s)


def _torchrun(hosts: Hosts, number: int, ranks: int, meet: str) -> list[str]:
    """The command on one host."""
    first = hosts.addresses[0]
    where = {
        "static": [f"--master-addr={first}", f"--master-port={_PORT}", f"--node-rank={number}"],
        "c10d": ["--rdzv-backend=c10d", f"--rdzv-endpoint={first}:{_PORT}", "--rdzv-id=far"],
    }
    torchrun = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={len(hosts.names)}", *where[meet]]
    return [*torchrun, f"--nproc-per-node={ranks}", *_PYTEST]


def _wait_until_measuring(folder: Path, ranks: int, agents: list[subprocess.Popen[str]]) -> None:
    deadline_s = time.monotonic() + _LONGEST_SECONDS
    while len(list(folder.glob("measures_*"))) < ranks:
        if time.monotonic() > deadline_s or any(agent.poll() is not None for agent in agents):
            raise RuntimeError("the ranks do not measure:\n" + (folder / "output_0").read_text())
        time.sleep(0.1)


def _found(folder: Path, outputs: list[Any]) -> Outcome:
    said = []
    for output in outputs:
        output.seek(0)
        said.append(output.read())
    statuses = {path.name.partition("_")[2]: int(path.read_text()) for path in folder.glob("status_*")}
    if not (folder / "result.json").exists():
        return Outcome([], [], statuses, said)
    runs = json.loads((folder / "result.json").read_text())["runs"]
    verdicts = [claim["verdict"] for run in runs for claim in run["claims"]]
    return Outcome(verdicts, [rank["host"] for rank in runs[0]["ranks"]], statuses, said)
