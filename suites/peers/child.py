"""One loader in its own process: it builds the loader, then waits for commands."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pytest_loaderperf.engines.server import Server, answer
from suites.peers import regimes
from suites.peers.loaders import LIMIT, variants
from suites.peers.variant import Setting, Variant


def _checked(setting: Setting, variant: Variant) -> dict[str, Any]:
    """The first thing that is wrong with an epoch's batches, or none."""
    unpack = variant.unpack
    problem = wrong_with(setting, (unpack(b) if unpack else b for b in variant.make()))
    return {"problem": problem} if problem else {}


def wrong_with(setting: Setting, epoch: Iterable[Any]) -> str | None:
    """What is wrong: a batch's shape, dtype or content, missing or repeated samples, or no shuffling."""
    regime = setting.regime
    seen: list[int] = []
    for batch in epoch:
        samples, labels = batch
        if not isinstance(samples, torch.Tensor) or not isinstance(labels, torch.Tensor):
            return f"wrong batch: {type(samples).__name__} and {type(labels).__name__} instead of tensors"
        if samples.dtype != regime.dtype or labels.dtype != torch.int64:
            return f"wrong batch: {samples.dtype} and {labels.dtype} instead of {regime.dtype} and torch.int64"
        if samples.shape[1:] != regime.shape or not len(samples) == len(labels) <= regime.batch_size:
            return f"wrong batch: shapes {tuple(samples.shape)} and {tuple(labels.shape)}"
        if not regime.is_sample(samples[-1], int(labels[-1])):
            return f"wrong batch: sample {int(labels[-1])} is not what it should be"
        seen += labels.tolist()
    if sorted(seen) != list(range(len(regime))):
        return f"wrong epoch: {len(seen)} samples, {len(set(seen))} of them different, instead of {len(regime)}"
    return None if seen != sorted(seen) else "wrong epoch: not shuffled"


def _one_batch_on_one_thread(setting: Setting) -> int:
    dataset, size = setting.regime.dataset, setting.regime.batch_size
    began_ns = time.perf_counter_ns()
    for index in range(size):
        dataset[index]
    return time.perf_counter_ns() - began_ns


def _served(name: str, chosen: int, setting: Setting) -> tuple[Server, dict[str, Any]]:
    found = variants(name, setting)
    variant = found[chosen]
    checked = (lambda _: {}) if name == LIMIT else partial(_checked, setting)
    server = Server(variant, checked, variant.run and partial(_one_batch_on_one_thread, setting))
    facts = {"samples": len(setting.regime), "batch_size": setting.regime.batch_size}
    return server, {"how": variant.how, "variants": len(found), **facts}


def main(name: str, regime: str, chosen: str, *places: str) -> None:
    """``places``: the number of cores, the folder with data, and one of the loader's own."""

    def served() -> tuple[Server, dict[str, Any]]:
        cores, shared, folder = places
        return _served(name, int(chosen), Setting(regimes.load(regime, Path(shared)), int(cores), Path(folder)))

    answer(served)


if __name__ == "__main__":
    main(*sys.argv[1:])
