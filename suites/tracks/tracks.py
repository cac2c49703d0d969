"""The three tracks: nanoseconds of a sample, samples/s of a loader, the data-wait fraction of a training loop."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import chain, repeat
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn

from suites.tracks.images import CLASSES

BATCH_SIZE = 32
LEAST_STEPS = 2
_clock = time.perf_counter_ns


def sample_ns(dataset: Any, samples: int, most_ns: int, *, seed: int) -> float:
    """Track 1: median nanoseconds of ``dataset[i]`` over ``samples`` random indices, or what comes in ``most_ns``."""
    indices = np.random.Generator(np.random.PCG64(seed)).integers(0, len(dataset), samples).tolist()
    latencies = []
    for index in indices:
        began_ns = _clock()
        dataset[index]
        latencies.append(_clock() - began_ns)
        if sum(latencies) > most_ns:
            break
    return median(latencies)


class Bare:
    """The least work for a sample of ``store``, of columns of plain arrays: a tensor over a copy of each row."""

    def __init__(self, store: Any) -> None:
        names = store.columns.rebuild.names
        self._rows = [(name, column.rows) for name, column in zip(names, store.columns.columns, strict=True)]

    def __len__(self) -> int:
        return len(self._rows[0][1])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(rows[index, ...].copy()) for name, rows in self._rows}


def samples_per_s(loader: Iterable[Any], most_ns: int) -> float:
    """Track 2: samples a second over whole epochs, or over as many batches as come within ``most_ns``."""
    samples, began_ns = 0, _clock()
    while True:
        for batch in loader:
            samples += len(batch["label"])
            if _clock() - began_ns > most_ns:
                return samples * 1e9 / (_clock() - began_ns)


class Training:
    """A small real model, and one step of stochastic gradient descent on a batch of images."""

    def __init__(self, pixels: int, device: str) -> None:
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 64), nn.ReLU(), nn.Linear(64, CLASSES))
        self.model, self.device = layers.to(device), device
        self._optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3)

    def step(self, batch: dict[str, torch.Tensor]) -> None:
        """Forward, backward, update."""
        images = batch["image"].to(self.device).float() / 65535
        loss = nn.functional.cross_entropy(self.model(images), batch["label"].to(self.device))
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        if self.device != "cpu":
            torch.cuda.synchronize()


def data_wait(loader: Iterable[Any], training: Training, steps: int, most_ns: int) -> float:
    """Track 3: the share of a training loop spent in ``next()``, without its first step; AU is 1 minus this.

    The loop ends after ``steps``, or after ``most_ns`` and at least two steps.
    """
    batches = chain.from_iterable(repeat(loader))
    wait_ns = began_ns = last_ns = 0
    for step in range(steps + 1):
        asked_ns = _clock()
        batch = next(batches)
        came_ns = _clock()
        training.step(batch)
        last_ns = _clock()
        if step == 0:
            began_ns = last_ns
        else:
            wait_ns += came_ns - asked_ns
        if step >= LEAST_STEPS and last_ns - began_ns > most_ns:
            break
    return wait_ns / (last_ns - began_ns)
