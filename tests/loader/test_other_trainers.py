"""What trainers that make loaders anew do with a ReferenceLoader."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    default_collate,
    random_split,
)

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


def test_the_warning_names_the_place_that_asks():
    asks = compile("loader._is_accelerate_prepared", "asks.py", "eval")
    with pytest.warns(UserWarning, match="^Accelerate leaves") as warned:
        assert eval(asks, {"loader": ReferenceLoader(ARRAYS, 4)}) is True  # noqa: S307 our own
    assert [warning.filename for warning in warned] == ["asks.py"]


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


def lightning_makes_anew(loader, sampler, *, predicts=False):
    """What lightning.fabric.utilities.data._update_dataloader does, and Lightning's own, which also ``predicts``."""
    attributes = {name: value for name, value in vars(loader).items() if not name.startswith("_")}
    attributes["multiprocessing_context"] = loader.multiprocessing_context
    parameters = inspect.signature(loader.__init__).parameters
    given = {
        name: attributes[name]
        for name, one in parameters.items()
        if one.default is not attributes.get(name) and name in attributes
    }
    own = {"sampler": sampler, "shuffle": False, "batch_sampler": None}
    if predicts:
        batches = BatchSampler(sampler, loader.batch_size, drop_last=False)
        own = {"sampler": None, "shuffle": False, "batch_sampler": batches, "batch_size": 1, "drop_last": False}
    return type(loader)(**given | {"dataset": loader.dataset} | own)


def lightnings_sampler(loader, rank):
    """What lightning.fabric.Fabric._get_distributed_sampler makes for 2 processes, unless there is one."""
    if isinstance(loader.sampler, DistributedSampler):
        return loader.sampler
    assert isinstance(loader.sampler, (RandomSampler, SequentialSampler))
    shuffle = isinstance(loader.sampler, RandomSampler)
    return DistributedSampler(loader.dataset, num_replicas=2, rank=rank, shuffle=shuffle, seed=5)


def ignite_makes_anew(loader, batch_sampler):
    """What ignite.engine.deterministic.update_dataloader does."""
    other = {"batch_size", "sampler", "drop_last", "batch_sampler", "dataset_kind"}
    names = [name for name in vars(loader) if not name.startswith("_") and name not in other]
    return type(loader)(**{name: getattr(loader, name) for name in names}, batch_sampler=batch_sampler)


def samples_of(loader):
    with loader:
        return torch.cat([batch[0] if isinstance(batch, (list, tuple)) else batch for batch in loader]).tolist()


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
    again = lightning_makes_anew(loader, DistributedSampler(range(20), num_replicas=2, rank=0, shuffle=False))
    with loader:
        assert type(again) is ReferenceLoader
        assert (again.on_error, again.seed, again.batch_size) == (loader.on_error, loader.seed, 4)
        assert samples_of(again) == list(range(0, 20, 2))


@pytest.mark.parametrize("loader_class", [DataLoader, ReferenceLoader])
@pytest.mark.parametrize("shuffle", [False, True])
def test_lightning_keeps_whether_a_loader_shuffles(loader_class, shuffle):
    dataset, seed = TensorDataset(torch.arange(20)), {} if loader_class is DataLoader else {"seed": 3}
    loader = loader_class(dataset, 4, shuffle=shuffle, **seed)
    shares = [list(lightnings_sampler(loader, rank)) for rank in range(2)]
    assert sorted(shares[0] + shares[1]) == list(range(20))
    assert (sorted(shares[0]) != shares[0]) is shuffle


@pytest.mark.parametrize("arguments", [{"seed": 3, "shuffle": True}, {"seed": 3}, {"shuffle": True}, {}])
def test_a_sampler_that_counts_arrays_instead_of_samples_is_refused(arguments):
    loader = ReferenceLoader(ARRAYS, 4, **arguments)
    with loader, pytest.raises(DataError) as caught:
        lightning_makes_anew(loader, lightnings_sampler(loader, 0))
    assert str(caught.value) == (
        "expected a sampler of 20 samples, got a DistributedSampler over a tuple of 2 arrays, whose number it takes "
        "for that of the samples. Make it over range(20). Where a trainer makes it: give rank= and world_size=, and it "
        "keeps the loader's own, or give a TensorDataset."
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"sampler": SequentialSampler({"x": ARRAYS[0]})},
        {"sampler": RandomSampler({"x": ARRAYS[0]})},
        {"batch_sampler": BatchSampler(SequentialSampler({"x": ARRAYS[0]}), 4, drop_last=False)},
    ],
    ids=["sequential", "random", "batch sampler"],
)
def test_each_of_torchs_samplers_that_counts_arrays_is_refused(arguments):
    innermost = getattr(arguments.get("batch_sampler"), "sampler", None) or arguments["sampler"]
    with pytest.raises(DataError, match=r"^expected a sampler of 20 samples, got a \w+ over a dict of 1 arrays"):
        ReferenceLoader(innermost.data_source, **arguments)


