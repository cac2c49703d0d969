"""The examples of docs/trainers.md run, at two ranks on this machine's CPU."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
TRAINERS = Path(sys.prefix) / "trainers"  # where make installs requirements/trainers.txt
needs_trainers = pytest.mark.skipif(not TRAINERS.is_dir(), reason="make installs requirements/trainers.txt there")
MEASURE = ("-m", "pytest", "-p", "no:cacheprovider", "--loaderperf", "--loaderperf-budget=1", "--loaderperf-alpha=0.1")
# srun starts each task with its number; scontrol lists the hosts.
SRUN = """#!/bin/sh
export SLURM_NTASKS=2 SLURM_STEP_NUM_TASKS=2
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" > rank1.txt 2>&1 &
SLURM_PROCID=0 SLURM_LOCALID=0 "$@"
first=$?
wait $! && exit $first
"""
SCONTROL = "#!/bin/sh\necho 127.0.0.1\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The files that the page shows, and what a cluster has."""
    folder = tmp_path_factory.mktemp("job")
    page = (ROOT / "docs" / "trainers.md").read_text("utf-8")
    for code in re.findall(r"^```(?:py|bash)\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        (folder / re.search(r"^# (\S+\.(?:py|sbatch))$", code, re.MULTILINE)[1]).write_text(code)
    for name, script in (("srun", SRUN), ("scontrol", SCONTROL)):
        file = folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(script)
        file.chmod(0o755)
    return folder


def run(project, command, **environ):
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "PYTHONWARNINGS"}}
    path = os.pathsep.join(map(str, (ROOT, TRAINERS)))
    done = subprocess.run(
        command,
        cwd=project,
        env={**kept, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **environ},
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def at_two_ranks(project, *command):
    return run(project, [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", *command])


def test_the_page_shows_these_files(project):
    shown = {path.name for path in project.iterdir() if path.is_file()}
    trainers = {f"train_{name}.py" for name in ("ddp", "fsdp", "lightning", "accelerate")}
    assert shown == {*trainers, "data.py", "test_data.py", "test_accelerate.py", "job.sbatch"}


@pytest.mark.parametrize("name", ["ddp", "fsdp", pytest.param("lightning", marks=needs_trainers)])
def test_training_runs_with_the_loader(project, name):
    at_two_ranks(project, f"train_{name}.py")


def test_the_loaders_of_all_ranks_are_measured(project):
    shown = at_two_ranks(project, *MEASURE, "test_data.py")
    assert re.search(r"test_data\.py::test_the_loaders_feed_the_step .*2 ranks", shown)
    assert "1 passed" in shown


@needs_trainers
def test_a_loader_that_accelerate_has_prepared_trains_and_is_measured(project):
    at_two_ranks(project, "train_accelerate.py")
    shown = at_two_ranks(project, *MEASURE, "test_accelerate.py")
    assert "loader: DataLoaderShard" in shown
    assert "1 passed" in shown


def test_srun_starts_the_ranks(project):
    """With a stand-in for SLURM's commands: this machine has none."""
    script = (project / "job.sbatch").read_text()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert "MASTER_PORT=29500" in script
    (project / "job.sh").write_text(script.replace("29500", str(port)).replace("--loaderperf", " ".join(MEASURE[2:])))
    path = os.pathsep.join([str(project / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    shown = run(project, ["bash", "job.sh"], PATH=path, SLURM_JOB_NODELIST="127.0.0.1")
    assert re.search(r"test_data\.py::test_the_loaders_feed_the_step .*2 ranks", shown)
    assert "1 passed" in shown
    assert "loaderperf ==" not in (project / "rank1.txt").read_text()
