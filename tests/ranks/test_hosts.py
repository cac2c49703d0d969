"""Ranks on hosts that are far apart, or cut off: network namespaces of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from suites.ranks.hosts import Hosts, HostsError

RANK = """
import os, sys
from pathlib import Path
from pytest_loaderperf.ranks import RankError, listening, peer
from pytest_loaderperf.ranks.link import Link
from pytest_loaderperf.ranks.world import world_of

listening.SILENT_SECONDS = peer.SILENT_SECONDS = 3.0
listening._PING_SECONDS = 0.5
link = Link(world_of(os.environ), 60)
try:
    for number in range(20):
        given = link.gather(os.urandom(20_000), "observe")
        link.barrier("starting")
        assert [len(answer) for answer in given] == [20_000] * (0 if link.world.rank else link.world.size)
    Path(sys.argv[1], f"ready_{link.world.rank}").touch()
    link.told("what comes next") if link.world.rank else link.gather(None, "observe more")
except RankError as error:
    print(error, flush=True)
finally:
    link.close()
"""


@pytest.fixture
def hosts(tmp_path):
    try:
        made = Hosts(tmp_path, 2, delay_s=0.02, loss=0.01)
    except HostsError as error:
        pytest.skip(f"no hosts: {error}")
    with made:
        yield made
    assert not [name for name in psutil.net_if_addrs() if name.startswith(f"lp{os.getpid()}n")]


@pytest.mark.long
def test_ranks_work_over_a_slow_network_and_name_a_host_that_is_cut_off(hosts, tmp_path):
    (tmp_path / "rank.py").write_text(RANK)
    meet = {"WORLD_SIZE": "2", "MASTER_ADDR": hosts.addresses[0], "MASTER_PORT": "29500"}
    env = os.environ | meet | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    ranks = [
        hosts.start(
            rank,
            [sys.executable, str(tmp_path / "rank.py"), str(tmp_path)],
            env=env | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    try:
        while len(list(tmp_path.glob("ready_*"))) < 2:
            assert [rank.poll() for rank in ranks] == [None, None]
            time.sleep(0.1)
        hosts.cut(1)
        first, second = [rank.communicate(timeout=60)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    assert first.startswith("rank 1 on host host-1 (process ")
    assert ") gave no sign of life for " in first
    assert "Its host does not answer: the network between the hosts is cut, or the host is down." in first
    assert second.startswith("rank 0 on host host-0 (process ")
