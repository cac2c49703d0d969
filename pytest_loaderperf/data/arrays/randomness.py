"""The random generators that all code of a process shares: those of torch, NumPy and Python."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
import torch

_SEED_NBYTES = 8
_NUMPY_SEEDS = 1 << 32  # what its seed stays below


@contextmanager
def generators_kept() -> Iterator[None]:
    """Reset the shared generators of the CPU afterwards. Not for several threads at a time."""
    torchs, numpys, pythons = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 the shared one
    try:
        yield
    finally:
        torch.set_rng_state(torchs)
        np.random.set_state(numpys)  # noqa: NPY002
        random.setstate(pythons)


def seed_generators(seed: int) -> None:
    """Seed the shared generators of the CPU, not of a GPU. ``seed``: from 0 to below 2**63."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % _NUMPY_SEEDS)  # noqa: NPY002
    random.seed(seed)


class SeededIndex(int):
    """An index of a sample, and the ``seed`` that its augmentation is drawn with."""

    seed: int


def at(indices: Any, index: Any) -> Any:
    """``indices[index]``, with the seed of ``index`` if that has one."""
    found = indices[index]
    if (seed := getattr(index, "seed", None)) is not None:
        found = SeededIndex(found)
        found.seed = seed
    return found


def seeded_indices(
    make_feed: Callable[[], Iterable[Any]], seed: int, epoch: int, first: int, *, step: int, single: bool
) -> Iterator[Any]:
    """The batches of indices of a feed, each index with its own seed, made from seed, epoch, place and index.

    ``make_feed`` is called for the first batch. ``first``: the place of its first index among those of all ranks;
    ``step``: from one to the next; ``single``: each item of the feed, a sample or a batch, counts as one place.
    """
    place = first
    for indices in make_feed():
        if not isinstance(indices, list | tuple | np.ndarray | torch.Tensor) or not getattr(indices, "ndim", 1):
            yield _seeded(indices, seed, epoch, place)
            place += step
        elif single:
            yield [_seeded(index, seed, epoch, place, i) for i, index in enumerate(indices)]
            place += step
        else:
            yield [_seeded(index, seed, epoch, place + i * step) for i, index in enumerate(indices)]
            place += len(indices) * step


def _seeded(index: Any, *key: int) -> Any:
    try:
        made = SeededIndex(index)
    except (TypeError, ValueError):
        return index  # the dataset raises its own error
    digest = blake2b(repr((*key, int(index))).encode(), digest_size=_SEED_NBYTES).digest()
    made.seed = int.from_bytes(digest, "little") >> 1
    return made
