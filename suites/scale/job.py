"""A loader whose batches take known times, and a real job of several ranks with it; both only sleep."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed
from torch.multiprocessing.spawn import start_processes
from torch.utils.data import DataLoader, Dataset

SAMPLES = 2000
_STALLS, _STALL = 0.05, 4.0  # share of the batches that take so many times as long as a typical one
_SETTLING = 20  # steps
_SEED = 7


class Pace(NamedTuple):
    """``typical_s``: of a batch. ``workers`` share the work, so that as many batches are made in a second."""

    typical_s: float
    workers: int


class Sleeps(Dataset[torch.Tensor]):
    """Samples that take ``typical_s`` seconds, more or less, and some of which stall."""

    def __init__(self, typical_s: float) -> None:
        rng = np.random.default_rng(_SEED)
        self.seconds = typical_s * rng.lognormal(0.0, 0.4, SAMPLES)
        self.seconds[rng.random(SAMPLES) < _STALLS] = typical_s * _STALL

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> torch.Tensor:
        time.sleep(self.seconds[index])
        return torch.zeros(1)


def loader(pace: Pace) -> DataLoader[torch.Tensor]:
    """One sample a batch, in random order."""
    return DataLoader(
        Sleeps(pace.typical_s * max(1, pace.workers)), batch_size=1, shuffle=True, num_workers=pace.workers
    )


def real_job(ranks: int, pace: Pace, step_s: float, steps: int) -> tuple[float, float]:
    """Mean seconds of a step of a real job, and of the step alone, without waiting for batches.

    Each rank is a process. All exchange a number before each step, and so wait for the slowest, as with gradients.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "seconds"
        start_processes(_run, (ranks, pace, step_s, steps, file), nprocs=ranks, start_method="fork")
        whole_s, alone_s = map(float, file.read_text().split())
        return whole_s, alone_s


def _run(rank: int, ranks: int, pace: Pace, step_s: float, steps: int, file: Path) -> None:  # noqa: PLR0917 by torch
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    meeting = f"file://{file.with_name('meeting')}"
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=ranks)
    batches = iter(loader(pace))
    slept_s, alone_s, began_s = torch.zeros(1), 0.0, 0.0
    for step in range(_SETTLING + steps):
        if step == _SETTLING:
            alone_s, began_s = 0.0, time.perf_counter()
        next(batches)
        torch.distributed.all_reduce(slept_s, torch.distributed.ReduceOp.MAX)
        alone_s += slept_s.item()
        now_s = time.perf_counter()
        time.sleep(step_s)
        slept_s.fill_(time.perf_counter() - now_s)
    whole_s = time.perf_counter() - began_s
    if rank == 0:
        file.write_text(f"{whole_s / steps} {alone_s / steps}")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
