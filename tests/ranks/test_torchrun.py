"""pytest at two ranks that torchrun starts: one table, one result, one status. Two jobs, at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.quick_sessions import CHILDREN_TOO

TESTS = """
import os
import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from pytest_loaderperf import ms

RANK = int(os.environ["RANK"])
DATA = TensorDataset(torch.arange(4096.0).reshape(512, 8))

def make_loader(rank, world_size):
    return DataLoader(DATA, batch_size=4, sampler=DistributedSampler(DATA, world_size, rank))

def test_claims(loaderperf):
    run = loaderperf(make_loader, against=lambda: DataLoader(DATA, batch_size=4))
    if RANK == 0:
        print(run.throughput)
    assert [rank.rank for rank in run.ranks] == [0, 1]
    assert run.ranks[1].throughput.value > 0
    assert run.throughput >= 1e-6 * run.against.throughput
    assert run.skew <= 1000
    assert run.data_wait(step=1 * ms) <= 0.9999
    assert run.dataset_nbytes == 512 * 32

def test_fails(loaderperf):
    run = loaderperf(make_loader)
    assert run.throughput >= 1e15

def test_one_rank_cannot_build(loaderperf):
    def make():
        if RANK == 1:
            raise ValueError("no such file")
        return DataLoader(DATA, batch_size=4)

    loaderperf(make)

def test_one_rank_fails_by_itself(loaderperf):
    run = loaderperf(lambda: DataLoader(DATA, batch_size=4))
    assert RANK == 0, "only at rank 1"
    assert run.throughput >= 1e-6

def test_one_rank_is_skipped(loaderperf):
    if RANK == 1:
        pytest.skip("not here")
    loaderperf(make_loader)

def test_ranks_bear_no_claims(loaderperf):
    assert loaderperf(make_loader).ranks[0].throughput >= 1

def test_needs_a_base(loaderperf):
    assert loaderperf(make_loader).base.throughput >= 1
"""
DIFFERENT = """
import os

def test_everywhere(loaderperf):
    pass

if os.environ["RANK"] == "1":
    def test_only_at_rank_1(loaderperf):
        pass
"""
ARGUMENTS = ["--loaderperf", "--loaderperf-budget=20", "--loaderperf-json=result.json", "--tb=short", "-q"]


class Job:
    def __init__(self, popen, folder, tests, name):
        (folder / f"test_{name}.py").write_text(tests)
        self.folder = folder
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        env = os.environ | {
            "PYTHONPATH": str(Path.cwd()),
            "OMP_NUM_THREADS": "1",
            "PYTEST_ADDOPTS": "-p no:cacheprovider",
            CHILDREN_TOO: "1",
        }
        self._process = popen(
            [*command, "-m", "pytest", f"test_{name}.py", *ARGUMENTS],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._output = None

    @property
    def output(self):
        if self._output is None:
            self._output, _ = self._process.communicate(timeout=240)
        return self._output

    @property
    def status(self):
        """Of rank 0, as torchrun tells it."""
        return re.findall(r"rank +: (\d).*\n +exitcode +: (-?\d+)", self.output)

    def close(self):
        self._process.terminate()
        self._process.wait(60)
        self._process.stdout.close()  # nobody need have read it


@pytest.fixture(scope="module")
def jobs(tmp_path_factory, _source):
    made = {
        name: Job(_source.popen, tmp_path_factory.mktemp(name), tests, name)
        for name, tests in (("job", TESTS), ("differ", DIFFERENT))
    }
    yield made
    for job in made.values():
        job.close()


@pytest.fixture
def job(jobs):
    return jobs["job"]


def test_all_ranks_read_as_one_run_and_end_with_one_status(job):
    assert job.output.count("samples/s      p50") == 1, job.output
    assert job.output.count("short test summary info") == 1
    assert "4 failed, 2 passed, 1 skipped" in job.output
    assert set(job.status) <= {("0", "1"), ("1", "1")}
    assert job.status


def test_a_claim_holds_or_fails_at_all_ranks(job):
    assert "PASS  throughput >= 1e-06 * against.throughput" in job.output
    assert job.output.count("E   assert FAIL: throughput >= 1,000,000,000,000,000 samples/s") == 1


def test_what_fails_at_one_rank_only_is_told_by_rank_0(job):
    assert "LoaderError: the loader factory make() raised ValueError: no such file" in job.output
    assert re.search(r"E +\(at rank 1 on host .*\)", job.output)
    assert re.search(r"=+ test_job\.py::test_one_rank_fails_by_itself failed at rank 1 on \S+ =+", job.output)
    assert "AssertionError: only at rank 1" in job.output
    assert "is at 'test_job.py::test_ranks_bear_no_claims' while rank 0" in job.output


def test_metrics_of_one_rank_bear_no_claims(job):
    assert "ClaimError: ranks[0].throughput is for looking: expected a claim on the whole job." in job.output


def test_the_result_has_the_ranks(job):
    assert job.output
    document = json.loads((job.folder / "result.json").read_text())
    runs = {run["nodeid"].partition("::")[2]: run for run in document["runs"]}
    claims = runs["test_claims"]
    assert [rank["rank"] for rank in claims["ranks"]] == [0, 1]
    assert len({rank["host"] for rank in claims["ranks"]}) == 1
    throughputs = [rank["metrics"]["throughput"]["value"] for rank in claims["ranks"]]
    assert min(throughputs) > 0
    assert claims["metrics"]["skew"]["value"] >= 1
    assert claims["metrics"]["skew"]["unit"] == "1"
    skews = [rank["metrics"]["skew"]["value"] for rank in claims["ranks"]]
    assert max(skews) == claims["metrics"]["skew"]["value"]
    assert all("data_wait" in rank["metrics"] for rank in claims["ranks"])
    assert [claim["verdict"] for claim in claims["claims"]] == ["PASS"] * 3
    assert not [path.name for path in job.folder.iterdir() if path.suffix == ".tmp"]


def test_data_that_every_rank_delivers_whole_are_named(job):
    assert "each of 2 ranks delivers all 512 samples" in job.output
    assert job.output.count("each of 2 ranks delivers") == 1  # not those with a sampler


def test_ranks_with_other_tests_are_refused_before_anything_is_measured(jobs):
    output = jobs["differ"].output
    assert output.count("ERROR: --loaderperf: expected the same on all ranks, got differences from rank 0") == 1, output
    assert "with also test_differ.py::test_only_at_rank_1" in output
    assert set(jobs["differ"].status) <= {("0", "4"), ("1", "4")}
    assert not (jobs["differ"].folder / "result.json").exists()
