"""What holds for ReferenceLoader over every kind of dataset and on every path through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate

from pytest_loaderperf.data import ArrayDataset, BatchedArrayDataset, as_is
from pytest_loaderperf.loader import PersistentExecutor, ReferenceLoader, reference
from pytest_loaderperf.loader.order import epoch_order

SAMPLES, BATCH_SIZE, SEED = 203, 3, 5  # a short last batch, and enough batches for several in one chunk
FEATURES = np.arange(SAMPLES * 2, dtype=np.float32).reshape(SAMPLES, 2)
LABELS = np.arange(SAMPLES)


@dataclass(frozen=True)
class Path:
    """A dataset over FEATURES, the arguments that choose the path, and where the features are in a batch."""

    make_dataset: Callable[[np.ndarray], Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    features_of: Callable[[Any], torch.Tensor] = lambda batch: batch


def first(batch: Any) -> torch.Tensor:
    return batch[0]


def whole(x: np.ndarray) -> np.ndarray:
    return x


def strided(x: np.ndarray) -> np.ndarray:
    return np.repeat(x, 2, axis=1)[:, ::2]


PATHS = {
    "array, consumer's thread": Path(whole, {"num_workers": 0}),
    "array, one thread": Path(whole, {"num_workers": 1}),
    "array, two threads": Path(whole, {"num_workers": 2}),
    "array, threads by default": Path(whole),
    "array, single batches ahead": Path(whole, {"num_workers": 2, "prefetch_factor": 1}),
    "array, many batches ahead": Path(whole, {"num_workers": 2, "prefetch_factor": 9}),
    "array, more threads than the executor has": Path(
        whole, {"num_workers": 3, "executor": partial(PersistentExecutor, 1)}
    ),
    "array, own collate": Path(whole, {"num_workers": 2, "collate_fn": default_collate}),
    "strided array": Path(strided, {"num_workers": 2}),
    "big-endian array": Path(lambda x: x.astype(">f4"), {"num_workers": 2}),
    "tensor": Path(torch.tensor, {"num_workers": 2}),
    "tuple": Path(lambda x: (x, LABELS), {"num_workers": 2}, first),
    "dict": Path(lambda x: {"y": LABELS, "x": x}, {"num_workers": 2}, lambda batch: batch["x"]),
    "TensorDataset": Path(lambda x: TensorDataset(torch.tensor(x)), {"num_workers": 2}, first),
    "map-style, consumer's thread": Path(lambda x: ArrayDataset(x, LABELS), {}, first),
    "map-style, two threads": Path(lambda x: ArrayDataset(x, LABELS), {"num_workers": 2}, first),
    "batched, consumer's thread": Path(lambda x: BatchedArrayDataset(x, LABELS), {"collate_fn": as_is}, first),
    "batched, two threads": Path(
        lambda x: BatchedArrayDataset(x, LABELS), {"collate_fn": as_is, "num_workers": 2}, first
    ),
}

CHUNKED = [
    pytest.param(path, id=name)
    for name, path in PATHS.items()
    if "map-style" not in name and "batched" not in name and "collate" not in name and "single" not in name
]
TORCH_TAKES = [pytest.param(path, id=name) for name, path in PATHS.items() if name not in ("dict", "tuple")]

# What a consumer may keep of a batch's features, and how to read the values back from it.
KEPT: dict[str, tuple[Callable[[torch.Tensor], Any], Callable[[Any], np.ndarray]]] = {
    "batch": (lambda t: t, np.asarray),
    "view": (lambda t: t.view(-1), lambda t: t.numpy().reshape(-1, 2)),
    "transposed": (lambda t: t.T, lambda t: t.T.numpy()),
    "NumPy array": (lambda t: t.numpy(), np.asarray),
    "NumPy view": (lambda t: t.numpy().reshape(-1), lambda a: a.reshape(-1, 2)),
    "memoryview": (lambda t: memoryview(t.numpy()), np.asarray),
    "detached": (lambda t: t.detach(), np.asarray),
    "storage": (
        lambda t: t.untyped_storage(),
        lambda s: torch.tensor([], dtype=torch.float32).set_(s).numpy().reshape(-1, 2),
    ),
    "dlpack": (torch.from_dlpack, np.asarray),
    "list of rows": (list, np.stack),
    "reinterpreted": (lambda t: t.view(torch.int32), lambda t: t.view(torch.float32).numpy()),
}


@pytest.fixture(autouse=True)
def _four_cores_and_no_chunk_too_small_for_threads(monkeypatch):
    monkeypatch.setattr(reference, "usable_cores", lambda: 4)
    monkeypatch.setattr(reference, "HANDOVER_NBYTES", 0)


@pytest.fixture(params=PATHS.values(), ids=PATHS)
def path(request) -> Path:
    return request.param


@pytest.fixture
def source() -> np.ndarray:
    return FEATURES.copy()


@pytest.fixture
def make_loader(path, source) -> Iterator[Callable[..., ReferenceLoader]]:
    made = []

    def make(**arguments: Any) -> ReferenceLoader:
        arguments = {"batch_size": BATCH_SIZE, "seed": SEED, **path.arguments, **arguments}
        if make_executor := arguments.get("executor"):
            arguments["executor"] = make_executor()
        made.append(ReferenceLoader(path.make_dataset(source), **arguments))
        return made[-1]

    yield make
    for loader in made:
        loader.close()


def expected(epoch: int = 0, *, shuffle: bool = True, drop_last: bool = False) -> list[np.ndarray]:
    order = np.asarray(epoch_order(SAMPLES, shuffle=shuffle, seed=SEED, epoch=epoch))
    batches = [FEATURES[order[i : i + BATCH_SIZE]] for i in range(0, SAMPLES, BATCH_SIZE)]
    return batches[:-1] if drop_last else batches


def same(came: list[Any], wanted: list[np.ndarray]) -> bool:
    return len(came) == len(wanted) and all(map(np.array_equal, came, wanted))


@pytest.mark.parametrize("path", CHUNKED, indirect=True)
def test_several_batches_are_gathered_at_a_time(make_loader, path):
    assert make_loader()._plan.chunk > 1


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_each_epoch_gives_the_samples_of_its_order_exactly_once(make_loader, path, shuffle, drop_last):
    loader = make_loader(shuffle=shuffle, drop_last=drop_last)
    for epoch in range(3):
        batches = [path.features_of(batch) for batch in loader]
        assert same(batches, expected(epoch, shuffle=shuffle, drop_last=drop_last))
        assert len(batches) == len(loader)


def test_batches_are_tensors_of_the_sources_dtype_and_row_shape(make_loader, path):
    loader = make_loader()
    batches = [path.features_of(batch) for batch in loader]
    assert {(type(batch), batch.dtype, batch.shape[1:]) for batch in batches} == {(torch.Tensor, torch.float32, (2,))}
    assert [len(batch) for batch in batches] == [BATCH_SIZE] * 67 + [2]


@pytest.mark.parametrize("path", TORCH_TAKES, indirect=True)
def test_torchs_loader_gives_the_same_batches(make_loader, path):
    loader = make_loader()
    dataset = loader.dataset.astype("f4") if isinstance(loader.dataset, np.ndarray) else loader.dataset
    theirs = DataLoader(dataset, BATCH_SIZE, collate_fn=path.arguments.get("collate_fn"))
    for ours, wanted in zip(loader, theirs, strict=True):
        assert type(ours) is type(wanted)
        assert torch.equal(path.features_of(ours), path.features_of(wanted))


def test_set_epoch_chooses_the_order(make_loader, path):
    loader = make_loader(shuffle=True)
    loader.set_epoch(7)
    assert same([path.features_of(batch) for batch in loader], expected(7))
    assert same([path.features_of(batch) for batch in loader], expected(8))


def test_two_iterations_at_once_do_not_disturb_each_other(make_loader, path):
    loader = make_loader(shuffle=True)
    one, two = iter(loader), iter(loader)
    came_one = [path.features_of(batch) for batch in islice(one, 5)]
    came_two = []
    for batch_two, batch_one in zip(two, one, strict=False):
        came_two.append(path.features_of(batch_two))
        came_one.append(path.features_of(batch_one))
    came_two += [path.features_of(batch) for batch in two]
    assert same(came_one, expected(0))
    # The batch that zip() took from the second and threw away when the first had ended.
    assert same(came_two, [batch for i, batch in enumerate(expected(1)) if i != len(loader) - 5])


@pytest.mark.parametrize("taken", [0, 1, 20])
def test_after_an_early_break_the_next_epoch_is_whole(make_loader, path, taken):
    loader = make_loader(shuffle=True)
    for _ in range(3):
        iterator = iter(loader)
        kept = [path.features_of(batch) for batch in islice(iterator, taken)]
        del iterator
    assert same([path.features_of(batch) for batch in loader], expected(3))
    assert same(kept, expected(2)[:taken])


def test_an_exhausted_iterator_stays_exhausted(make_loader):
    iterator = iter(make_loader())
    assert len(list(iterator)) == 68
    assert list(iterator) == []


@pytest.mark.parametrize("keep, read", KEPT.values(), ids=KEPT)
def test_what_is_kept_of_a_batch_is_never_overwritten(make_loader, path, keep, read):
    loader = make_loader(shuffle=True)
    kept = [keep(path.features_of(batch)) for batch in loader]
    for _ in range(2):
        for _batch in loader:
            pass
    assert same([read(one) for one in kept], expected(0))


def test_every_third_batch_is_kept_while_the_others_are_reused(make_loader, path):
    loader = make_loader(shuffle=True)
    kept = [[path.features_of(batch)[1:] for i, batch in enumerate(loader) if i % 3 == 0] for _ in range(3)]
    for epoch, batches in enumerate(kept):
        assert same(batches, [batch[1:] for batch in expected(epoch)[::3]])


def test_what_autograd_saved_of_a_batch_is_never_overwritten(make_loader, path):
    loader = make_loader(shuffle=True)
    weight = torch.ones(1, requires_grad=True)
    losses = [(path.features_of(batch) * weight).sum() for batch in loader]
    for _batch in loader:
        pass
    gradients = [torch.autograd.grad(loss, weight)[0].item() for loss in losses]
    assert gradients == [batch.sum() for batch in expected(0)]


def test_writing_into_a_batch_changes_neither_the_source_nor_later_batches(make_loader, path, source):
    loader = make_loader(shuffle=True)
    for epoch in range(2):
        came = []
        for batch in loader:
            features = path.features_of(batch)
            came.append(features.numpy().copy())
            features.fill_(-1)
        assert same(came, expected(epoch))
    assert np.array_equal(source, FEATURES)
