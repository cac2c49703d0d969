"""What a sample's type carries comes with its batch, or is refused: for small and large samples alike."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pack_sequence
from torch.utils.data import DataLoader

from pytest_loaderperf import ReferenceLoader
from pytest_loaderperf.data import optimize
from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import Collate

SIZES = [1, 100, 20_000, 400_000]  # numbers a sample: below and above each size from which a batch is made another way


class Dict(dict):
    pass


class List(list):
    pass


class Named(namedtuple("Named", "x")):  # noqa: PYI024, SLOT002 its attributes are what is tested
    pass


@dataclass
class Data:
    x: torch.Tensor


class Tagged(OrderedDict):
    pass


class Boxes(torch.Tensor):
    pass


MAKE = {
    "dict": lambda x: Dict(x=x),
    "list": lambda x: List([x]),
    "namedtuple": Named,
    "dataclass": Data,
    "ordered dict": lambda x: Tagged(x=x),
    "nested": lambda x: {"a": Dict(x=x)},
}


def carrier(sample):
    return sample["a"] if type(sample) is dict else sample


class Samples:
    """Samples whose ``tag`` is their batch's number."""

    def __init__(self, make, size):
        self.make, self.size = make, size

    def __len__(self):
        return 12

    def __getitem__(self, index):
        sample = self.make(torch.full((self.size,), float(index)))
        carrier(sample).tag = index // 2
        return sample


@pytest.mark.parametrize(
    "arguments", [{"num_workers": 0}, {"num_workers": 2, "worker_kind": "threads"}, {"num_workers": 1}]
)
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_attributes_are_those_of_the_batchs_first_sample(make, arguments):
    for size in SIZES:
        with ReferenceLoader(Samples(make, size), batch_size=2, **arguments) as loader:
            batches = list(loader)
        assert [carrier(batch).tag for batch in batches] == list(range(6)), size
        assert {type(carrier(batch)) for batch in batches} == {type(carrier(make(torch.ones(1))))}, size


@pytest.mark.parametrize("size", SIZES)
def test_a_tuple_of_a_subclass_becomes_a_list_as_in_torch(size):
    class Pair(tuple):  # noqa: SLOT001
        pass

    samples = [Pair((torch.full((size,), float(i)),)) for i in range(6)]
    for loader_class in (DataLoader, ReferenceLoader):
        assert [type(batch) for batch in loader_class(samples, batch_size=2, num_workers=0)] == [list] * 3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "kinds",
    [(Dict, lambda x: {"x": x["x"]}), (Dict, lambda x: Tagged(x=x["x"]))],
    ids=["plain and subclass", "two subclasses"],
)
def test_containers_of_several_types_are_refused(size, kinds):
    samples = [kinds[i > 4]({"x": torch.full((size,), float(i))}) for i in range(6)]
    with pytest.raises(DataError, match="expected"):
        list(ReferenceLoader(samples, batch_size=2, num_workers=0))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mixed", [False, True])
def test_a_tensors_subclass_stays_and_is_not_mixed_with_others(size, mixed):
    samples = [torch.full((size,), float(i)) for i in range(6)]
    samples = [s if mixed and i < 5 else s.as_subclass(Boxes) for i, s in enumerate(samples)]
    loader = ReferenceLoader(samples, batch_size=2, num_workers=0)
    if mixed:
        with pytest.raises((DataError, TypeError)):
            list(loader)
    else:
        assert [type(batch) for batch in loader] == [Boxes] * 3


@pytest.mark.parametrize("shape", [(), (3,), (20_000,), (2_000_000,)])
def test_a_gradient_is_never_lost_in_a_batch(shape):
    plain, with_gradient = torch.ones(shape), torch.ones(shape, requires_grad=True)
    assert Collate()([with_gradient, with_gradient]).requires_grad
    for samples in ([plain, with_gradient], [with_gradient, plain]):
        with suppress(DataError, TypeError):
            assert Collate()(samples).requires_grad
        with pytest.raises(DataError):
            list(ReferenceLoader([plain, plain, plain, with_gradient], batch_size=2, num_workers=0))


@pytest.mark.parametrize("length", [2, 30_000])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_packed_sequences_are_refused_as_torch_does(length, num_workers):
    packed = pack_sequence([torch.ones(length), torch.ones(1)])
    for loader_class in (DataLoader, ReferenceLoader):
        for samples in ([packed] * 4, [{"x": packed}] * 4):
            with pytest.raises(TypeError):
                list(loader_class(samples, batch_size=2, num_workers=num_workers))


@pytest.mark.parametrize("make", [MAKE["dict"], MAKE["list"], MAKE["namedtuple"], MAKE["dataclass"], MAKE["nested"]])
def test_samples_with_attributes_are_not_pre_loaded(make):
    with pytest.raises(DataError, match="with attributes of its own, which arrays would lose"):
        optimize(Samples(make, 3))


def test_a_field_that_is_a_tensors_subclass_is_refused_by_name():
    with pytest.raises(DataError, match="field 'x': expected a plain tensor, got Boxes"):
        ReferenceLoader({"x": torch.ones(4).as_subclass(Boxes), "y": np.ones(4)})


@pytest.mark.parametrize("make", [lambda: iter([1, 0]), lambda: {0, 1}, lambda: (n for n in (0, 1))])
@pytest.mark.parametrize("arguments", [{"num_workers": 0}, {"num_workers": 2, "worker_kind": "threads"}])
def test_indices_may_be_any_iterable_also_for_large_samples(make, arguments):
    samples = [torch.full((40_000,), float(i)) for i in range(2)]
    with ReferenceLoader(samples, batch_sampler=[[0, 1], [1, 0], make(), make()], **arguments) as loader:
        assert [sorted(batch[:, 0].tolist()) for batch in loader] == [[0, 1]] * 4
