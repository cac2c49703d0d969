"""Does the transfer to a GPU reach its limits? Ratios in one run, sides in turns: ``pytest suites/cuda -s``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from pytest_loaderperf import ReferenceLoader
from pytest_loaderperf.data import workload
from pytest_loaderperf.loader.transfer import CudaRuntime, Decision, pinned_empty, transferred

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and torch sees none"),
]
BATCH_SIZE, FEATURES = 4096, 784
BATCHES, ROUNDS = 200, 15
AHEAD = Decision(pin=True, ahead=2, reason="the suite's")


def seconds(run: Callable[[], object]) -> float:
    """From an idle device to an idle device."""
    torch.cuda.synchronize()
    began_s = time.perf_counter()
    run()
    torch.cuda.synchronize()
    return time.perf_counter() - began_s


def in_turns(*sides: Callable[[], object]) -> list[list[float]]:
    """Seconds of each side, ROUNDS times in turns, after one round that is not timed."""
    rounds = [[seconds(side) for side in sides] for _ in range(1 + ROUNDS)]
    return [list(times) for times in zip(*rounds[1:], strict=True)]


def ratio(name: str, of: list[float], to: list[float]) -> float:
    """How many times faster ``of`` is than ``to``: the median over the rounds."""
    median = statistics.median(slow / fast for fast, slow in zip(of, to, strict=True))
    print(f"\n{torch.cuda.get_device_name()}: {name}: {median:.3f}")  # noqa: T201 the result
    return median


@pytest.fixture(scope="module")
def pinned() -> list[torch.Tensor]:
    """Batches in page-locked memory, as in a ring buffer."""
    batches = [torch.from_numpy(pinned_empty((BATCH_SIZE, FEATURES), np.dtype(np.float32))) for _ in range(4)]
    for batch in batches:
        batch.normal_()
    return batches


def ready(pinned: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    return islice((batch for batches in repeat(pinned) for batch in batches), BATCHES)


def drained(batches: Iterable[Any]) -> None:
    for _batch in batches:
        pass


def test_copies_reach_the_bandwidth_of_pinned_memory(pinned):
    device = torch.device("cuda")
    places = [torch.empty_like(batch, device=device) for batch in pinned]

    def limit() -> None:
        for i, batch in enumerate(ready(pinned)):
            places[i % len(places)].copy_(batch, non_blocking=True)

    moved, copied = in_turns(lambda: drained(transferred(ready(pinned), CudaRuntime(), AHEAD)), limit)
    assert ratio("H2D, of pinned copies", moved, copied) >= 0.95


def test_a_step_somewhat_longer_than_a_copy_hides_it(pinned):
    """AU: the time of the steps alone over that of the loop, for steps 1.2 times as long as a copy."""
    device = torch.device("cuda")
    place = torch.empty_like(pinned[0], device=device)
    copies = [seconds(lambda: [place.copy_(batch, non_blocking=True) for batch in ready(pinned)]) for _ in range(5)]
    cycles = 1 << 20
    cycle_s = statistics.median(seconds(lambda: torch.cuda._sleep(cycles)) for _ in range(9)) / cycles  # noqa: SLF001
    step_cycles = int(1.2 * statistics.median(copies) / BATCHES / cycle_s)

    def steps(batches: Iterable[Any]) -> None:
        for _batch in batches:
            torch.cuda._sleep(step_cycles)  # noqa: SLF001 torch's own tests do so: it keeps the device busy

    loop, alone = in_turns(
        lambda: steps(transferred(ready(pinned), CudaRuntime(), AHEAD)), lambda: steps(repeat(None, BATCHES))
    )
    assert ratio("AU, step 1.2 x the copy", loop, alone) >= 0.99


def test_vectors_come_faster_than_by_torchs_own_pinning():
    data = workload("vectors")
    features, labels = torch.from_numpy(data.features), torch.from_numpy(data.labels)
    with ReferenceLoader((features, labels), BATCH_SIZE, shuffle=True, device="cuda") as ours:
        torchs = DataLoader(
            TensorDataset(features, labels),
            BATCH_SIZE,
            shuffle=True,
            num_workers=2,
            pin_memory=True,
            persistent_workers=True,
        )

        def by_torch() -> None:
            for batch in torchs:
                for part in batch:
                    part.to("cuda", non_blocking=True)

        fast, slow = in_turns(lambda: drained(ours), by_torch)
    assert ratio("vectors at batch 4096, to DataLoader(pin_memory=True, 2 workers)", fast, slow) >= 1.5
