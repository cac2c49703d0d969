"""What every path through ReferenceLoader delivers: which samples, in which order and form, and whose memory it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pytest_loaderperf.data.stores.preload import Preloaded
from tests.loader.paths import ARRAY_PATHS, BATCH_SIZE, ENGINES, FEATURES, IN_PROCESS, PATHS

CHUNKED = {
    name: path
    for name, path in ARRAY_PATHS.items()
    if not any(word in name for word in ("collate", "single", "process", "background", "little"))
}
TORCH_TAKES = {name: path for name, path in IN_PROCESS.items() if not name.startswith(("tuple", "dict"))}
COLLATED = {name: path for name, path in IN_PROCESS.items() if "single samples" not in name}
THREADED = {name: path for name, path in ENGINES.items() if name in COLLATED}
TORCHS = ("collate_fn", "sampler", "batch_sampler", "batch_size")

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


def over(paths):
    return pytest.mark.parametrize("path", paths.values(), ids=paths)


def is_collated(path):
    return path.arguments.get("batch_size", BATCH_SIZE) is not None


def same(came: list[Any], wanted: list[np.ndarray]) -> bool:
    return len(came) == len(wanted) and all(map(np.array_equal, came, wanted))


@over(CHUNKED)
def test_several_batches_are_gathered_at_a_time(make_loader, path):
    assert make_loader()._engine.buffers.plan.chunk > 1


@over(PATHS)
def test_each_epoch_gives_the_samples_of_its_order_exactly_once_as_tensors(make_loader, path):
    for chosen, epochs in (({"shuffle": False, "drop_last": False}, 1), ({"shuffle": True, "drop_last": True}, 2)):
        loader = make_loader(**chosen)
        for epoch in range(epochs):
            batches = path.features(loader)
            assert same(batches, path.expected(epoch, **chosen))
            if is_collated(path):
                kinds = {(type(batch), batch.dtype, batch.shape[1:]) for batch in batches}
                assert kinds == {(torch.Tensor, torch.float32, (2,))}
            if isinstance(loader.dataset, Preloaded):
                loader.dataset.wait()


@over(TORCH_TAKES)
def test_torchs_loader_gives_the_same_batches(make_loader, path):
    loader = make_loader()
    dataset = loader.dataset.astype("f4") if isinstance(loader.dataset, np.ndarray) else loader.dataset
    chosen = {"batch_size": BATCH_SIZE} if "batch_size" in path.takes else {}
    theirs = DataLoader(dataset, **chosen | {name: path.arguments[name] for name in TORCHS if name in path.arguments})
    for ours, wanted in zip(loader, theirs, strict=True):
        assert type(ours) is type(wanted)
        assert torch.equal(path.features_of(ours), path.features_of(wanted))


@over(ENGINES)
def test_set_epoch_chooses_the_order(make_loader, path):
    loader = make_loader(shuffle=True)
    loader.set_epoch(7)
    for epoch in (7, 8):
        assert same(path.features(loader), path.expected(epoch))


@over(THREADED)
@pytest.mark.parametrize("keep, read", KEPT.values(), ids=KEPT)
def test_what_is_kept_of_a_batch_is_never_overwritten(make_loader, path, keep, read):
    loader = make_loader(shuffle=True)
    kept = [keep(features) for features in path.features(loader)]
    for _ in range(2):
        for _batch in loader:
            pass
    assert same([read(one) for one in kept], path.expected())


@over(ENGINES)
def test_every_third_batch_is_kept_while_the_others_are_reused(make_loader, path):
    loader = make_loader(shuffle=True)
    kept = [[path.features_of(batch)[1:] for i, batch in enumerate(loader) if i % 3 == 0] for _ in range(3)]
    for epoch, batches in enumerate(kept):
        assert same(batches, [batch[1:] for batch in path.expected(epoch)[::3]])


@over(THREADED)
def test_what_autograd_saved_of_a_batch_is_never_overwritten(make_loader, path):
    loader = make_loader(shuffle=True)
    weight = torch.ones(1, requires_grad=True)
    losses = [(features * weight).sum() for features in path.features(loader)]
    for _batch in loader:
        pass
    gradients = [torch.autograd.grad(loss, weight)[0].item() for loss in losses]
    assert gradients == [batch.sum() for batch in path.expected()]


@over(COLLATED)
def test_writing_into_a_batch_changes_neither_the_source_nor_later_batches(make_loader, path, source):
    loader = make_loader(shuffle=True)
    for epoch in range(2):
        came = []
        for batch in loader:
            features = path.features_of(batch)
            came.append(features.numpy().copy())
            features.fill_(-1)
        assert same(came, path.expected(epoch))
    assert np.array_equal(source, FEATURES)
