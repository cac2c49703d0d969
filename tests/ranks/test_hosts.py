"""Ranks on hosts that are far apart, or cut off: network namespaces of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from suites.ranks.far import outcome
from suites.ranks.hosts import Hosts, HostsError

pytestmark = pytest.mark.long

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


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert not [name for name in psutil.net_if_addrs() if name.startswith(f"lp{os.getpid()}n")]


@pytest.fixture
def hosts(tmp_path, size):
    try:
        made = Hosts(tmp_path, size, delay_s=0.02, loss=0.01)
    except HostsError as error:
        pytest.skip(f"no hosts: {error}")
    with made:
        yield made


def outcome_of(*arguments, **options):
    try:
        return outcome(*arguments, **options)
    except HostsError as error:
        pytest.skip(f"no hosts: {error}")


over_sizes = pytest.mark.parametrize("size", [2, 3, 4])


@over_sizes
def test_ranks_work_over_a_slow_network_and_name_a_host_that_is_cut_off(hosts, tmp_path, size):
    (tmp_path / "rank.py").write_text(RANK)
    meet = {"WORLD_SIZE": str(size), "MASTER_ADDR": hosts.addresses[0], "MASTER_PORT": "29500"}
    env = os.environ | meet | {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    ranks = [
        hosts.start(
            rank,
            [sys.executable, str(tmp_path / "rank.py"), str(tmp_path)],
            env=env | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
        )
        for rank in range(size)
    ]
    try:
        while len(list(tmp_path.glob("ready_*"))) < size:
            assert [rank.poll() for rank in ranks] == [None] * size
            time.sleep(0.1)
        hosts.cut(size - 1)
        *others, cut = [rank.communicate(timeout=60)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()
    for said in others:
        assert said.startswith(f"rank {size - 1} on host host-{size - 1} (process ")
        assert ") gave no sign of life for " in said
        assert "Its host does not answer: the network between the hosts is cut, or the host is down." in said
    assert cut.startswith("rank 0 on host host-0 (process ")


@over_sizes
def test_verdicts_over_a_slow_network_are_those_of_a_fast_one_and_a_host_that_is_cut_off_in_mid_test_is_named(size):
    found = outcome_of(size, 1, "static", delay_s=0.02, loss=0.01, cut=True)
    said = found.outputs[0]
    assert found.verdicts[:2] == ["PASS", "FAIL"], said
    assert f"rank {size - 1} on host host-{size - 1} (process " in said
    assert re.search(r"\) gave no sign of life for 1\d s\. Its stage was '", said), said
    assert "Its host does not answer" in said
    assert found.statuses == {str(rank): 1 for rank in range(size)}, said


@pytest.mark.parametrize("size, meet", [(2, "static"), (2, "c10d"), (3, "c10d")])
def test_several_nodes_of_torchrun_show_one_table_and_end_alike(size, meet):
    found = outcome_of(size, 2, meet)
    said = "\n".join(found.outputs)
    assert found.verdicts == ["PASS", "FAIL"], said
    assert sorted(found.hosts) == sorted(2 * [f"host-{number}" for number in range(size)])
    assert found.statuses == {str(rank): 1 for rank in range(2 * size)}, said
    assert said.count("samples/s      p50") == 1, said
    assert said.count("1 failed, 1 passed") == 1, said
