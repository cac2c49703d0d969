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
_STALLS, _STALL = 0.05, 3.0  # share of the batches that take so many times as long as a typical one
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
    """Mean seconds of a step of a real job, and of the step alone, from when all ranks have their batch.

    Each rank is a process. All exchange a number before each step, and so wait for the slowest, as with gradients.
    """
    with tempfile.TemporaryDirectory() as folder:
        start_processes(_run, (ranks, pace, step_s, steps, Path(folder)), nprocs=ranks, start_method="fork")
        received_s, ended_s = np.moveaxis([np.load(file) for file in Path(folder).glob("*.npy")], 1, 0)
    begun_s = received_s.max(axis=0)  # processes of one machine have the same clock
    return float(np.diff(begun_s).mean()), float((ended_s - begun_s)[:, :-1].mean())


def _run(rank: int, ranks: int, pace: Pace, step_s: float, steps: int, folder: Path) -> None:  # noqa: PLR0917 by torch
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    batches, number = iter(loader(pace)), torch.zeros(1)
    times_s = np.zeros((2, _SETTLING + steps))
    for step in range(_SETTLING + steps):
        next(batches)
        times_s[0, step] = time.perf_counter()
        torch.distributed.all_reduce(number)
        time.sleep(step_s)
        times_s[1, step] = time.perf_counter()
    np.save(folder / f"{rank}.npy", times_s[:, _SETTLING:])
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
