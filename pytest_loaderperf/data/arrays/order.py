"""The order of an epoch's samples."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch.utils.data import BatchSampler, DistributedSampler, RandomSampler, Sampler, SequentialSampler
from torch.utils.data.graph import traverse_dps
from torch.utils.data.graph_settings import get_all_graph_pipes

from pytest_loaderperf.data.arrays.columns import Order
from pytest_loaderperf.errors import DataError


def epoch_order(samples: int, *, shuffle: bool, seed: int, epoch: int) -> Order:
    """Indices of one epoch: ``range(samples)``, or the int64 permutation that (seed, epoch) determines.

    Seeded as in torch's DistributedSampler: ``torch.randperm`` under a generator seeded with ``seed + epoch``.
    """
    if not shuffle:
        return range(samples)
    return _permutation(samples, torch.Generator().manual_seed(seed + epoch))


def _permutation(samples: int, generator: torch.Generator) -> np.ndarray:
    permutation: np.ndarray = torch.randperm(samples, generator=generator).numpy()
    return permutation


class EpochSampler(Sampler[int]):
    """The share of ``rank`` in an epoch of ``dataset``, a pure function of (seed, epoch, rank, world_size).

    The indices are those of torch's DistributedSampler: all ranks get the same number; the first ones are repeated.
    The ranks take turns, so batches of n indices of each rank are the next n * world_size of the epoch's order.
    """

    def __init__(self, dataset: Sized, *, shuffle: bool, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.dataset, self.shuffle, self.seed = dataset, shuffle, seed
        self.rank, self.world_size, self.epoch = rank, world_size, 0
        self._asked: int | None = None

    def order(self, epoch: int, dealt: int = 0) -> Order:
        """The indices of ``epoch``, from what is left after the first ``dealt``, which any number of ranks were given.

        At most ``world_size - 1`` are repeated, the first ones of the epoch.
        """
        order = epoch_order(len(self.dataset), shuffle=self.shuffle, seed=self.seed, epoch=epoch)
        end = dealt + math.ceil(max(0, len(order) - dealt) / self.world_size) * self.world_size
        if end > len(order):
            order = np.resize(order, end)  # repeats from the start
        return order[dealt + self.rank :: self.world_size]

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next indices. The sampler's loader continues from there."""
        self.epoch = self._asked = epoch

    def asked(self) -> int | None:
        """The epoch that ``set_epoch`` has chosen since the last call, if any."""
        epoch, self._asked = self._asked, None
        return epoch

    def __iter__(self) -> Iterator[int]:
        return iter(as_list(self.order(self.epoch)))

    def __len__(self) -> int:
        return math.ceil(len(self.dataset) / self.world_size)


# Trainers use a sampler's class to find out whether a loader shuffles, and whether it is distributed.
class _InOrder(EpochSampler, SequentialSampler):
    @property
    def data_source(self) -> Sized:  # type: ignore[override]  # read only
        return self.dataset


class _Shuffled(EpochSampler, RandomSampler):
    replacement, generator, _num_samples = False, None, None

    @property
    def data_source(self) -> Sized:  # type: ignore[override]  # read only
        return self.dataset


class _Share(EpochSampler, DistributedSampler[int]):  # type: ignore[misc]  # any sized dataset
    drop_last = False

    @property
    def num_replicas(self) -> int:  # type: ignore[override]  # read only
        return self.world_size

    @property
    def num_samples(self) -> int:  # type: ignore[override]  # read only
        return len(self)

    @property
    def total_size(self) -> int:  # type: ignore[override]  # read only
        return len(self) * self.world_size


def epoch_sampler(
    dataset: Sized, *, shuffle: bool, seed: int, rank: int | None, world_size: int | None
) -> EpochSampler:
    """An EpochSampler that is also one of torch's samplers: a DistributedSampler if there is a ``rank``."""
    if rank is not None and world_size is not None:
        return _Share(dataset, shuffle=shuffle, seed=seed, rank=rank, world_size=world_size)
    return (_Shuffled if shuffle else _InOrder)(dataset, shuffle=shuffle, seed=seed)


@dataclass(slots=True)
class Draw:
    """The random state of an epoch's order, as far as something was drawn.

    ``seed``: what torch's RandomSampler drew; ``generator_state``: of the sampler's generator, before the order was
    drawn; ``default_state``: of torch's default generator before that, if another sampler drew from it.
    """

    seed: int | None = None
    generator_state: torch.Tensor | None = None
    default_state: torch.Tensor | None = None

    def repeat(self, generator: torch.Generator) -> None:
        """Reset ``generator`` to its state then; if that is unknown, note its state now."""
        if self.generator_state is None:
            self.generator_state = generator.get_state()
        else:
            generator.set_state(self.generator_state)

    def indices(self, sampler: Iterable[Any], *, batches: bool = False) -> Iterator[Any]:
        """The indices of ``sampler``, drawn as noted here; new draws are noted.

        ``batches``: each is that of a whole batch. A list, which the sampler may change for the next batch, and an
        iterator, which can be used once, become lists of their own.

        Torch's samplers draw from the default generator only for their first index, if at all. If that draw is
        repeated, the default generator is reset afterwards.
        """
        if (generator := generator_of(sampler)) is not None:
            self.repeat(generator)
            yield from map(_own, sampler) if batches else sampler
            return
        now, then = torch.get_rng_state(), self.default_state
        try:
            if then is not None:
                torch.set_rng_state(then)
            indices = map(_own, sampler) if batches else iter(sampler)
            first = list(islice(indices, 1))
        finally:
            if then is not None:
                torch.set_rng_state(now)
        if then is None and not torch.equal(now, torch.get_rng_state()):
            self.default_state = now
        yield from first
        del first
        yield from indices


