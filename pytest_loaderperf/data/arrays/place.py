"""The place in an epoch at which a restart goes on, and whether what is there now has it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from torch.utils.data import RandomSampler, SequentialSampler

from pytest_loaderperf.data.arrays.order import EpochSampler
from pytest_loaderperf.errors import DataError

_MOST = 1 << 48  # samples: more than any run delivers, and a number that every loop and array can take


def place_of(state: Mapping[str, Any], sampler: object) -> int:
    """How many samples of an epoch of ``sampler`` all ranks had been given, by the ``state`` of a loader.

    Raises DataError if the epoch has fewer, as far as the sampler tells it beforehand.
    """
    size, ranks = state["batch_size"], state["world_size"] or 1
    own = state["batches"] * size + state["skipped"] if size else state["batches"]
    place, samples = int(state["dealt"] + own * ranks), _known_samples(sampler)
    most = _MOST if samples is None else samples
    if state["dealt"] > most or place >= most + (size or 1) * ranks:  # the last batch may have been short
        raise DataError(
            f"expected a state after at most {most} samples of an epoch, got one after {place}. Restart with the "
            "dataset that it was taken with, or begin a new epoch."
        )
    return min(place, most)


def _known_samples(sampler: object) -> int | None:
    """How many samples, of all ranks, an epoch has, if the sampler is one of ours or of torch's own orders."""
    if isinstance(sampler, EpochSampler):
        return len(sampler.dataset)
    return len(sampler) if type(sampler) in (SequentialSampler, RandomSampler) else None  # type: ignore[arg-type]


def pass_over(given: Iterator[Any], many: int, what: str, short: int = 0) -> None:
    """Take ``many`` of ``given``, or up to ``short`` fewer. Raises DataError if there are not as many."""
    found = sum(1 for _ in islice(given, many))
    if found < many - short:
        raise DataError(
            f"expected the iterable dataset to give the same {many} {what} as before the restart, got {found}. "
            "Restart with the same dataset, or begin a new epoch."
        )


def rest_of(samples: Iterator[Any], many: int, size: int) -> Iterator[Any]:
    """Those after the first ``many``, in batches of ``size``; an iterator that stays at its end."""
    return _rest_of(samples, many, size) if many else islice(samples, None)


def _rest_of(samples: Iterator[Any], many: int, size: int) -> Iterator[Any]:
    pass_over(samples, many, "samples", size - 1)
    yield from samples


def other_shards(was: int | None, has: int | None) -> str:
    """What is wrong with a state of ``was`` copies of a dataset where there are ``has``; None: of none."""
    kinds = ["another kind of dataset" if one is None else f"{one} worker{'s' * (one != 1)}" for one in (was, has)]
    return (
        f"expected {kinds[0]} as when the state was taken, got {kinds[1]}: an iterable dataset may share its samples "
        "out by worker, so some would be lost and others repeated, and a dataset with a state_dict() of its own has "
        f"another state in each worker. Restart with {kinds[0]}, or begin a new epoch."
    )
