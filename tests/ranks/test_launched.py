"""Ranks that torchrun starts: what is said and left when one is killed, or all are interrupted. Two jobs at once."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from tests.ranks.launched import Launched

pytestmark = pytest.mark.slow
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


@pytest.fixture(scope="module")
def jobs(tmp_path_factory, _source):
    launched = {}
    for what in ("kill", "interrupt"):
        folder = tmp_path_factory.mktemp(what)
        (folder / "rank.py").write_text(RANK)
        launched[what] = Launched(_source.popen, folder, "-m", "rank", what, str(folder))
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
    assert psutil.wait_procs(job.processes, timeout=10)[1] == []  # a rank that is left sleeps for longer
