"""Which rank a process is, by the environment that its launcher sets."""

from __future__ import annotations

import pytest

from pytest_loaderperf.ranks import RankError
from pytest_loaderperf.ranks.world import world_of

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "node-a", "MASTER_PORT": "29500"}
MEET = {"MASTER_ADDR": "node-a", "MASTER_PORT": "29500"}
SRUN = {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "4", "SLURM_LOCALID": "1"}
MPIRUN = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}


@pytest.mark.parametrize("environ", [TORCHRUN, SRUN | MEET, MPIRUN | MEET])
def test_a_launcher_says_which_rank_a_process_is(environ):
    world = world_of(environ)
    assert world is not None
    assert (world.rank, world.size, world.local_rank, world.address, world.port) == (3, 4, 1, "node-a", 29500)
    assert not world.agent_store


def test_torchrun_keeps_the_store_open_itself():
    assert world_of(TORCHRUN | {"TORCHELASTIC_USE_AGENT_STORE": "True"}).agent_store


def test_torchruns_variables_come_before_those_of_the_launcher_around_it():
    assert world_of(TORCHRUN | {"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2"}).size == 4


@pytest.mark.parametrize(
    "environ", [{}, TORCHRUN | {"WORLD_SIZE": "1"}, {"WORLD_SIZE": "1"}, SRUN, MPIRUN | {"OMPI_COMM_WORLD_SIZE": "1"}]
)
def test_a_process_by_itself_is_no_rank(environ):
    assert world_of(environ) is None


NO_RENDEZVOUS = (
    "WORLD_SIZE=2: expected RANK, MASTER_ADDR, MASTER_PORT in the environment, got no MASTER_ADDR and no MASTER_PORT. "
    "Start all ranks by torchrun, or unset WORLD_SIZE to measure in this process alone."
)
NOT_EXPORTED = (
    "OMPI_COMM_WORLD_SIZE=4: expected OMPI_COMM_WORLD_RANK, MASTER_ADDR, MASTER_PORT in the environment, got no "
    "MASTER_ADDR and no MASTER_PORT. Export them before mpirun: the host name of rank 0, and a free port there."
)
BEYOND = (
    "RANK: expected an integer from 0 to 3 in the environment, got '4'. "
    "Start all ranks by one launcher, such as torchrun."
)
NO_NUMBER = (
    "WORLD_SIZE: expected an integer of at least 1 in the environment, got 'many'. "
    "Start all ranks by one launcher, such as torchrun."
)


@pytest.mark.parametrize(
    "environ, text",
    [
        ({"WORLD_SIZE": "2", "RANK": "0"}, NO_RENDEZVOUS),
        (MPIRUN, NOT_EXPORTED),
        (TORCHRUN | {"RANK": "4"}, BEYOND),
        (TORCHRUN | {"WORLD_SIZE": "many"}, NO_NUMBER),
    ],
)
def test_a_rank_that_is_described_only_in_part_is_an_error(environ, text):
    with pytest.raises(RankError) as error:
        world_of(environ)
    assert str(error.value) == text