def _own(batch: Any) -> Any:
    return list(batch) if type(batch) is list or isinstance(batch, Iterator) else batch


def generator_of(sampler: object) -> torch.Generator | None:
    """The generator that ``sampler``, or the one inside a batch sampler, was given, if any."""
    generator = getattr(innermost(sampler), "generator", None)
    return generator if isinstance(generator, torch.Generator) else None


def with_epochs(sampler: object) -> Any:
    """``sampler`` or the one inside, if it has ``set_epoch`` and an int ``epoch``, as torch's DistributedSampler.

    None if neither has, and for an EpochSampler, whose epoch its loader sets.
    """
    inner: Any = innermost(sampler)
    counts = callable(getattr(inner, "set_epoch", None)) and isinstance(getattr(inner, "epoch", None), int)
    return inner if counts and not isinstance(inner, EpochSampler) else None


def is_shuffled(pipe: Any) -> bool:
    """Whether a datapipe draws at random."""
    pipes = get_all_graph_pipes(traverse_dps(pipe))
    return any(hasattr(one, "set_seed") and getattr(one, "_enabled", True) for one in pipes)


def innermost(sampler: object) -> object:
    """``sampler``, or the one inside a batch sampler of torch's."""
    while isinstance(sampler, BatchSampler) and not hasattr(sampler, "generator"):
        sampler = sampler.sampler
    return sampler


def is_share(sampler: object, rank: int | None, world_size: int | None) -> bool:
    """Whether ``sampler`` is a loader's own, for this ``rank``: a trainer that makes a loader again passes both."""
    own = innermost(sampler)
    return isinstance(own, EpochSampler) and (own.rank, own.world_size) == (rank, world_size)


def check_counted(sampler: object, arrays: Sized, samples: int) -> None:
    """Raise DataError if ``sampler`` uses the number of ``arrays``, a dict or tuple, as that of ``samples``."""
    inner = innermost(sampler)
    if any(getattr(inner, name, None) is arrays for name in ("dataset", "data_source")):
        raise DataError(
            f"expected a sampler of {samples} samples, got a {type(inner).__name__} over a {type(arrays).__name__} of "
            f"{len(arrays)} arrays, whose number it takes for that of the samples. Make it over range({samples}). "
            "Where a trainer makes it: give rank= and world_size=, and it keeps the loader's own, or give a "
            "TensorDataset."
        )


def can_be_dealt(sampler: object) -> bool:
    """Whether the rest of an epoch of ``sampler``, a function of seed and epoch, can go to other ranks."""
    return isinstance(sampler, EpochSampler) or type(sampler) is SequentialSampler


def shuffled_samples(sampler: Any) -> int | None:
    """How many samples, of all ranks, the known order of ``sampler`` shuffles; None where it does not."""
    if can_be_dealt(sampler):
        return len(sampler.dataset) if getattr(sampler, "shuffle", False) else None
    return len(sampler)


def known_order(sampler: object, epoch: int, draw: Draw, dealt: int) -> Order | None:
    """All indices of ``epoch`` of ``sampler``, as iterating it would give them; None for other samplers.

    Repeats ``draw``; an empty one is filled in. The generators advance as by iterating the sampler. Without the first
    ``dealt`` of all ranks, where the sampler `can_be_dealt`.
    """
    if isinstance(sampler, EpochSampler):
        return sampler.order(epoch, dealt)
    if type(sampler) is SequentialSampler:
        return range(dealt, len(sampler))
    if type(sampler) is not RandomSampler or sampler.replacement or len(sampler) != len(sampler.data_source):
        return None
    samples, generator = len(sampler), sampler.generator
    if generator is None:
        if draw.seed is None:
            draw.seed = int(torch.empty((), dtype=torch.int64).random_().item())
        return _permutation(samples, torch.Generator().manual_seed(draw.seed))
    draw.repeat(generator)
    order = _permutation(samples, generator)
    _permutation(samples, generator)  # torch's sampler also draws one more that it does not use
    return order


def as_list(order: Order) -> list[int]:
    """``order`` as Python integers."""
    return list(order) if isinstance(order, range) else order.tolist()


def highest(order: Order) -> int:
    """The highest index of an order, in which none is below 0; -1 of an empty one."""
    if not len(order):
        return -1
    return max(order[0], order[-1]) if isinstance(order, range) else int(order.max())


def chunks(order: Order, batch_size: int, most: Callable[[], int]) -> Iterator[Order]:
    """Slices of ``order`` for 1, 4, 16 and so on up to ``most()`` batches: the first batch waits for itself alone."""
    start, batches = 0, 1
    while start < len(order):
        rows = min(batches, most()) * batch_size
        yield order[start : start + rows]
        start, batches = start + rows, 4 * batches


def joined(checksum: int, index: Any) -> int:
    """The ``checksum`` of indices with ``index`` after them, the same in every process."""
    return crc32(repr(_plain(index)).encode(), checksum)


def _plain(index: Any) -> Any:
    if isinstance(index, (torch.Tensor, np.ndarray, np.generic)):
        return index.tolist()
    if isinstance(index, (list, tuple)):
        return [_plain(one) for one in index]
    if isinstance(index, (set, frozenset)):  # in an order that each process has for itself
        return sorted(repr(_plain(one)) for one in index)
    if isinstance(index, (int, float, str, bytes, type(None))):
        return index
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(index))  # another one in each process
