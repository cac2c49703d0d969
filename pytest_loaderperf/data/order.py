"""The order of an epoch's samples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, RandomSampler, Sampler, SequentialSampler

from pytest_loaderperf.data.columns import Order


def epoch_order(samples: int, *, shuffle: bool, seed: int, epoch: int) -> Order:
    """Indices of one epoch: ``range(samples)``, or the int64 permutation that (seed, epoch) determines.

    Seeded as torch's DistributedSampler does it: ``torch.randperm`` under a generator seeded with ``seed + epoch``.
    """
    if not shuffle:
        return range(samples)
    return _permutation(samples, torch.Generator().manual_seed(seed + epoch))


def _permutation(samples: int, generator: torch.Generator) -> np.ndarray:
    permutation: np.ndarray = torch.randperm(samples, generator=generator).numpy()
    return permutation


class EpochSampler(Sampler[int]):
    """The share of ``rank`` in an epoch of ``dataset``, a pure function of (seed, epoch, rank, world_size).

    The indices are those of torch's DistributedSampler: all ranks get equally many, the first ones repeated to fill up.
    """

    def __init__(self, dataset: Sized, *, shuffle: bool, seed: int, rank: int, world_size: int) -> None:
        self.dataset, self.shuffle, self.seed = dataset, shuffle, seed
        self.rank, self.world_size, self.epoch = rank, world_size, 0

    def order(self, epoch: int) -> Order:
        """The indices of ``epoch``."""
        order = epoch_order(len(self.dataset), shuffle=self.shuffle, seed=self.seed, epoch=epoch)
        missing = len(self) * self.world_size - len(order)
        if missing:
            order = np.resize(order, len(order) + missing)  # repeats from the start
        return order[self.rank :: self.world_size]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose indices come next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        return iter(as_list(self.order(self.epoch)))

    def __len__(self) -> int:
        return math.ceil(len(self.dataset) / self.world_size)


@dataclass(slots=True)
class Draw:
    """The randomness that went into an epoch's order, as far as something was drawn.

    ``seed``: what torch's RandomSampler drew; ``generator_state``: of the sampler's generator, before the order was
    drawn; ``default_state``: of torch's default generator before that, where another sampler drew from it.
    """

    seed: int | None = None
    generator_state: torch.Tensor | None = None
    default_state: torch.Tensor | None = None

    def repeat(self, generator: torch.Generator) -> None:
        """Let ``generator`` stand as it did then; where that is unknown, note how it stands."""
        if self.generator_state is None:
            self.generator_state = generator.get_state()
        else:
            generator.set_state(self.generator_state)

    def indices(self, sampler: Iterable[Any]) -> Iterator[Any]:
        """Those of ``sampler``, drawn as noted here; what is drawn anew is noted.

        Torch's samplers draw from the default generator for their first index, if at all, and not later. Where that is
        repeated, the default generator stands afterwards as before.
        """
        if (generator := generator_of(sampler)) is not None:
            self.repeat(generator)
            yield from sampler
            return
        now, then = torch.get_rng_state(), self.default_state
        try:
            if then is not None:
                torch.set_rng_state(then)
            indices = iter(sampler)
            first = list(islice(indices, 1))
        finally:
            if then is not None:
                torch.set_rng_state(now)
        if then is None and not torch.equal(now, torch.get_rng_state()):
            self.default_state = now
        yield from first
        del first
        yield from indices


def generator_of(sampler: object) -> torch.Generator | None:
    """The generator that ``sampler``, or the one inside a batch sampler, draws from, where it was given one."""
    generator = getattr(_innermost(sampler), "generator", None)
    return generator if isinstance(generator, torch.Generator) else None


def with_epochs(sampler: object) -> Any:
    """What has ``set_epoch`` and an int as ``epoch``, as torch's DistributedSampler: ``sampler`` or the one inside.

    None where neither has, and for an EpochSampler, whose epoch its loader sets.
    """
    inner: Any = _innermost(sampler)
    counts = callable(getattr(inner, "set_epoch", None)) and isinstance(getattr(inner, "epoch", None), int)
    return inner if counts and not isinstance(inner, EpochSampler) else None


def _innermost(sampler: object) -> object:
    while isinstance(sampler, BatchSampler) and not hasattr(sampler, "generator"):
        sampler = sampler.sampler
    return sampler


def known_order(sampler: object, epoch: int, draw: Draw) -> Order | None:
    """All indices of ``epoch`` of ``sampler`` at once, as iterating it would give them; None for other samplers.

    Repeats what ``draw`` tells; an empty one is filled in. The generators advance as by iterating the sampler.
    """
    if isinstance(sampler, EpochSampler):
        return sampler.order(epoch)
    if type(sampler) is SequentialSampler:
        return range(len(sampler))
    if type(sampler) is not RandomSampler or sampler.replacement or len(sampler) != len(sampler.data_source):
        return None
    samples, generator = len(sampler), sampler.generator
    if generator is None:
        if draw.seed is None:
            draw.seed = int(torch.empty((), dtype=torch.int64).random_().item())
        return _permutation(samples, torch.Generator().manual_seed(draw.seed))
    draw.repeat(generator)
    order = _permutation(samples, generator)
    _permutation(samples, generator)  # torch's sampler draws another one to find that none of it is wanted
    return order


def as_list(order: Order) -> list[int]:
    """``order`` as Python integers."""
    return list(order) if isinstance(order, range) else order.tolist()
