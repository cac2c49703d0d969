"""Ranks that torchrun starts: what is said and left when one is killed, or all are interrupted. Two jobs at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

RANK = """
import os, signal, sys, time
from pathlib import Path
from pytest_loaderperf.ranks.link import Link
from pytest_loaderperf.ranks.world import world_of

world = world_of(os.environ)
made = Path(sys.argv[2]) / f"made_by_{world.rank}"
try:
    link = Link(world, 60)
    made.touch()
    link.begin("test_one")
    if sys.argv[1] == "kill" and world.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    (made.parent / f"ready_{world.rank}").touch()
    time.sleep(60)  # measures, and does not wait for the others
except KeyboardInterrupt as interrupt:
    print(f"rank {world.rank}: {interrupt}", flush=True)
    raise SystemExit(1)
finally:
    made.unlink(missing_ok=True)
    link.close()
"""


class Launched:
    """A job of two ranks, with all its processes and output."""

    def __init__(self, folder, what):
        self.folder = folder
        (folder / "rank.py").write_text(RANK)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        env = os.environ | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
        self._output = (folder / "output").open("w+")
        self.process = subprocess.Popen(
            [*command, "rank.py", what, str(folder)],
            cwd=folder,
            env=env,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def ready(self):
        deadline_s = time.monotonic() + 90
        while len(list(self.folder.glob("ready_*"))) < 2:
            assert time.monotonic() < deadline_s, self.output
            assert self.process.poll() is None, self.output
            time.sleep(0.1)
        self.processes = psutil.Process(self.process.pid).children(recursive=True)

    @property
    def output(self):
        self._output.seek(0)
        return self._output.read()

    def end(self):
        for process in psutil.Process(self.process.pid).children(recursive=True) if self.process.poll() is None else []:
            process.kill()
        self.process.kill()
        self.process.wait()
        self._output.close()


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    launched = {what: Launched(tmp_path_factory.mktemp(what), what) for what in ("kill", "interrupt")}
    yield launched
    for job in launched.values():
        job.end()


def test_a_killed_rank_is_named_by_rank_0_before_the_launcher_ends_it_and_nothing_is_left(jobs):
    job = jobs["kill"]
    assert job.process.wait(120) == 1
    named = [
        line for line in job.output.splitlines() if "rank 0: the launcher ended this rank (SIGTERM). rank 1 on" in line
    ]
    assert len(named) == 1, job.output
    assert ") ended. Its stage was 'test_one', and rank 0 on host " in named[0]
    assert list(job.folder.glob("made_*")) == [job.folder / "made_by_1"]


def test_an_interrupt_of_the_launcher_ends_all_ranks_and_they_clean_up(jobs):
    job = jobs["interrupt"]
    job.ready()
    begin_s = time.monotonic()
    os.kill(job.process.pid, signal.SIGINT)
    assert job.process.wait(60) != 0
    assert time.monotonic() - begin_s < 20
    assert {line for line in job.output.splitlines() if line.startswith("rank ")} == {"rank 0: ", "rank 1: "}, (
        job.output
    )
    assert not list(job.folder.glob("made_*"))
    assert not [process for process in job.processes if process.is_running()]
