"""Jobs, training loops and datasets on a real cluster of Ray: one subprocess with one cluster does it all."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from pytest_loaderperf.data.formats import write_table
from tests.ray.apart import seen_by

pytest.importorskip("ray")
pytestmark = pytest.mark.long
ROWS = 480
MODULE = """
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

class Rows(Dataset):
    def __len__(self):
        return 640
    def __getitem__(self, index):
        return torch.zeros(8)

def make_loader(rank, world_size, rows=Rows()):
    return DataLoader(rows, 32, sampler=DistributedSampler(rows, world_size, rank))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def seen(folder):
    """What `tests.ray.on_a_cluster` saw."""
    images = np.arange(ROWS * 3 * 8 * 8, dtype=np.float32).reshape(ROWS, 3, 8, 8)
    table = pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(images), "label": np.arange(ROWS)})
    write_table(table, folder / "cells.arrow")
    return seen_by("tests.ray.on_a_cluster", folder, "seen.json", MODULE)


def test_a_job_prints_one_table_and_writes_one_result(seen, folder):
    job = seen["job"]
    assert (job["status"], job["err"]) == (0, "")
    lines = job["out"].splitlines()
    begins = ["loader", "mypkg:make_loader", "loader:", "rank", "rank", "roofline"]
    assert [line.split()[0] for line in lines[: len(begins)]] == begins
    assert lines[-1] == "result written to result.json"
    result = json.loads((folder / "result.json").read_text("utf-8"))
    (run,) = result["runs"]
    assert run["nodeid"] == "mypkg:make_loader"
    assert run["sides"][0]["metrics"]["throughput"]["value"] > 0
    assert [rank["rank"] for rank in run["ranks"]] == [0, 1]
    assert all(rank["metrics"]["throughput"]["value"] > 0 for rank in run["ranks"])


def test_a_cluster_that_is_too_small_is_an_error_at_once(seen):
    assert seen["too many"]["err"] == (
        "loaderperf: 99 workers need 49.5 CPUs: expected that many in the cluster, got 3 on 1 node. "
        "Ask for fewer workers, or add nodes, or give each less than a CPU: --cpus 0.5.\n"
    )
    assert "expected at least 2 nodes, got 1" in seen["apart"]["err"]


def test_a_busy_cluster_is_not_waited_for_forever(seen):
    assert "expected 2 places of 0.5 CPU each to be free within 0.5 s, got 0 CPU free" in seen["busy"]["err"]


def test_nothing_is_left_in_the_cluster_nor_of_it(seen, folder):
    assert seen["idle after jobs"]
    assert seen["gone"]
    assert seen["environment"] == []
    assert not (folder / ".ray").exists()


def test_waits_of_a_training_loop_are_those_of_all_workers(seen):
    waits = seen["waits"]
    assert [worker["rank"] for worker in waits["workers"]] == [0, 1]
    for worker in waits["workers"]:
        assert worker["steps"] >= 2
        assert 0 < worker["data_wait"] < 1
        assert worker["mean_step_seconds"] >= 0.001
        assert worker["first_batch_seconds"] > 0
    assert waits["data_wait"] == max(worker["data_wait"] for worker in waits["workers"])
    assert waits["skew"] >= 1
