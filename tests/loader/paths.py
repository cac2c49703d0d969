"""Every way that a batch comes through ReferenceLoader, for the contract that all of them keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, TensorDataset, default_collate, get_worker_info

from pytest_loaderperf.data import PersistentExecutor, optimize
from pytest_loaderperf.data.arrays.order import epoch_order
from pytest_loaderperf.loader import ReferenceLoader

SAMPLES, BATCH_SIZE, SEED = 203, 3, 5  # a short last batch, and enough batches for several in one chunk
FEATURES = np.arange(SAMPLES * 2, dtype=np.float32).reshape(SAMPLES, 2)
LABELS = np.arange(SAMPLES)
CUTS = [0, 1, 4, 6, 20, 21, 100, 170, SAMPLES]  # of batches of varying size
FIXED_ORDER = np.random.default_rng(0).permutation(SAMPLES).tolist()

Batches = list[list[int]]


class Rows:
    """The rows of ``features`` as a map-style dataset, which raises at sample ``bad``."""

    def __init__(self, features: np.ndarray) -> None:
        self.features = torch.from_numpy(features)
        self.bad = -1

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> Any:
        if index == self.bad:
            raise ValueError(f"sample {index} is broken")
        return self.sample(index)

    def sample(self, index: int) -> Any:
        return self.features[index]


class Nested(Rows):
    def sample(self, index: int) -> Any:
        return {"x": self.features[index], "where": {"at": index}}, index


class AtOnce(Rows):
    """Gives the samples of a batch by one call."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        assert type(indices) is list
        return [self[index] for index in indices]


class WholeBatches(AtOnce):
    def __getitems__(self, indices: list[int]) -> torch.Tensor:
        return torch.stack(super().__getitems__(indices))


class Stream(IterableDataset):
    """Rows in their order; a worker of several gives every so many of them."""

    def __init__(self, features: np.ndarray) -> None:
        self.features = torch.from_numpy(features)

    def __iter__(self) -> Iterator[torch.Tensor]:
        worker = get_worker_info()
        return iter(self.features if worker is None else self.features[worker.id :: worker.num_workers])


def as_is(batch: Any) -> Any:
    return batch


def whole(features: Any) -> Any:
    return features


def strided(features: np.ndarray) -> np.ndarray:
    return np.repeat(features, 2, axis=1)[:, ::2]


def first(batch: Any) -> torch.Tensor:
    return batch[0]


def in_field(batch: Any) -> torch.Tensor:
    return batch["x"]


def nested(batch: Any) -> torch.Tensor:
    return batch[0]["x"]


def cut(indices: Sequence[int], *, drop_last: bool, size: int = BATCH_SIZE) -> Batches:
    batches = [list(indices[start : start + size]) for start in range(0, len(indices), size)]
    return [batch for batch in batches if len(batch) == size or not drop_last]


def seeded(epoch: int, *, shuffle: bool, drop_last: bool) -> Batches:
    order = epoch_order(SAMPLES, shuffle=shuffle, seed=SEED, epoch=epoch)
    return cut(list(map(int, order)), drop_last=drop_last)


def seeded_singly(epoch: int, *, shuffle: bool, drop_last: bool) -> Batches:
    return cut(list(map(int, epoch_order(SAMPLES, shuffle=shuffle, seed=SEED, epoch=epoch))), drop_last=False, size=1)


def in_sequence(epoch: int, *, shuffle: bool, drop_last: bool) -> Batches:
    return cut(range(SAMPLES), drop_last=drop_last)


def in_sequence_singly(epoch: int, *, shuffle: bool, drop_last: bool) -> Batches:
    return cut(range(SAMPLES), drop_last=False, size=1)


def by_two_workers(epoch: int, *, shuffle: bool, drop_last: bool) -> Batches:
    ones, twos = (cut(range(worker, SAMPLES, 2), drop_last=drop_last) for worker in (0, 1))
    return [batch for pair in zip_longest(ones, twos) for batch in pair if batch is not None]


def in_fixed_order(epoch: int, *, shuffle: bool, drop_last: bool) -> Batches:
    return cut(FIXED_ORDER, drop_last=drop_last)


def at_cuts(epoch: int = 0, *, shuffle: bool = False, drop_last: bool = False) -> Batches:
    return [FIXED_ORDER[start:stop] for start, stop in pairwise(CUTS)]


