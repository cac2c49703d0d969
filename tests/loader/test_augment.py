"""Augmentation by optimize(transform=) in ReferenceLoader: fresh in each epoch, drawn as torch draws, or by a seed."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Subset, get_worker_info

from pytest_loaderperf.data import optimize
from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import ReferenceLoader

SAMPLES, BATCH = 22, 4
numpys = np.random.rand
PERS = ["sample", "batch"]


class Plain:
    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        return torch.full((2,), float(index), dtype=torch.float64), index


def noisy(given):
    """A sample or batch with noise of each library between 0 and 1, and who made it."""
    image, label = given
    noise = torch.rand((), dtype=torch.float64) + numpys() + random.random()  # noqa: S311
    info = get_worker_info()
    return image + noise, label, -1 if info is None else info.id


@pytest.fixture(params=PERS)
def store(request):
    return optimize(Plain(), transform=noisy, per=request.param)


@pytest.fixture
def sampled():
    return optimize(Plain(), transform=noisy)


def images(loader):
    return torch.cat([batch[0] for batch in loader])


def labels(loader):
    return torch.cat([batch[1] for batch in loader])


def seed(number=0):
    for library in (torch.manual_seed, np.random.seed, random.seed):
        library(number)


WORKERS = [{}, {"num_workers": 0}, {"num_workers": 2}, {"num_workers": 2, "worker_kind": "threads"}]


@pytest.mark.parametrize("arguments", WORKERS)
@pytest.mark.parametrize("seeded", [None, 5])
def test_each_epoch_is_augmented_anew(store, arguments, seeded):
    with ReferenceLoader(store, BATCH, seed=seeded, **arguments) as loader:
        first, second = images(loader), images(loader)
    assert first.shape == (SAMPLES, 2)
    assert not torch.isclose(first, second).any()
    noise = first[:, 0] - torch.arange(SAMPLES)
    assert bool((noise > 0).all())
    assert bool((noise < 3).all())


@pytest.mark.parametrize("workers", [0, 2])
def test_draws_are_those_of_torchs_loader(sampled, workers):
    made = []
    for kind in (DataLoader, ReferenceLoader):
        seed()
        made.append(list(kind(sampled, BATCH, shuffle=True, num_workers=workers)))
    for theirs, ours in zip(*made, strict=True):
        assert all(map(torch.equal, theirs, ours))


@pytest.mark.parametrize("workers", [0, 2])
def test_draws_of_batches_are_those_of_torchs_loader(workers):
    store = optimize(Plain(), transform=noisy, per="batch")
    seed()
    sampler = BatchSampler(RandomSampler(store), BATCH, drop_last=False)
    theirs = list(DataLoader(store, batch_size=None, sampler=sampler, num_workers=workers))
    seed()
    ours = list(ReferenceLoader(store, BATCH, shuffle=True, num_workers=workers))
    for their, our in zip(theirs, ours, strict=True):
        assert torch.equal(their[0], our[0])
        assert torch.equal(their[1], our[1])


def test_a_generator_makes_the_draws_of_workers_the_same(store):
    def epochs():
        loader = ReferenceLoader(store, BATCH, shuffle=True, num_workers=2, generator=torch.Generator().manual_seed(3))
        return [images(loader), images(loader)]

    first, second = epochs()
    assert not torch.equal(first, second)
    assert all(map(torch.equal, epochs(), [first, second]))


def test_workers_given_make_the_augmentation(store):
    def makers(**arguments):
        return {maker for _, _, made in ReferenceLoader(store, BATCH, **arguments) for maker in np.ravel(made).tolist()}

    assert makers() == {-1}
    assert makers(num_workers=2) == {0, 1}


class TestWithASeed:
    def loader(self, store, **arguments):
        return ReferenceLoader(store, **({"batch_size": BATCH, "seed": 5, "shuffle": True} | arguments))

    @pytest.mark.parametrize("workers", [0, 2])
    def test_draws_do_not_depend_on_the_number_of_workers(self, store, workers):
        here, there = self.loader(store), self.loader(store, num_workers=workers)
        for _ in range(2):
            assert torch.equal(images(here), images(there))

    @pytest.mark.parametrize(
        "before, after, delivered",
        [*((0, 0, delivered) for delivered in (0, 1, 3, 5, 6)), (0, 2, 5), (2, 0, 3), (2, 2, 6)],
    )
    def test_a_restart_goes_on_with_the_same_draws(self, store, delivered, before, after):
        whole = self.loader(store, num_workers=0)
        wanted = [images(whole), images(whole), images(whole)]
        broken = self.loader(store, num_workers=before)
        list(broken)
        batches = iter(broken)
        for _ in range(delivered):
            next(batches)
        state = broken.state_dict()
        batches.close()
        restarted = self.loader(store, num_workers=after)
        restarted.load_state_dict(state)
        if delivered < 6:
            assert torch.equal(images(restarted), wanted[1][delivered * BATCH :])
        assert torch.equal(images(restarted), wanted[2])

    def test_generators_of_the_training_go_on_as_without_it(self, store):
        loader = self.loader(store)
        seed()
        wanted = torch.rand(()), numpys(), random.random()  # noqa: S311
        seed()
        list(loader)
        assert (torch.rand(()), numpys(), random.random()) == wanted  # noqa: S311

    def test_samples_of_a_batch_draw_differently(self, sampled):
        loader = self.loader(sampled, shuffle=False)
        noise = images(loader)[:, 0] - torch.arange(SAMPLES)
        assert len(set(noise.tolist())) == SAMPLES

    def test_a_sample_that_comes_twice_is_drawn_twice(self, sampled):
        loader = self.loader(sampled, shuffle=None, sampler=[3] * 8)
        assert len(set(images(loader)[:, 0].tolist())) == 8

    def test_another_seed_draws_otherwise(self, store):
        fives, sixes = self.loader(store, shuffle=False), self.loader(store, shuffle=False, seed=6)
        assert not torch.isclose(images(fives), images(sixes)).any()

    def test_ranks_draw_differently(self, sampled):
        loaders = [self.loader(sampled, rank=rank, world_size=2, shuffle=False) for rank in range(2)]
        noise = [images(loader)[:, 0] - labels(loader) for loader in loaders]
        assert not torch.isclose(*noise).any()

    def test_single_samples_and_batches_of_the_callers_own_are_seeded(self, sampled):
        single = self.loader(sampled, batch_size=None)
        first = torch.stack([image for image, *_ in single])
        assert torch.equal(torch.stack([image for image, *_ in self.loader(sampled, batch_size=None)]), first)
        arguments = {"batch_size": 1, "shuffle": None, "batch_sampler": [[1, 2], [2, 3, 4]]}
        assert torch.equal(images(self.loader(sampled, **arguments)), images(self.loader(sampled, **arguments)))

    def test_samples_left_out_do_not_change_the_others(self):
        def picky(given):
            if given[1] in (2, 9):
                raise ValueError("bad")
            return noisy(given)

        picked = optimize(Plain(), transform=picky)
        loader = self.loader(picked, on_error="skip", error_limit=2, shuffle=False)
        wanted = images(self.loader(optimize(Plain(), transform=noisy), shuffle=False))
        came, which = zip(*((image, label) for image, label, _ in loader), strict=True)
        assert [skipped.index for skipped in loader.skipped] == [2, 9]
        assert torch.equal(torch.cat(came), wanted[torch.cat(which)])

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_restart_after_samples_were_left_out_goes_on_with_the_same_draws(self, workers):
        def picky(given):
            if given[1] in (2, 9):
                raise ValueError("bad")
            return noisy(given)

        def made():
            return self.loader(optimize(Plain(), transform=picky), on_error="skip", error_limit=2, num_workers=workers)

        wanted, broken, restarted = images(made()), made(), made()
        batches = iter(broken)
        for _ in range(3):
            next(batches)
        restarted.load_state_dict(broken.state_dict())
        batches.close()
        assert torch.equal(images(restarted), wanted[3 * BATCH :])

    @pytest.mark.parametrize("workers", [0, 2])
    def test_a_subset_goes_on_with_the_same_draws(self, store, workers):
        part = Subset(Subset(store, range(21, 1, -1)), np.arange(18))
        wanted = images(self.loader(part))
        broken, restarted = self.loader(part, num_workers=workers), self.loader(part)
        batches = iter(broken)
        next(batches)
        restarted.load_state_dict(broken.state_dict())
        batches.close()
        assert torch.equal(images(restarted), wanted[BATCH:])


def test_a_subset_is_augmented(store):
    part = Subset(Subset(store, range(3, 20)), [0, 5, 6])
    for arguments in WORKERS:
        with ReferenceLoader(part, 2, **arguments) as loader:
            assert labels(loader).tolist() == [3, 8, 9]


def test_a_collate_fn_gets_the_transformed_batch():
    store = optimize(Plain(), transform=lambda batch: batch[1] * 10, per="batch")
    assert next(iter(ReferenceLoader(store, 11, collate_fn=torch.Tensor.tolist))) == list(range(0, 110, 10))


def test_batches_cannot_leave_samples_out():
    store = optimize(Plain(), transform=noisy, per="batch")
    with pytest.raises(DataError) as refused:
        ReferenceLoader(store, BATCH, on_error="skip")
    assert str(refused.value) == (
        'expected a dataset of samples for on_error="skip", got one that transforms whole batches, of which no sample '
        'can be left out. Take per="sample", or catch the error inside transform.'
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_batch_can_be_had_after_a_transform_failed(workers):
    def picky(given):
        if given[1] == 2:
            raise ValueError("bad")
        return given

    batches = iter(ReferenceLoader(optimize(Plain(), transform=picky), BATCH, num_workers=workers))
    with pytest.raises(ValueError, match="bad"):
        next(batches)
    assert next(batches)[1].tolist() == [4, 5, 6, 7]
