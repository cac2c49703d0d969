"""The launchers of a cluster start the ranks: Open MPI's mpirun, and SLURM's srun, where this machine has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ranks.conftest import free_port

pytestmark = pytest.mark.long
TESTS = """
import os
from pathlib import Path
from torch.utils.data import DataLoader

def test_speed(loaderperf):
    run = loaderperf(lambda rank, world_size: DataLoader(range(rank, 2000, world_size), batch_size=20))
    Path("ranks_" + str(len(run.ranks)) + "_" + os.environ[os.environ["RANK_IS"]]).touch()
    assert run.throughput >= 1e15
"""
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "2"]
SRUN = ["srun", "--ntasks=2", "--overcommit", "--immediate=30"]


def works(probe):
    """Whether the launcher is here, and can start something: srun needs a cluster that runs."""
    try:
        return subprocess.run(probe, capture_output=True, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@pytest.mark.parametrize(
    "launcher, rank_is", [(MPIRUN, "OMPI_COMM_WORLD_RANK"), (SRUN, "SLURM_PROCID")], ids=["mpirun", "srun"]
)
def test_a_launcher_starts_the_ranks_of_one_job(launcher, rank_is, tmp_path):
    if shutil.which(launcher[0]) is None or not works([*launcher, "true"]):
        pytest.skip(f"no {launcher[0]} that can start two processes here")
    (tmp_path / "test_launched.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "RANK_IS": rank_is}
    quickly = {"OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": "-p no:cacheprovider -o loaderperf_doctor=0"}
    done = subprocess.run(
        [*launcher, sys.executable, "-m", "pytest", "--loaderperf", "--color=no", "--loaderperf-budget=5"],
        cwd=tmp_path,
        env=os.environ | meet | quickly | {"PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert sorted(path.name for path in tmp_path.glob("ranks_*")) == ["ranks_2_0", "ranks_2_1"], said
    assert said.count("samples/s      p50") == 1, said
    assert said.count("1 failed") == 1, said
