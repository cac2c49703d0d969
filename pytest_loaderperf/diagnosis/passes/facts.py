"""What a loader says about itself: its settings, its dataset, where both were written, what its batches are."""

from __future__ import annotations

import dis
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

from pytest_loaderperf.data.arrays.order import innermost
from pytest_loaderperf.diagnosis.ledger import LoaderFacts
from pytest_loaderperf.diagnosis.passes.keeping import batch_kind
from pytest_loaderperf.diagnosis.passes.objects import objects_held
from pytest_loaderperf.diagnosis.passes.passing import chain, hidden_getitems, hiding, takes_indices
from pytest_loaderperf.diagnosis.passes.rewriting import is_users
from pytest_loaderperf.diagnosis.passes.torch_parts import TorchParts, pickled_nbytes
from pytest_loaderperf.diagnosis.passes.values import base_of
from pytest_loaderperf.errors import LoaderError
from pytest_loaderperf.measurement.factory import describe
from pytest_loaderperf.measurement.roofline import Roofline
from pytest_loaderperf.measurement.structure import array_leaves, batch_nbytes

_COMPARED_SAMPLES = 4  # that must lie in the same memory
_COPY_SECONDS, _FEWEST_COPIES = 0.1, 5
_OWN = b"Private_Dirty:"  # of /proc/PID/smaps_rollup: pages of no other process
_SHARED = Path("/dev/shm")  # noqa: S108 where Linux shows shared memory; nothing is written there


def loader_facts(
    loader: Any, parts: TorchParts, batch: Any, opened_before: frozenset[tuple[str, int]] = frozenset()
) -> LoaderFacts:
    """Facts of a loader, or of the DataLoader inside it that does the work. ``batch``: its first one, or None.

    ``opened_before``: files that were open before it was made, which are not its own.
    """
    inner = _inner(loader, parts)
    dataset = getattr(inner, "dataset", None)
    hidden = hidden_getitems(dataset)
    file, line = parts.made_at.get(id(inner), ("", 0))
    dataset_file, dataset_line = _written_at(dataset)
    collate_file, collate_line = _returns_at(getattr(inner, "collate_fn", None))
    workers = _int(getattr(inner, "num_workers", 0)) or 0
    method = parts.start_methods.get(id(inner), "") if workers else ""
    iterable = isinstance(dataset, IterableDataset)
    samples = [] if iterable or dataset is None or workers else _some_samples(dataset)
    return LoaderFacts(
        kind=type(loader).__name__,
        text=describe(loader),
        torch_like=isinstance(inner, DataLoader),
        batch_size=_int(getattr(inner, "batch_size", None)),
        num_workers=workers,
        persistent_workers=bool(getattr(inner, "persistent_workers", False)),
        prefetch_factor=_int(getattr(inner, "prefetch_factor", None)),
        start_method=method,
        shuffle=None if iterable else _shuffles(inner),
        pickled_nbytes=pickled_nbytes(dataset) if method not in ("", "fork") else 0,
        iterable=iterable,
        file=file,
        line=line,
        dataset="" if dataset is None else type(dataset).__name__,
        dataset_file=dataset_file,
        dataset_line=dataset_line,
        dataset_items=_items(dataset),
        has_getitems=takes_indices(dataset),
        hidden_getitems=type(hidden).__name__ if hidden is not None else "",
        hiding=type(hiding(dataset, hidden)).__name__ if hidden is not None else "",
        shared_samples=_share_memory(samples),
        sample_nbytes=max(map(_nbytes, samples), default=0),
        batch_nbytes=_nbytes(batch),
        open_files=len(open_files() - opened_before),
        collate_file=collate_file,
        collate_line=collate_line,
        batch_kind=batch_kind(batch),
        pin_memory=bool(getattr(inner, "pin_memory", False)),
        set_epoch=any(hasattr(found, "set_epoch") for found in chain(dataset)),
        **objects_held(chain(dataset)),
    )


