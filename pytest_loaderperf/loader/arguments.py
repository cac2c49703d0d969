"""Checks of the arguments that ReferenceLoader has beyond torch's, and what they make of each other."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Literal, TypeGuard, TypeVar, get_args

import torch
from torch.utils.data import (
    BatchSampler,
    IterableDataset,
    IterDataPipe,
    MapDataPipe,
    RandomSampler,
    SequentialSampler,
)

from pytest_loaderperf.data.arrays.order import EpochSampler
from pytest_loaderperf.data.stores.augment import check_gives_samples
from pytest_loaderperf.errors import DataError

WorkerKind = Literal["auto", "threads", "processes"]
OnError = Literal["raise", "skip"]
Route = Literal["gather", "fetch", "processes"]

_OWN_BATCHES = (BatchSampler, type(None))  # those that torch makes around a sampler
T = TypeVar("T")
MAX_SEED = (1 << 63) - 1  # leaves room to add the epoch


def check_whole(name: str, value: object, least: int | None) -> None:
    """Raise DataError unless ``value`` is a whole number from ``least`` up (None: any)."""
    if not _is_whole(value) or (least is not None and value < least):
        wanted = "a whole number" if least is None else f"a whole number from {least} up"
        raise DataError(f"{name} must be {wanted}, got {value!r}.")


def _is_whole(value: object) -> TypeGuard[int]:
    """Whether it is an int or a number of NumPy's that stands for one; a bool is neither."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def plain(*values: T) -> tuple[T, ...]:
    """``values`` with NumPy's whole numbers as ints, which torch and pickled states take."""
    return tuple(int(value) if _is_whole(value) else value for value in values)  # type: ignore[misc]  # T then is int


def check_kind(name: str, value: object, kind: type) -> None:
    """Raise DataError unless ``value`` is of ``kind``, or left out."""
    if value is not None and not isinstance(value, kind):
        raise DataError(f"{name} must be a {kind.__module__}.{kind.__qualname__}, got {value!r}.")


def check_dataset(dataset: Any, on_error: object) -> None:
    """Raise DataError unless samples can be had from ``dataset``, or batches where none of them may be left out."""
    by_index = hasattr(dataset, "__getitem__") or hasattr(dataset, "__getitems__")
    if not isinstance(dataset, IterableDataset) and not by_index:
        raise DataError(
            "the dataset must be a dict or tuple of arrays or tensors, an IterableDataset, or a map-style dataset with "
            f"__len__ and __getitem__, got {type(dataset).__name__}. "
            "Make what can only be iterated an IterableDataset."
        )
    if on_error == "skip":
        check_gives_samples(dataset)


def check_numbers(
    num_workers: object, prefetch_factor: object, seed: object, memory_budget: object, error_limit: object
) -> None:
    """Raise DataError for a number that cannot be meant. What torch's constructor checks is left to it."""
    numbers = ("num_workers", num_workers, None), ("memory_budget", memory_budget, 1), ("seed", seed, 0)
    for name, value, least in numbers:
        if value is not None:
            check_whole(name, value, least)
    if prefetch_factor is not None:
        torch_refuses = _is_whole(prefetch_factor) and prefetch_factor < 0 and num_workers is not None
        check_whole("prefetch_factor", prefetch_factor, None if torch_refuses else 1)
    if _is_whole(seed) and seed > MAX_SEED:
        raise DataError(f"seed must be at most {MAX_SEED}, what torch's generator takes, got {seed}.")
    is_count = _is_whole(error_limit) and error_limit >= 0
    if not is_count and not (isinstance(error_limit, float) and 0 <= error_limit <= 1):
        raise DataError(
            f"error_limit must be a count of samples from 0 up, or a share from 0.0 to 1.0, got {error_limit!r}."
        )


def check_choices(worker_kind: object, on_error: object, *, streams: bool, apart: bool) -> None:
    """Raise DataError for a word that is not among the choices."""
    for name, value, choices in (("worker_kind", worker_kind, WorkerKind), ("on_error", on_error, OnError)):
        if value not in get_args(choices):
            raise DataError(f"{name} must be one of {', '.join(map(repr, get_args(choices)))}, got {value!r}.")
    if worker_kind == "threads" and apart:
        raise DataError(
            "worker_init_fn and multiprocessing_context are for worker processes, got worker_kind='threads'. "
            "Leave them out, or choose worker_kind='processes'."
        )
    if on_error == "skip" and streams:
        raise DataError(
            "on_error='skip' needs a map-style dataset: an iterator that has raised is at its end, and what it would "
            "have given is lost. Catch the error inside the dataset's __iter__."
        )


def check_share(rank: object, world_size: object, *, orders: bool, streams: bool) -> None:
    """Raise DataError unless ``rank`` and ``world_size`` are both left out, or name a share that can be cut."""
    if rank is None and world_size is None:
        return
    if rank is None or world_size is None:
        raise DataError(f"rank and world_size go together, got rank={rank!r} and world_size={world_size!r}.")
    check_whole("world_size", world_size, 1)
    check_whole("rank", rank, 0)
    if _is_whole(rank) and _is_whole(world_size) and rank >= world_size:
        raise DataError(f"rank must be below world_size={world_size}, got {rank}. Ranks count from 0.")
    if streams:
        raise DataError("rank and world_size cannot cut an IterableDataset: let its __iter__ give each rank its share.")
    if orders:
        raise DataError("rank and world_size cut the loader's own order, got a sampler. Let the sampler do it.")


def process_count() -> int | None:
    """How many processes torch.distributed has, None for this one alone."""
    started = torch.distributed.is_available() and torch.distributed.is_initialized()
    count = torch.distributed.get_world_size() if started else 1
    return count if count > 1 else None


def check_shared_out(world_size: int | None, sampler: object, batch_sampler: object) -> None:
    """Raise DataError where several processes would each go through the whole of a dataset."""
    if world_size is not None or (ranks := process_count()) is None:
        return
    if isinstance(sampler, (SequentialSampler, RandomSampler, EpochSampler)) and type(batch_sampler) in _OWN_BATCHES:
        raise DataError(
            f"expected rank= and world_size={ranks} for a loader in {ranks} processes, got none: each would be "
            "given the whole dataset. Give both to ReferenceLoader, or a DistributedSampler."
        )


def check_budget(memory_budget: int | None, num_workers: int) -> None:
    """Raise DataError where worker processes would have to keep to a budget."""
    if memory_budget is not None and num_workers:
        raise DataError(
            f"memory_budget={memory_budget} cannot bound what worker processes prefetch, for the size of their batches "
            'shows too late. Leave one of the two out, or choose worker_kind="threads".'
        )


def route(dataset: Any, worker_kind: WorkerKind, num_workers: int | None, *, gathers: bool, apart: bool) -> Route:
    """How batches come about. ``gathers``: from arrays; ``apart``: an argument asks for worker processes."""
    if isinstance(dataset, (IterDataPipe, MapDataPipe)):
        return "processes"  # torch's loader alone knows how to shard and shuffle a pipe
    if worker_kind == "processes" or (worker_kind == "auto" and num_workers and (apart or not gathers)):
        return "processes" if num_workers != 0 else ("gather" if gathers else "fetch")
    if gathers:
        return "gather"
    return "fetch"