@dataclass(frozen=True)
class Path:
    """A dataset over given features, the arguments that choose the path, and where the features are in a batch.

    ``batches``: the indices that each batch of an epoch must have. ``takes``: the arguments that are open.
    """

    make_dataset: Callable[[np.ndarray], Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    features_of: Callable[[Any], torch.Tensor] = whole
    batches: Callable[..., Batches] = seeded
    takes: tuple[str, ...] = ("batch_size", "shuffle", "drop_last", "seed")

    def make_loader(self, source: Any, **arguments: Any) -> ReferenceLoader[Any]:
        chosen = {"batch_size": BATCH_SIZE, "seed": SEED, **arguments}
        chosen = {name: value for name, value in chosen.items() if name in self.takes} | self.arguments
        if make_executor := chosen.get("executor"):
            chosen["executor"] = make_executor()
        return ReferenceLoader(self.make_dataset(source), **chosen)

    def expected(self, epoch: int = 0, *, shuffle: bool = True, drop_last: bool = False) -> list[np.ndarray]:
        """The features of each batch of an epoch; of single samples where there are no batches."""
        batches = self.batches(epoch, shuffle=shuffle, drop_last=drop_last)
        single = "batch_size" in self.arguments
        return [FEATURES[batch[0] if single else batch] for batch in batches]

    def features(self, batches: Any) -> list[torch.Tensor]:
        return [self.features_of(batch) for batch in batches]


HERE = {"num_workers": 0}
THREADS = {"num_workers": 2, "worker_kind": "threads"}
PROCESS = {"num_workers": 1, "worker_kind": "processes"}
PROCESSES = {"num_workers": 2, "worker_kind": "processes"}
SKIP = {"on_error": "skip"}
FIXED = ("batch_size", "drop_last")
SINGLE = ("shuffle", "seed")


def _kinds(name: str, make: Callable[[dict[str, Any]], Path]) -> dict[str, Path]:
    kinds = {"consumer's thread": HERE, "two threads": THREADS, "a process": PROCESS}
    return {f"{name}, {kind}": make(arguments) for kind, arguments in kinds.items()}


def _sampled(make_dataset: Callable[[Any], Any], kind: dict[str, Any]) -> Path:
    return Path(make_dataset, {"sampler": FIXED_ORDER, **kind}, batches=in_fixed_order, takes=FIXED)


def _cut(make_dataset: Callable[[Any], Any], kind: dict[str, Any]) -> Path:
    return Path(make_dataset, {"batch_sampler": at_cuts(), **kind}, batches=at_cuts, takes=())


def _single(make_dataset: Callable[[Any], Any], kind: dict[str, Any]) -> Path:
    return Path(make_dataset, {"batch_size": None, **kind}, batches=seeded_singly, takes=SINGLE)


ARRAY_PATHS = {
    "array, consumer's thread": Path(whole, HERE),
    "array, one thread": Path(whole, {"num_workers": 1}),
    "array, two threads": Path(whole, {"num_workers": 2}),
    "array, threads by default": Path(whole),
    "array, single batches ahead": Path(whole, {"num_workers": 2, "prefetch_factor": 1}),
    "array, many batches ahead": Path(whole, {"num_workers": 2, "prefetch_factor": 9}),
    "array, more threads than the executor has": Path(
        whole, {"num_workers": 3, "executor": partial(PersistentExecutor, 1)}
    ),
    "array, own collate": Path(whole, {**THREADS, "collate_fn": default_collate}),
    "array, little memory": Path(whole, {"num_workers": 2, "memory_budget": 5 * BATCH_SIZE * 8}),
    "array, skipping": Path(whole, {"num_workers": 2, **SKIP}),
    "array, a process": Path(whole, PROCESS),
    "strided array": Path(strided, {"num_workers": 2}),
    "big-endian array": Path(lambda x: x.astype(">f4"), {"num_workers": 2}),
    "tensor": Path(torch.tensor, {"num_workers": 2}),
    "tuple": Path(lambda x: (x, LABELS), {"num_workers": 2}, first),
    "dict": Path(lambda x: {"y": LABELS, "x": x}, {"num_workers": 2}, in_field),
    "dict, a process": Path(lambda x: {"y": LABELS, "x": x}, PROCESS, in_field),
    "TensorDataset": Path(lambda x: TensorDataset(torch.tensor(x)), {"num_workers": 2}, first),
    "pre-loaded": Path(lambda x: optimize(Nested(x)), {"num_workers": 2}, nested),
    "pre-loaded in the background": Path(lambda x: optimize(Rows(x), background=True), {"num_workers": 2}),
}
MAP_STYLE_PATHS = {
    **_kinds("map-style", lambda kind: Path(Rows, kind)),
    "map-style, two processes": Path(Rows, PROCESSES),
    "map-style, auto": Path(Rows),
    "map-style, little memory": Path(Rows, {**THREADS, "memory_budget": 3 * BATCH_SIZE * 8}),
    **_kinds("nested", lambda kind: Path(Nested, kind, nested)),
    **_kinds("at once", lambda kind: Path(AtOnce, kind)),
    **_kinds("whole batches", lambda kind: Path(WholeBatches, {"collate_fn": as_is, **kind})),
    **_kinds("skipping", lambda kind: Path(Nested, {**SKIP, **kind}, nested)),
    **_kinds("own sampler", partial(_sampled, Rows)),
    **_kinds("own batches", partial(_cut, Rows)),
    **_kinds("own batches, skipping", lambda kind: _cut(Rows, {**SKIP, **kind})),
    **_kinds("single samples", partial(_single, Rows)),
}
OTHER_PATHS = {
    "array, own sampler": _sampled(whole, {"num_workers": 2}),
    "array, own batches": _cut(whole, {"num_workers": 2}),
    "array, single samples": _single(whole, HERE),
    "iterable, consumer's thread": Path(Stream, HERE, batches=in_sequence, takes=FIXED),
    "iterable, a thread": Path(Stream, {"worker_kind": "threads"}, batches=in_sequence, takes=FIXED),
    "iterable, a process": Path(Stream, PROCESS, batches=in_sequence, takes=FIXED),
    "iterable, two processes": Path(Stream, PROCESSES, batches=by_two_workers, takes=FIXED),
    "iterable, single samples": Path(Stream, {"batch_size": None, **HERE}, batches=in_sequence_singly, takes=()),
}
PATHS = ARRAY_PATHS | MAP_STYLE_PATHS | OTHER_PATHS
# One for each way to make batches; order, delivery and restart are asked of all paths.
ENGINES = {
    name: PATHS[name]
    for name in (
        "array, consumer's thread",
        "array, two threads",
        "array, own batches",
        "map-style, consumer's thread",
        "map-style, two threads",
        "map-style, two processes",
        "skipping, a process",
        "single samples, two threads",
        "iterable, a thread",
        "iterable, two processes",
    )
}
# Batches made in this process, which may share memory with their source.
IN_PROCESS = {name: path for name, path in PATHS.items() if "process" not in name}