def _shuffles(loader: Any) -> bool | None:
    """Whether torch's own samplers, or the reference loader's, draw an order; None for others."""
    sampler = innermost(getattr(loader, "batch_sampler", None) or getattr(loader, "sampler", None))
    if isinstance(sampler, (RandomSampler, SequentialSampler)):
        return isinstance(sampler, RandomSampler)
    found = getattr(sampler, "shuffle", None)
    return found if isinstance(found, bool) else None


def _inner(loader: Any, parts: TorchParts) -> Any:
    """The DataLoader that does the work: the loader itself, or the one with most workers that it iterates."""
    if hasattr(loader, "dataset") or not parts.loaders:
        return loader
    return max(parts.loaders, key=lambda found: found.num_workers)


def open_files() -> frozenset[tuple[str, int]]:
    """Path and descriptor of the files that this process has open for reading."""
    with suppress(psutil.Error, OSError):
        found = psutil.Process().open_files()
        return frozenset((file.path, file.fd) for file in found if getattr(file, "mode", "r") == "r")
    return frozenset()


def _nbytes(batch: Any) -> int:
    with suppress(Exception):  # a batch of the user's own type, whose methods may raise
        return 0 if batch is None else batch_nbytes(batch)
    return 0


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _items(dataset: Any) -> int | None:
    with suppress(Exception):
        return len(dataset)
    return None


def _written_at(dataset: Any) -> tuple[str, int]:
    """File and line of how the dataset gives a sample: of the user's class, or of one that it wraps."""
    for found in chain(dataset):
        for name in ("__getitem__", "__getitems__", "__iter__"):
            code = getattr(getattr(type(found), name, None), "__code__", None)
            if code is not None and is_users(code.co_filename):
                return code.co_filename, code.co_firstlineno
    return "", 0


def _returns_at(collate: Any) -> tuple[str, int]:
    """File and line of the last return of the user's collate function; its first line if it has none."""
    call = getattr(type(collate), "__call__", None)  # noqa: B004 its code, not whether there is one
    code = getattr(collate, "__code__", None) or getattr(call, "__code__", None)
    if code is None or not is_users(code.co_filename):
        return "", 0
    returns = [
        at.positions.lineno for at in dis.get_instructions(code) if at.opname.startswith("RETURN") and at.positions
    ]
    lines = [line for line in returns if line is not None]
    return code.co_filename, max(lines, default=code.co_firstlineno)


def _some_samples(dataset: Any) -> list[Any]:
    samples = []
    with suppress(Exception):
        samples = [dataset[i] for i in range(min(_COMPARED_SAMPLES, len(dataset)))]
    return samples


def _share_memory(samples: list[Any]) -> bool:
    """Whether the arrays of samples lie one after the other in the same memory, as rows of one array do."""
    if len(samples) < _COMPARED_SAMPLES:
        return False
    fields = list(zip(*(array_leaves(sample) for sample in samples), strict=False))
    with suppress(Exception):
        return bool(fields) and all(len({base_of(leaf) for leaf in field}) == 1 for field in fields)
    return False


def copy_ns(batch: Any) -> float:
    """Nanoseconds that copying a batch's bytes takes on this machine; 0 if it has no arrays."""
    try:
        limit = iter(Roofline(batch, None))
    except LoaderError:
        return 0.0
    times: list[int] = []
    until = time.perf_counter() + _COPY_SECONDS
    while len(times) < _FEWEST_COPIES or time.perf_counter() < until:
        began = time.perf_counter_ns()
        next(limit)
        times.append(time.perf_counter_ns() - began)
    return float(median(times))


def descriptors() -> int:
    """Files, sockets and pipes that this process has open; 0 if the system does not say."""
    with suppress(psutil.Error, OSError):
        return int(psutil.Process().num_fds())
    return 0


def own_nbytes() -> int:
    """Bytes of memory that this process alone has written; 0 if the system does not say."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/smaps_rollup").read_bytes().splitlines():
            if line.startswith(_OWN):
                return int(line.split()[1]) * 1024
    return 0


def shared_areas() -> int:
    """How many areas of shared memory there are, of all programs; 0 if the system does not say."""
    with suppress(OSError):
        return sum(1 for _ in _SHARED.iterdir())
    return 0
