"""The sides of one run at one rank, which does with them what rank 0 commands."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping, Sized
from typing import Any

import torch
from torch.utils.data import IterableDataset

from pytest_loaderperf.data.arrays.columns import as_columns
from pytest_loaderperf.measurement import AnySide, Side, Steady
from pytest_loaderperf.measurement.activity import wait_until_idle
from pytest_loaderperf.measurement.conditions import Conditions, draws_kept, usable_cpus
from pytest_loaderperf.measurement.structure import array_leaves, batch_leaves
from pytest_loaderperf.ranks.placing import on_cores
from pytest_loaderperf.ranks.stepping import Loop
from pytest_loaderperf.remote.child import STATE

Gate = Callable[[], None]
_SHORT_PATIENCE_SECONDS = 0.01  # for a side that was never idle
_FEWEST_BATCHES = 2  # of an epoch from which its length tells something


class Bench:
    """The ``sides`` of this ``rank``; ``makers`` make those that a run adds later, by name. ``close()`` closes all.

    ``broken``: why they could not be made; raised again when rank 0 asks for something.
    """

    def __init__(
        self,
        sides: dict[str, Any],
        makers: Mapping[str, Callable[[], AnySide]],
        conditions: Conditions,
        broken: Exception | None = None,
        rank: int = 0,
    ) -> None:
        self.sides, self._makers, self._conditions = sides, makers, conditions
        self._broken, self._rank = broken, rank
        self._last: str | None = None  # the side that was measured last
        self._never_idle: set[str] = set()
        self._told: dict[str, tuple[int, int]] = {}  # starts and epochs of each side

    def perform(self, verb: str, name: str, arguments: tuple[Any, ...], gate: Gate) -> Any:
        """The answer to one command about the side ``name``."""
        if self._broken is not None:
            raise self._broken
        if verb == "make":
            self.sides[name] = self._makers[name]()
            return None
        if verb == "ping":
            return None  # the barriers are passed all the same
        side = self.sides[name]
        if verb == "facts":
            with self._conditions.hold():
                return facts(side)
        if verb == "slow":
            (side.slow,) = arguments
        elif verb == "build":
            side.build()
        elif verb != "state":
            with self._conditions.hold():
                if verb == "observe":
                    kind, batches, cores = arguments
                    with on_cores(cores[self._rank] if cores else frozenset()):
                        return self._observed(side, kind, batches, gate), self.state(name)
                return getattr(side, verb)(*arguments), self.state(name)
        return None, self.state(name)

    def state(self, name: str) -> dict[str, Any]:
        """What rank 0 must know of a side."""
        side = self.sides[name]
        starts, epochs = self._told.get(name, (0, 0))
        self._told[name] = len(side.starts), len(side.epochs)
        news = {"starts": side.starts[starts:], "epochs": side.epochs[epochs:]}
        return {part: getattr(side, part) for part in STATE} | news

    def _observed(self, side: Any, kind: Any, batches: int, gate: Gate) -> Any:
        """One record of ``kind``, begun with the other ranks; None if the epoch ends before."""
        self._quieten()
        self._last = side.name
        if isinstance(kind, Loop):
            if not self._has(side, batches):
                side.start()
            drained = side.warmup_batches == 0 or side.take(side.warmup_batches) is not None
            gate()
            return kind.observe(side, gate) if drained else None
        if not isinstance(kind, Steady) or not isinstance(side, Side):
            gate()
            return side.observe(kind, batches, self._conditions)
        ready = side.ready(batches)
        gate()
        return side.trial(batches, effort=True) if ready else None

    @staticmethod
    def _has(side: Any, batches: int) -> bool:
        """Whether the running epoch has, or may have, ``batches`` more."""
        return side.taken > 0 and (side.epoch_batches is None or side.taken + batches <= side.epoch_batches)

    def _quieten(self) -> None:
        """Wait until the side that was measured last has filled its prefetch."""
        last = self._last
        if last is None or self.sides[last].inline:
            return
        children = [pid for side in self.sides.values() for pid in side.children]
        patience = (_SHORT_PATIENCE_SECONDS,) if last in self._never_idle else ()
        if not wait_until_idle(children, *patience):
            self._never_idle.add(last)

    def close(self) -> None:
        """Close every side. May be called twice."""
        for side in self.sides.values():
            side.close()


def facts(side: Any) -> dict[str, Any]:
    """Of this rank: its CPUs, the dataset that its loader delivers whole, if it does, and how its stream begins."""
    with draws_kept():
        return {"cpus": sorted(usable_cpus()), "whole": _whole(side), "begin": _begin(side)}


def _whole(side: Any) -> tuple[int, str] | None:
    """Samples of the dataset, if an epoch of the loader delivers all, and a digest of its first and last sample."""
    try:
        dataset, batches = side.loader.dataset, len(side.loader)
        columns = as_columns(dataset)
        samples = len(dataset if columns is None else columns)
        if batches < max(_FEWEST_BATCHES, samples // side.batch_samples):
            return None
        arrays = [] if columns is None else array_leaves(dataset)  # by name or position
        sources: list[Any] = [*arrays] or [dataset]
        first, last = (_digest([source[at] for source in sources]) for at in (0, samples - 1))
        return None if first == last else (samples, first + last)
    except Exception:  # noqa: BLE001 a dataset need not have any of these
        return None


def _begin(side: Any) -> str | None:
    """A digest of the first batch of a stream, if its samples differ; its epoch goes on in the first trial."""
    if isinstance(side.loader, Sized) and not isinstance(getattr(side.loader, "dataset", None), IterableDataset):
        return None
    try:
        batch, _ = side.start_keeping()
        arrays = [array for array in array_leaves(batch) if array.ndim and len(array) > 1]
        return None if all(torch.equal(array[0], array[-1]) for array in arrays) else _digest([batch])
    except Exception:  # noqa: BLE001 the first trial tells it
        return None


def _digest(samples: list[Any]) -> str:
    """The same for equal arrays and other values. Raises what pickle raises."""
    found = hashlib.sha256()
    for _, leaf in batch_leaves(samples):
        arrays = array_leaves(leaf)
        for array in arrays:
            found.update(array.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        if not arrays:
            found.update(pickle.dumps(leaf))
    return found.hexdigest()
