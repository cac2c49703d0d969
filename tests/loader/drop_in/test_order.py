"""Which samples come, and in which order."""

from __future__ import annotations

from itertools import chain

import pytest
import torch
from torch.utils.data import RandomSampler, TensorDataset

SAMPLES = 23
DATASETS = {
    "map-style": list(range(SAMPLES)),
    "TensorDataset": TensorDataset(torch.arange(SAMPLES)),
    "tensor": torch.arange(SAMPLES),
}
EPOCHS = 3

over_datasets = pytest.mark.parametrize("dataset", DATASETS.values(), ids=DATASETS)
over_batches = pytest.mark.parametrize("batch_size, num_workers", [(1, 0), (4, 0), (None, 0), (4, 2)])


def batches_of(loader):
    """Batches as lists of ints; without a batch size a batch is a sample."""
    found = (batch[0] if isinstance(batch, (list, tuple)) else batch for batch in loader)
    return [torch.as_tensor(batch).reshape(-1).tolist() for batch in found]


def samples_of(loader):
    return list(chain(*batches_of(loader)))


def states(generator):
    """What the default generator, and the one given, would draw next."""
    return [state.tolist() for state in (torch.get_rng_state(), *([generator.get_state()] if generator else []))]


def expected_epochs(generator, *, shuffle, persistent):
    """What torch documents: the workers' base seed is drawn first, then RandomSampler draws its order."""
    for epoch in range(EPOCHS):
        if epoch == 0 or not persistent:
            torch.empty((), dtype=torch.int64).random_(generator=generator)
        yield list(RandomSampler(range(SAMPLES), generator=generator)) if shuffle else list(range(SAMPLES))


@over_datasets
@over_batches
def test_samples_come_in_the_datasets_order(loader_class, dataset, num_workers, batch_size):
    loader = loader_class(dataset, batch_size=batch_size, num_workers=num_workers)
    size = batch_size or 1
    assert batches_of(loader) == [list(range(i, min(i + size, SAMPLES))) for i in range(0, SAMPLES, size)]


@over_datasets
@over_batches
def test_a_shuffled_epoch_has_every_sample_once_and_differs_from_the_next(
    loader_class, dataset, num_workers, batch_size
):
    torch.manual_seed(0)
    loader = loader_class(dataset, batch_size=batch_size, shuffle=True, num_workers=num_workers)
    one, two = samples_of(loader), samples_of(loader)
    assert sorted(one) == sorted(two) == list(range(SAMPLES))
    assert one != two


@pytest.mark.parametrize(
    "name, workers",
    [
        *((name, {}) for name in DATASETS),
        *((name, {"num_workers": 0}) for name in DATASETS),
        ("tensor", {"num_workers": 2}),
    ],
)
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("given", [False, True], ids=["default generator", "generator given"])
def test_orders_and_draws_are_those_of_torch_under_the_same_seed(loader_class, name, workers, shuffle, given):
    """What is drawn afterwards, such as a model's weights, is the same, too."""
    dataset = DATASETS[name]

    def generator():
        torch.manual_seed(7)
        return torch.Generator().manual_seed(8) if given else None

    theirs = generator()
    expected = list(expected_epochs(theirs, shuffle=shuffle, persistent=False))
    afterwards = states(theirs)

    ours = generator()
    loader = loader_class(dataset, batch_size=4, shuffle=shuffle, generator=ours, **workers)
    assert [samples_of(loader) for _ in range(EPOCHS)] == expected
    assert states(ours) == afterwards


@over_datasets
def test_persistent_workers_draw_their_base_seed_once(loader_class, dataset):
    torch.manual_seed(7)
    expected = list(expected_epochs(None, shuffle=True, persistent=True))
    after = torch.get_rng_state()
    torch.manual_seed(7)
    loader = loader_class(dataset, batch_size=4, shuffle=True, num_workers=2, persistent_workers=True)
    assert [samples_of(loader) for _ in range(EPOCHS)] == expected
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("dataset", [DATASETS["map-style"], DATASETS["tensor"]], ids=["map-style", "tensor"])
def test_the_order_does_not_depend_on_the_number_of_workers(loader_class, dataset):
    def orders(num_workers):
        generator = torch.Generator().manual_seed(3)
        loader = loader_class(
            dataset, 4, shuffle=True, num_workers=num_workers, generator=generator, persistent_workers=False
        )
        return [batches_of(loader) for _ in range(EPOCHS)]

    assert orders(0) == orders(1) == orders(2)


@over_datasets
@pytest.mark.parametrize("shuffle", [None, False, 0, 1, 3, True])
def test_shuffle_is_any_truth_value(loader_class, dataset, shuffle):
    torch.manual_seed(0)
    loader = loader_class(dataset, batch_size=4, shuffle=shuffle, num_workers=0)
    assert isinstance(loader.sampler, RandomSampler) is bool(shuffle)
    assert (samples_of(loader) != list(range(SAMPLES))) is bool(shuffle)
