"""What must be the same for every side while it is observed: torch's number of threads, and no garbage collection."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def restore_threads(torch_threads: int) -> None:
    """Put torch's number of threads back where a loader has changed it; setting it anew would start threads."""
    if torch.get_num_threads() != torch_threads:
        torch.set_num_threads(torch_threads)


@contextmanager
def equal_conditions(torch_threads: int) -> Iterator[None]:
    """Observe within this block."""
    restore_threads(torch_threads)
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
