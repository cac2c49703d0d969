"""Which rank of which job this process is, as its launcher says in the environment."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import NamedTuple

from pytest_loaderperf.errors import printable
from pytest_loaderperf.ranks import RankError

_LAUNCHERS = {  # variables of a launcher that does not set torch's own: rank, size, local rank
    "srun": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"),
}
_MOST_PORT = 65_535


class World(NamedTuple):
    """One rank of a job, and where the ranks meet.

    ``address`` and ``port`` are those of torch.distributed's store, on the host of rank 0. With ``agent_store`` the
    launcher keeps it open, otherwise rank 0 does.
    """

    rank: int
    size: int
    local_rank: int
    host: str
    address: str = ""
    port: int = 0
    agent_store: bool = False


def world_of(environ: Mapping[str, str]) -> World | None:
    """The rank that ``environ`` describes; None for a process that is not one of several ranks.

    Raises RankError if it describes a rank only in part.
    """
    names, launcher = ("RANK", "WORLD_SIZE", "LOCAL_RANK"), ""
    if "WORLD_SIZE" not in environ:
        found = [name for name, (rank, size, _) in _LAUNCHERS.items() if rank in environ and size in environ]
        if not found or (found == ["srun"] and "MASTER_ADDR" not in environ):
            return None  # srun also starts many commands that have nothing to do with each other
        launcher, names = found[0], _LAUNCHERS[found[0]]
    rank_name, size_name, local_name = names
    size = _number(environ, size_name, 1, None)
    if size == 1:
        return None
    needed = [rank_name, "MASTER_ADDR", "MASTER_PORT"]
    if missing := [name for name in needed if not environ.get(name)]:
        way_out = (
            f"Export them before {launcher}: the host name of rank 0, and a free port there."
            if launcher
            else "Start all ranks by torchrun, or unset WORLD_SIZE to measure in this process alone."
        )
        raise RankError(
            f"{size_name}={size}: expected {', '.join(needed)} in the environment, got no {' and no '.join(missing)}. "
            + way_out
        )
    return World(
        _number(environ, rank_name, 0, size - 1),
        size,
        _number(environ, local_name, 0, size - 1) if local_name in environ else 0,
        socket.gethostname(),
        environ["MASTER_ADDR"],
        _number(environ, "MASTER_PORT", 0, _MOST_PORT),
        agent_store=environ.get("TORCHELASTIC_USE_AGENT_STORE") == str(True),
    )


def _number(environ: Mapping[str, str], name: str, least: int, most: int | None) -> int:
    text = environ[name].strip()
    if text.isdecimal() and least <= (number := int(text)) and (most is None or number <= most):
        return number
    expected = f"from {least} to {most}" if most is not None else f"of at least {least}"
    raise RankError(
        f"{name}: expected an integer {expected} in the environment, got {printable(repr(environ[name]))}. "
        "Start all ranks by one launcher, such as torchrun."
    )
