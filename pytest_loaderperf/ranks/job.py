"""The job that this process is a rank of, if a launcher such as torchrun has started it as one of several."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from pytest_loaderperf.defaults import ALONE
from pytest_loaderperf.ranks.world import World, world_of

if TYPE_CHECKING:
    from pytest_loaderperf.ranks.link import Link

_LEAST_PATIENCE_SECONDS, _PATIENCE = 600.0, 5.0  # for a rank that is alive: so many times what a loader has


def own_world() -> World | None:
    """This process's rank; None if it measures by itself. Raises RankError if its environment contradicts itself."""
    return None if os.environ.get(ALONE) else world_of(os.environ)


@cache
def own_link(timeout_seconds: float) -> Link | None:
    """The link to the other ranks, joined at the first call; None if this process measures by itself.

    ``timeout_seconds``: without a batch, after which a loader hangs. Raises RankError if not all ranks arrive.
    """
    world = own_world()
    if world is None:
        return None
    from pytest_loaderperf.ranks.link import Link  # with torch

    return Link(world, max(_LEAST_PATIENCE_SECONDS, _PATIENCE * timeout_seconds))
