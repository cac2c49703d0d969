"""What trainers that make loaders anew do with a ReferenceLoader."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch.utils.data import DataLoader, DistributedSampler, SequentialSampler, default_collate, random_split

from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader

ARRAYS = torch.arange(20), torch.arange(20)


def asked_by_accelerate(loader: object) -> bool:
    with pytest.warns(UserWarning, match="^Accelerate leaves") as warned:
        prepared = getattr(loader, "_is_accelerate_prepared", False)  # how Accelerate asks
    (warning,) = warned
    assert str(warning.message) == (
        "Accelerate leaves a ReferenceLoader as it is: its batches come to device='cpu', and accumulate() and "
        "gather_for_metrics() do not see the end of its epochs. For those, give Accelerate a DataLoader of torch."
    )
    return prepared


def test_accelerate_leaves_it_as_it_is_and_a_warning_says_so():
    loader = ReferenceLoader(ARRAYS, 4)
    assert asked_by_accelerate(loader) is True
    loader._is_accelerate_prepared = True  # as Accelerate sets it
    assert len(list(loader)) == 5


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)


@pytest.mark.usefixtures("two_processes")
@pytest.mark.parametrize("arguments", [{}, {"shuffle": True}, {"seed": 1}, {"sampler": SequentialSampler(range(20))}])
def test_accelerate_in_several_processes_needs_a_share(arguments):
    with pytest.raises(DataError) as caught:
        _ = ReferenceLoader(ARRAYS, 4, **arguments)._is_accelerate_prepared
    assert str(caught.value) == (
        "expected rank= and world_size=2 for a loader in 2 processes, got none: each would be given the whole dataset. "
        "Give both to ReferenceLoader, or a DistributedSampler."
    )


@pytest.mark.usefixtures("two_processes")
@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 4, "rank": 0, "world_size": 2},
        {"batch_size": 4, "sampler": DistributedSampler(range(20), num_replicas=2, rank=0)},
        {"batch_sampler": [[0, 1], [2, 3]]},
    ],
)
def test_accelerate_in_several_processes_takes_a_share(arguments):
    assert asked_by_accelerate(ReferenceLoader(ARRAYS, **arguments)) is True


@pytest.mark.parametrize(
    "dataset, arguments",
    [
        (ARRAYS, {"shuffle": True, "seed": 3}),
        (ARRAYS, {"shuffle": True}),
        (list(range(20)), {"on_error": "skip", "collate_fn": default_collate}),
        (list(range(20)), {"num_workers": 2, "persistent_workers": True}),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, dict) else "",
)
def test_lightning_makes_the_same_loader_anew_with_its_own_sampler(dataset, arguments):
    loader = ReferenceLoader(dataset, 4, **arguments)
    attributes = {name: value for name, value in vars(loader).items() if not name.startswith("_")}
    attributes["multiprocessing_context"] = loader.multiprocessing_context
    parameters = inspect.signature(loader.__init__).parameters
    given = {
        name: attributes[name]
        for name, one in parameters.items()
        if one.default is not attributes.get(name) and name in attributes
    }
    sampler = DistributedSampler(range(20), num_replicas=2, rank=0, shuffle=False)
    own = {"sampler": sampler, "shuffle": False, "batch_sampler": None}
    again = type(loader)(**given | {"dataset": loader.dataset} | own)
    with loader, again:
        assert type(again) is ReferenceLoader
        assert (again.on_error, again.seed, again.batch_size) == (loader.on_error, loader.seed, 4)
        came = [batch[0] if isinstance(batch, list) else batch for batch in again]
        assert torch.cat(came).tolist() == list(range(0, 20, 2))


def test_a_part_of_random_split_is_served_as_torch_does():
    part, _ = random_split(list(range(10)), [6, 4], generator=torch.Generator().manual_seed(0))
    ours, theirs = ([batch.tolist() for batch in loader(part, 4)] for loader in (ReferenceLoader, DataLoader))
    assert ours == theirs
