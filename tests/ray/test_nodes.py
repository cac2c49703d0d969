"""Workers on several nodes of a cluster: one subprocess with one cluster does it all."""

from __future__ import annotations

import re
import socket

import pytest

from tests.ray.apart import seen_by

pytest.importorskip("ray")
pytestmark = pytest.mark.long
MODULE = """
import time
from pathlib import Path
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

class Rows(Dataset):
    def __len__(self):
        return 640
    def __getitem__(self, index):
        return torch.tensor(index)

class Slow(Rows):
    def __getitem__(self, index):
        if index > 320:
            Path("measures").touch()
        time.sleep(0.05)
        return torch.tensor(index)

def make_loader(rank, world_size, rows=Rows()):
    return DataLoader(rows, 32, sampler=DistributedSampler(rows, world_size, rank))

def make_slow_loader(rank, world_size):
    return make_loader(rank, world_size, Slow())
"""


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """What `tests.ray.on_nodes` saw."""
    folder = tmp_path_factory.mktemp("nodes")
    return seen_by(
        "tests.ray.on_nodes", folder, "nodes.json", MODULE, RAY_USAGE_STATS_ENABLED="0", RAY_AUTH_MODE="disabled"
    )


def test_workers_on_several_nodes_are_ranks_of_one_job(seen):
    assert (seen["job"]["status"], seen["job"]["err"]) == (0, "")
    assert "3 ranks" in seen["job"]["out"]
    assert seen["job"]["out"].count("rank ") == 3


def test_a_node_that_dies_in_mid_run_is_named_and_nothing_is_left(seen):
    assert seen["killed"]["status"] == 1
    assert "samples/s" not in seen["killed"]["out"]  # Ray itself may tell of the node there
    host = re.escape(socket.gethostname())
    assert re.match(rf"loaderperf: (rank|worker) \d on (host )?{host} \(.*(ended|died)\.", seen["killed"]["err"]), seen
    assert seen["idle"]
    assert seen["workers"] == []
