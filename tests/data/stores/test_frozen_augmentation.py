"""optimize() warns of a dataset that draws at random, for it keeps one draw for all epochs."""

from __future__ import annotations

import random
import time
import warnings

import numpy as np
import pytest
import torch

import pytest_loaderperf
from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.stores import preload
from pytest_loaderperf.errors import FrozenAugmentationWarning

numpys = np.random.rand
pythons = random.random
PATIENCE_S = 30  # far beyond what a busy machine needs; only a failure waits so long


class Made:
    """A dataset of ``make(i)``, which notes what was asked for."""

    def __init__(self, make, samples=20):
        self.make, self.samples, self.asked = make, samples, []

    def __len__(self):
        return self.samples

    def __getitem__(self, index):
        if not 0 <= index < self.samples:
            raise IndexError(index)
        self.asked.append(index)
        return self.make(index)


OWN = np.random.default_rng(0)
REUSED = torch.zeros(3)
DRAWS = {
    "torch": lambda i: torch.rand(3),
    "NumPy": lambda i: numpys(3),
    "Python": lambda i: pythons(),
    "a generator of its own": lambda i: OWN.random(3),
    "a flip every second time": lambda i: torch.arange(3).flip(0) if pythons() < 0.5 else torch.arange(3),
    "noise on a label alone": lambda i: (torch.zeros(3), int(torch.randint(1 << 40, ()))),
    "a dict with NaN": lambda i: {"x": torch.full((2,), torch.nan), "y": torch.rand(1)},
    "bfloat16": lambda i: torch.rand(8).to(torch.bfloat16),
    "a number in bfloat16": lambda i: torch.rand(()).to(torch.bfloat16),
    "complex": lambda i: torch.randn(2, dtype=torch.complex64),
    "a tensor that is reused": lambda i: REUSED.uniform_(),
}
CONSTANT = {
    "numbers": lambda i: torch.arange(3.0) + i,
    "NaN": lambda i: torch.tensor([torch.nan, -0.0, i]),
    "NaN in NumPy": lambda i: {"x": np.array([np.nan, i], np.float16)},
    "NaN in bfloat16": lambda i: torch.tensor([torch.nan, i], dtype=torch.bfloat16),
    "a number in bfloat16": lambda i: torch.tensor(i, dtype=torch.bfloat16),
    "NaN in complex": lambda i: torch.tensor([complex(torch.nan, 1), i]),
    "NaN with other bits": lambda i: np.array([[np.nan, -np.nan][pythons() < 0.5], i]),
    "ints and bools": lambda i: (i, i % 2 == 0, [np.uint8(i)]),
    "empty": lambda i: torch.zeros(0, 2),
}


@pytest.fixture(autouse=True)
def _all_probed(monkeypatch):
    monkeypatch.setattr(preload, "PROBE_S", PATIENCE_S)
    for library in (random.seed, np.random.seed, torch.manual_seed):
        library(0)


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("make", DRAWS.values(), ids=DRAWS)
def test_a_dataset_that_draws_is_warned_of(make, background):
    with pytest.warns(FrozenAugmentationWarning) as warned:
        optimize(Made(make), background=background).close()
    assert len(warned) == 1
    assert warned[0].filename == __file__


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("make", CONSTANT.values(), ids=CONSTANT)
def test_a_dataset_that_does_not_is_not(make, background):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimize(Made(make), background=background).wait()


def test_the_warning_says_what_differed_and_what_to_write():
    with pytest.warns(FrozenAugmentationWarning) as warned:
        optimize(Made(lambda i: {"x": i, "y": torch.rand(1)}))
    assert str(warned[0].message) == (
        "expected two reads of sample 0 to be equal, got a different ['y']: optimize() reads each sample once and "
        "keeps it, so random augmentation inside the dataset would be the same in every epoch. Move the random "
        "augmentation to optimize(dataset, transform=augment), which calls it every time. If one draw for all epochs "
        "is intended, ignore pytest_loaderperf.FrozenAugmentationWarning."
    )


def test_a_second_read_of_another_size_is_warned_of():
    shapes = iter([3, 2, *[3] * 30])
    with pytest.warns(FrozenAugmentationWarning):
        optimize(Made(lambda i: torch.zeros(next(shapes)) + i))


def test_a_draw_for_some_samples_alone_is_seen():
    with pytest.warns(FrozenAugmentationWarning, match="sample 5"):
        optimize(Made(lambda i: torch.rand(1) if i == 5 else torch.zeros(1)))


def test_it_can_be_silenced_by_its_class():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", pytest_loaderperf.FrozenAugmentationWarning)
        assert len(optimize(Made(lambda i: torch.rand(1)))) == 20


def test_what_is_kept_and_drawn_afterwards_is_as_without_a_second_read():
    def make(index):
        return torch.tensor([torch.rand(()).item(), numpys(), pythons()])

    def drawn():
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(7)

    drawn()
    wanted = [make(i) for i in range(20)]
    after = make(0)
    drawn()
    with pytest.warns(FrozenAugmentationWarning):
        store = optimize(Made(make))
    assert all(torch.equal(store[i], wanted[i]) for i in range(20))
    assert torch.equal(make(0), after)


def test_what_is_costly_to_read_is_read_once_more(monkeypatch):
    monkeypatch.setattr(preload, "PROBE_S", 0.005)
    dataset = Made(lambda i: (time.sleep(0.01), torch.full((1,), i))[1], 4)
    optimize(dataset)
    assert sorted(dataset.asked) == [0, 0, 1, 2, 3]


def test_a_dataset_that_is_read_quickly_is_asked_for_a_few_samples_more():
    dataset = Made(lambda i: i, 1000)
    optimize(dataset)
    assert len(dataset.asked) == 1000 + preload.PROBED


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("samples", [1, 3])
def test_further_reads_of_few_samples_draw_anew(samples, background):
    with pytest.warns(FrozenAugmentationWarning):
        optimize(Made(DRAWS["a flip every second time"], samples), background=background).close()


def test_a_sample_that_can_be_read_only_once_is_kept():
    left = dict.fromkeys(range(20))
    store = optimize(Made(lambda i: (left.pop(i), i)[1]))
    assert store[[0, 19]].tolist() == [0, 19]


def test_an_error_of_a_sample_comes_out_as_before():
    with pytest.raises(ZeroDivisionError, match="division") as failed:
        optimize(Made(lambda i: 1 // (i - 3)))
    assert failed.value.__notes__ == ["raised in stage pre-load, for sample 3"]


def test_in_the_background_only_the_first_sample_is_read_before_optimize_returns():
    dataset = Made(lambda i: (i < 1 or time.sleep(0.2)) and i, 2)
    store = optimize(dataset, background=True)
    before = list(dataset.asked)
    store.close()
    assert before[:9] == [0] * 9
