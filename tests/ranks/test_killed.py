"""pytest --loaderperf at two ranks of torchrun: one rank's loader raises, then one rank is killed, with a base."""

from __future__ import annotations

import subprocess

import pytest

from tests.ranks.launched import Launched

pytestmark = pytest.mark.slow
LOADERS = """
import os, signal
from torch.utils.data import DataLoader

class Numbers:
    def __init__(self, at_rank_1=None):
        self.at_rank_1 = at_rank_1 if os.environ["RANK"] == "1" else None
        self.given = 0
    def __len__(self):
        return 2000
    def __getitem__(self, index):
        self.given += 1
        if self.at_rank_1 and self.given > 4000:
            self.at_rank_1()
        return index

def raise_an_error():
    raise ValueError("sample is broken")

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

def loader(at_rank_1=None):
    return DataLoader(Numbers(at_rank_1), batch_size=20)
"""
TESTS = """
import loaders

def test_broken(loaderperf):
    run = loaderperf(lambda: loaders.loader(loaders.raise_an_error))
    assert run.throughput >= 1

def test_fine(loaderperf):
    assert loaderperf(loaders.loader).throughput >= 1

def test_killed(loaderperf):
    run = loaderperf(lambda: loaders.loader(loaders.kill))
    assert run.throughput >= 0.01 * run.base.throughput

def test_never_begun(loaderperf):
    assert loaderperf(loaders.loader).throughput >= 1
"""
PYTEST = ["-m", "pytest", "--loaderperf", "--loaderperf-base=HEAD", "--loaderperf-budget=1", "-v", "-o", "addopts="]


@pytest.fixture(scope="module")
def job(tmp_path_factory, _source):
    folder = tmp_path_factory.mktemp("job")
    for name, text in {"loaders.py": LOADERS, "test_ranks.py": TESTS, "pytest.ini": "[pytest]\n"}.items():
        (folder / name).write_text(text)
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *command], cwd=folder, check=True)
    launched = Launched(_source.popen, folder, *PYTEST)
    yield launched
    launched.end()


def test_a_broken_loader_of_one_rank_fails_its_test_and_a_killed_rank_ends_the_run(job):
    assert job.process.wait(240) == 1
    lines = job.output.partition("= short test summary info =")[0].splitlines()  # which repeats them on CI
    outcomes = {
        line.split()[0]: line.split()[1] for line in lines if line.startswith("test_ranks.py::") and "[" in line
    }
    names = ("test_broken", "test_fine", "test_killed")
    assert outcomes == {
        f"test_ranks.py::{name}": outcome for name, outcome in zip(names, ("FAILED", "PASSED", "FAILED"), strict=True)
    }, job.output
    assert "ValueError: sample is broken" in lines
    assert "(at rank 1 on host" in job.output
    named = [line for line in lines if ") ended. Its stage was 'observe " in line and ", and rank 0 on host" in line]
    assert len(named) == 1, job.output
    assert named[0].startswith("rank 1 on host ")


def test_nothing_of_the_base_is_left_where_a_rank_was_killed(job):
    assert job.process.wait(240) == 1
    listed = subprocess.run(["git", "worktree", "list"], cwd=job.folder, capture_output=True, text=True, check=True)
    assert len(listed.stdout.splitlines()) == 1, listed.stdout
