"""One loader in its own process: it builds the loader, then waits for commands, one JSON object in each line.

``{"do": "trial", "warm": w, "batches": n}`` takes w batches untimed and n timed; ``first`` builds a second loader and
times its first batch; ``check`` checks every batch of an epoch. The reply is one object, with ``problem`` if it failed.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import torch

from suites.peers import regimes
from suites.peers.loaders import LIMIT, variants
from suites.peers.variant import Setting, Unable, Variant

EXITS_WITHIN_S = 5.0


def _endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


class Server:
    """Holds one loader, and one endless iteration of it."""

    def __init__(self, variant: Variant, setting: Setting, *, is_limit: bool) -> None:
        self._variant, self._setting, self._is_limit = variant, setting, is_limit
        self._loader = variant.make()
        self._batches = self._iterate(self._loader)

    def _iterate(self, loader: Any) -> Iterator[Any]:
        batches = _endless(loader)
        return map(self._variant.unpack, batches) if self._variant.unpack else batches

    def trial(self, warm: int, batches: int) -> dict[str, Any]:
        """Nanoseconds for ``batches`` in steady state, after ``warm`` ones that use up prefetched batches."""
        if self._variant.run is not None:
            began_ns = time.perf_counter_ns()
            self._variant.run(batches)
            return {"ns": time.perf_counter_ns() - began_ns, "taken": batches}
        for _ in islice(self._batches, warm):
            pass
        began_ns = time.perf_counter_ns()
        for _ in islice(self._batches, batches):
            pass
        return {"ns": time.perf_counter_ns() - began_ns, "taken": warm + batches}

    def first(self) -> dict[str, Any]:
        """Nanoseconds from ``iter()`` of a new loader to its first batch, including the start of its workers."""
        if self._variant.run is not None:
            return {"ns": self._one_batch_on_one_thread()}
        loader = self._variant.make()
        batches = self._iterate(loader)
        began_ns = time.perf_counter_ns()
        next(batches)
        took_ns = time.perf_counter_ns() - began_ns
        del batches
        if self._variant.close is not None:
            self._variant.close(loader)
        del loader
        gc.collect()
        return {"ns": took_ns}

    def _one_batch_on_one_thread(self) -> int:
        dataset, size = self._setting.regime.dataset, self._setting.regime.batch_size
        began_ns = time.perf_counter_ns()
        for index in range(size):
            dataset[index]
        return time.perf_counter_ns() - began_ns

    def check(self) -> dict[str, Any]:
        """The first thing that is wrong with an epoch's batches, or none."""
        if self._is_limit:
            return {}
        unpack = self._variant.unpack
        problem = wrong_with(self._setting, (unpack(b) if unpack else b for b in self._variant.make()))
        return {"problem": problem} if problem else {}

    def close(self) -> None:
        if self._variant.close is not None:
            self._variant.close(self._loader)


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


def _reply(wire: TextIO, answer: dict[str, Any]) -> None:
    print(json.dumps(answer), file=wire, flush=True)


def _serve(server: Server, wire: TextIO) -> None:
    for line in sys.stdin:
        command = json.loads(line)
        try:
            _reply(wire, getattr(server, command.pop("do"))(**command))
        except Exception as error:  # noqa: BLE001 a loader's error becomes its row's text
            _reply(wire, {"problem": f"{type(error).__name__}: {error}"})


def main(name: str, regime: str, chosen: str, cores: str, shared: str, folder: str) -> None:  # noqa: PLR0917 argv
    # The output of libraries goes to the log; the pipe is only for answers.
    wire = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    setting = Setting(regimes.load(regime, Path(shared)), int(cores), Path(folder))
    try:
        found = variants(name, setting)
        variant = found[int(chosen)]
        server = Server(variant, setting, is_limit=name == LIMIT)
    except Unable as reason:
        _reply(wire, {"unable": str(reason)})
        return
    except Exception as error:  # noqa: BLE001 a loader's error becomes its row's text
        _reply(wire, {"problem": f"{type(error).__name__}: {error}"})
        return
    regime_facts = {"samples": len(setting.regime), "batch_size": setting.regime.batch_size}
    _reply(wire, {"how": variant.how, "variants": len(found), **regime_facts})
    _serve(server, wire)
    server.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