@pytest.mark.parametrize("rank", [0, 1])
def test_lightning_keeps_a_share_that_the_loader_cuts(rank):
    shared_out = {"shuffle": True, "seed": 3, "rank": rank, "world_size": 2}
    expected = samples_of(ReferenceLoader(ARRAYS, 4, **shared_out))
    loader = ReferenceLoader(ARRAYS, 4, **shared_out)
    sampler = lightnings_sampler(loader, rank)
    assert sampler is loader.sampler
    assert (sampler.num_replicas, sampler.num_samples, sampler.total_size) == (2, 10, 20)
    assert samples_of(lightning_makes_anew(loader, sampler)) == expected
    assert samples_of(lightning_makes_anew(loader, sampler, predicts=True)) == expected


def test_the_share_of_another_loader_is_refused():
    first = ReferenceLoader(ARRAYS, 4, rank=0, world_size=2)
    with pytest.raises(DataError, match=r"^rank and world_size cut the loader's own order"):
        ReferenceLoader(ARRAYS, 4, rank=1, world_size=2, sampler=first.sampler)


def orders(loader, epochs):
    """Each epoch's samples, where the loop tells the sampler its number, as one does with a DistributedSampler."""
    came = []
    for epoch in epochs:
        loader.sampler.set_epoch(epoch)
        came.append(torch.cat([batch[0] for batch in loader]).tolist())
    return came


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("epochs", [[0, 1, 2], [5, 6], [3, 3]])
@pytest.mark.parametrize("share", [{}, {"rank": 1, "world_size": 2}], ids=["all", "share"])
def test_set_epoch_of_the_loaders_own_sampler_is_heard(epochs, share, num_workers):
    dataset = TensorDataset(torch.arange(20))
    replicas = {"num_replicas": share.get("world_size", 1), "rank": share.get("rank", 0)}
    theirs = DataLoader(dataset, 4, sampler=DistributedSampler(dataset, seed=3, **replicas))
    with ReferenceLoader(dataset, 4, shuffle=True, seed=3, num_workers=num_workers, **share) as ours:
        assert orders(ours, epochs) == orders(theirs, epochs)
        assert ours.epoch == epochs[-1] + 1


def test_a_restart_goes_on_though_the_sampler_is_told_another_epoch():
    arguments = {"batch_size": 4, "shuffle": True, "seed": 3}
    with ReferenceLoader(ARRAYS, **arguments) as first, ReferenceLoader(ARRAYS, **arguments) as second:
        first.set_epoch(4)
        batches = iter(first)
        next(batches)
        second.load_state_dict(first.state_dict())
        second.sampler.set_epoch(0)  # as Lightning's Fabric does, which counts from 0
        rest = [batch[0].tolist() for batch in second]
        assert rest == [batch[0].tolist() for batch in batches]
        assert second.epoch == 5


@pytest.mark.parametrize(
    "arguments",
    [
        {"shuffle": True},
        {"shuffle": True, "seed": 3},
        {"num_workers": 2, "prefetch_factor": 3},
        {"on_error": "skip"},
    ],
    ids=" ".join,
)
def test_ignite_makes_the_same_loader_anew_with_its_own_batch_sampler(arguments):
    loader = ReferenceLoader(list(range(20)), 4, **arguments)
    with loader:
        again = ignite_makes_anew(loader, [[0, 1], [5, 6]])
        assert type(again) is ReferenceLoader
        assert (again.on_error, again.seed) == (loader.on_error, loader.seed)
        assert samples_of(again) == [0, 1, 5, 6]


def test_ignite_keeps_a_share_that_the_loader_cuts():
    shared_out = {"shuffle": True, "seed": 3, "rank": 1, "world_size": 2}
    loader = ReferenceLoader(ARRAYS, 4, **shared_out)
    assert samples_of(ignite_makes_anew(loader, loader.batch_sampler)) == samples_of(loader)


def test_a_part_of_random_split_is_served_as_torch_does():
    part, _ = random_split(list(range(10)), [6, 4], generator=torch.Generator().manual_seed(0))
    ours, theirs = ([batch.tolist() for batch in loader(part, 4)] for loader in (ReferenceLoader, DataLoader))
    assert ours == theirs
