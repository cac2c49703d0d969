"""What torch's default collate function and default_convert make of samples of every kind."""

from __future__ import annotations

from collections import OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from collections.abc import Mapping, MutableMapping, Sequence
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

Point = namedtuple("Point", ["x", "y"])  # noqa: PYI024 the kind that has no types
Pair = namedtuple("Pair", ["point", "name"])  # noqa: PYI024 likewise


class Named(dict):
    """A dict with an attribute."""

    name = "none"


class Labelled(list):
    """A list with an attribute."""

    name = "none"


class Frozen(Mapping):
    """A mapping that is made from a dict and cannot be changed."""

    def __init__(self, parts):
        self._parts = dict(parts)

    def __getitem__(self, key):
        return self._parts[key]

    def __iter__(self):
        return iter(self._parts)

    def __len__(self):
        return len(self._parts)


class Closed(Frozen):
    """A mapping that cannot be made from a dict."""

    def __init__(self, x, y):
        super().__init__({"x": x, "y": y})


class Store(Frozen, MutableMapping):
    """A mapping of the user's own, with an attribute."""

    name = "none"

    def __setitem__(self, key, value):
        self._parts[key] = value

    def __delitem__(self, key):
        del self._parts[key]

    def __copy__(self):
        twin = Store(self._parts)
        twin.name = self.name
        return twin


class Row(Sequence):
    """A sequence that is made from a list and cannot be changed."""

    def __init__(self, parts):
        self._parts = list(parts)

    def __getitem__(self, index):
        return self._parts[index]

    def __len__(self):
        return len(self._parts)


class Tagged(torch.Tensor):
    """A tensor of the user's own kind."""


class Opaque:
    """Nothing that torch knows of."""


def named(kind, parts, name):
    made = kind(parts)
    made.name = name
    return made


def tensor(*values, dtype=None):
    return torch.tensor(values, dtype=dtype)


def plain(value):
    """The value with types, dtypes and shapes spelled out, for comparison by ==."""
    if isinstance(value, torch.Tensor):
        return type(value), value.dtype, tuple(value.shape), value.tolist()
    if isinstance(value, Mapping):
        return type(value), [(key, plain(value[key])) for key in value], getattr(value, "name", None)
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return type(value), [plain(part) for part in value], getattr(value, "name", None)
    return type(value), value


def batch_of(loader_class, samples, **arguments):
    return next(iter(loader_class(samples, batch_size=len(samples), num_workers=0, **arguments)))


f8, i8 = torch.float64, torch.int64

COLLATED = {
    "ints": ([1, 2, -1], tensor(1, 2, -1, dtype=i8)),
    "floats": ([1.1, 2.3], tensor(1.1, 2.3, dtype=f8)),
    "bools": ([True, False], tensor(True, False)),
    "strings": (["a", "bc"], ["a", "bc"]),
    "bytes": ([b"a", b"bc"], [b"a", b"bc"]),
    "NumPy strings": ([np.str_("a"), np.str_("b")], [np.str_("a"), np.str_("b")]),
    "tensors": ([torch.ones(2, 3), torch.zeros(2, 3)], torch.stack([torch.ones(2, 3), torch.zeros(2, 3)])),
    "tensors without dimensions": ([torch.tensor(1), torch.tensor(2)], tensor(1, 2)),
    "tensors without elements": ([torch.empty(0, 3)] * 2, torch.empty(2, 0, 3)),
    "tensors with gaps": ([torch.arange(6).reshape(2, 3).T] * 2, torch.tensor([[[0, 3], [1, 4], [2, 5]]] * 2)),
    "bfloat16": ([torch.ones(2, dtype=torch.bfloat16)] * 2, torch.ones(2, 2, dtype=torch.bfloat16)),
    "arrays": ([np.ones((2, 2), np.float32)] * 3, torch.ones(3, 2, 2)),
    "arrays without dimensions": ([np.array(3), np.array(4)], tensor(3, 4)),
    "arrays of bools": ([np.array([True]), np.array([False])], torch.tensor([[True], [False]])),
    "arrays in Fortran's order": (
        [np.asfortranarray(np.arange(6).reshape(2, 3))] * 2,
        torch.arange(6).reshape(2, 3).expand(2, 2, 3),
    ),
    "tuples": ([(1, 2.0), (3, 4.0)], [tensor(1, 3), tensor(2.0, 4.0, dtype=f8)]),
    "tuples with strings": ([("a", 1), ("b", 2)], [("a", "b"), tensor(1, 2)]),
    "lists": ([[1, 2], [3, 4]], [tensor(1, 3), tensor(2, 4)]),
    "empty lists": ([[], []], []),
    "dicts": ([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], {"a": tensor(1, 2), "b": ["x", "y"]}),
    "dicts in another order": ([{"a": 1, "b": 2}, {"b": 4, "a": 3}], {"a": tensor(1, 3), "b": tensor(2, 4)}),
    "empty dicts": ([{}, {}], {}),
    "nested": (
        [{"a": [1, (torch.ones(1), {"b": np.float32(2)})]}] * 2,
        {"a": [tensor(1, 1), [torch.ones(2, 1), {"b": tensor(2.0, 2.0)}]]},
    ),
    "namedtuples": ([Point(1, 2.0), Point(3, 4.0)], Point(tensor(1, 3), tensor(2.0, 4.0, dtype=f8))),
    "nested namedtuples": (
        [Pair(Point(1, 2), "a"), Pair(Point(3, 4), "b")],
        Pair(Point(tensor(1, 3), tensor(2, 4)), ("a", "b")),
    ),
    "OrderedDicts": ([OrderedDict(b=1, a=2)] * 2, OrderedDict(b=tensor(1, 1), a=tensor(2, 2))),
    "defaultdicts": ([defaultdict(list, a=1)] * 2, defaultdict(list, a=tensor(1, 1))),
    "UserDicts": ([UserDict(a=1), UserDict(a=2)], UserDict(a=tensor(1, 2))),
    "dicts with attributes": (
        [named(Named, {"a": 1}, "first"), named(Named, {"a": 2}, "second")],
        named(Named, {"a": tensor(1, 2)}, "first"),
    ),
    "mutable mappings with attributes": (
        [named(Store, {"a": 1}, "first"), named(Store, {"a": 2}, "second")],
        named(Store, {"a": tensor(1, 2)}, "first"),
    ),
    "immutable mappings": ([Frozen({"a": 1}), Frozen({"a": 2})], Frozen({"a": tensor(1, 2)})),
    "mapping proxies": ([MappingProxyType({"a": 1})] * 2, MappingProxyType({"a": tensor(1, 1)})),
    "mappings that no dict makes": ([Closed(1, 2), Closed(3, 4)], {"x": tensor(1, 3), "y": tensor(2, 4)}),
    "lists with attributes": (
        [named(Labelled, [1], "first"), named(Labelled, [2], "second")],
        named(Labelled, [tensor(1, 2)], "first"),
    ),
    "UserLists": ([UserList([1, 2]), UserList([3, 4])], UserList([tensor(1, 3), tensor(2, 4)])),
    "deques": ([deque([1, 2]), deque([3, 4])], deque([tensor(1, 3), tensor(2, 4)])),
    "immutable sequences": ([Row([1, 2]), Row([3, 4])], Row([tensor(1, 3), tensor(2, 4)])),
    "ranges": ([range(2), range(2)], [tensor(0, 0), tensor(1, 1)]),
    "subclasses of tensor": (
        [torch.ones(2).as_subclass(Tagged)] * 2,
        torch.ones(2, 2).as_subclass(Tagged),
    ),
}

CONVERTED = {
    "int": (3, 3),
    "float": (2.5, 2.5),
    "bool": (True, True),
    "None": (None, None),
    "string": ("word", "word"),
    "bytes": (b"word", b"word"),
    "NumPy string": (np.str_("word"), np.str_("word")),
    "tensor": (torch.ones(2), torch.ones(2)),
    "array": (np.ones(2, np.float32), torch.ones(2)),
    "NumPy number": (np.float32(2), torch.tensor(2.0)),
    "tuple": ((1, np.ones(1)), [1, torch.ones(1, dtype=f8)]),
    "list": ([np.ones(1), "a"], [torch.ones(1, dtype=f8), "a"]),
    "dict": ({"a": np.ones(1), "b": 2}, {"a": torch.ones(1, dtype=f8), "b": 2}),
    "namedtuple": (Point(np.ones(1), 2), Point(torch.ones(1, dtype=f8), 2)),
    "dict with an attribute": (
        named(Named, {"a": np.ones(1)}, "own"),
        named(Named, {"a": torch.ones(1, dtype=f8)}, "own"),
    ),
    "immutable mapping": (Frozen({"a": np.ones(1)}), Frozen({"a": torch.ones(1, dtype=f8)})),
    "mapping that no dict makes": (Closed(1, 2), {"x": 1, "y": 2}),
    "list with an attribute": (named(Labelled, [1, 2], "own"), named(Labelled, [1, 2], "own")),
    "immutable sequence": (Row([np.ones(1)]), Row([torch.ones(1, dtype=f8)])),
    "range": (range(2), [0, 1]),
}

NUMPY_DTYPES = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]


@pytest.mark.parametrize("samples, batch", COLLATED.values(), ids=COLLATED)
def test_samples_are_collated_as_torch_does_it(loader_class, samples, batch):
    assert plain(batch_of(loader_class, samples)) == plain(batch)


@pytest.mark.parametrize("kind", ["tuples with strings", "nested", "namedtuples", "immutable sequences", "dicts"])
def test_workers_collate_the_same(loader_class, kind):
    samples, batch = COLLATED[kind]
    (got,) = loader_class(samples, batch_size=len(samples), num_workers=1)
    assert plain(got) == plain(batch)


@pytest.mark.parametrize("sample, converted", CONVERTED.values(), ids=CONVERTED)
def test_without_a_batch_size_a_sample_is_only_converted(loader_class, sample, converted):
    (got,) = loader_class([sample], batch_size=None, num_workers=0)
    assert plain(got) == plain(converted)


@pytest.mark.parametrize("content", [["a", "b"], [b"a"], [Opaque()]], ids=["strings", "bytes", "objects"])
def test_without_a_batch_size_an_array_that_no_tensor_can_hold_stays(loader_class, content):
    array = np.array(content)
    (got,) = loader_class([array], batch_size=None, num_workers=0)
    assert got is array


@pytest.mark.parametrize("name", NUMPY_DTYPES)
def test_numpy_numbers_and_arrays_keep_their_dtype(loader_class, name):
    dtype, expected = np.dtype(name), getattr(torch, name)
    for samples in ([dtype.type(1)] * 3, [np.ones(2, dtype)] * 3):
        batch = batch_of(loader_class, samples)
        assert batch.dtype is expected
        assert batch.flatten().tolist() == [1] * batch.numel()


def test_rows_of_a_memory_map_are_collated(loader_class, tmp_path):
    rows = np.arange(8).reshape(4, 2)
    written = np.memmap(tmp_path / "rows", dtype=rows.dtype, mode="w+", shape=rows.shape)
    written[:] = rows
    written.flush()
    mapped = np.memmap(tmp_path / "rows", dtype=rows.dtype, mode="c", shape=rows.shape)
    batches = list(loader_class(list(mapped), batch_size=3, num_workers=0))
    assert [batch.tolist() for batch in batches] == [[[0, 1], [2, 3], [4, 5]], [[6, 7]]]
    assert torch.cat(batches).dtype is torch.int64


def test_a_batch_of_tensors_that_require_gradients_passes_them_on(loader_class):
    weights = torch.arange(4.0, requires_grad=True)
    for samples in (list(weights), weights):
        weights.grad = None
        batch_of(loader_class, samples).sum().backward()
        assert weights.grad.tolist() == [1, 1, 1, 1]


def test_lists_of_unequal_length_cannot_be_collated(loader_class, raised):
    for samples in ([["a"], ["a", "b"]], [["a", "b"], ["a"]]):
        assert isinstance(raised(lambda some=samples: batch_of(loader_class, some)), RuntimeError)


def test_sparse_tensors_cannot_be_collated(loader_class, raised):
    error = raised(lambda: batch_of(loader_class, [torch.eye(2).to_sparse()] * 2))
    assert isinstance(error, RuntimeError)
    assert "Batches of sparse tensors are not currently supported by the default collate_fn" in str(error)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_nested_tensors_cannot_be_collated_but_pass_through_a_collate_fn(loader_class, raised, num_workers):
    dataset = [torch.nested.nested_tensor([torch.arange(3.0)]) for _ in range(2)]
    arguments = {"num_workers": num_workers, "persistent_workers": False}
    error = raised(lambda: list(loader_class(dataset, **arguments)))
    assert isinstance(error, RuntimeError)
    assert "Batches of nested tensors are not currently supported by the default collate_fn" in str(error)
    batches = list(loader_class(dataset, collate_fn=lambda samples: [one.clone() for one in samples], **arguments))
    assert [one.unbind()[0].tolist() for batch in batches for one in batch] == [[0, 1, 2]] * 2


def test_a_type_registered_with_torchs_collate_function_is_collated_by_it(loader_class, monkeypatch):
    def collate_opaque(samples, *, collate_fn_map=None):
        return f"{len(samples)} opaque"

    monkeypatch.setitem(default_collate_fn_map, Opaque, collate_opaque)
    assert batch_of(loader_class, [Opaque(), Opaque()]) == "2 opaque"
    assert batch_of(loader_class, [{"a": Opaque(), "b": 1}]) == {"a": "1 opaque", "b": torch.tensor([1])}


@pytest.mark.parametrize("samples, batch", COLLATED.values(), ids=COLLATED)
def test_the_loaders_collate_fn_may_be_called_by_itself(loader_class, samples, batch):
    assert plain(loader_class([0], num_workers=0).collate_fn(samples)) == plain(batch)


def test_torchs_default_collate_may_be_given(loader_class):
    loader = loader_class([(1, "a"), (2, "b")], batch_size=2, num_workers=0, collate_fn=default_collate)
    assert plain(next(iter(loader))) == plain([tensor(1, 2), ("a", "b")])


def test_a_sample_is_not_changed_by_being_collated(loader_class):
    samples = [named(Named, {"a": 1, "b": [1]}, "first"), named(Named, {"a": 2, "b": [2]}, "second")]
    before = plain(samples)
    batch_of(loader_class, samples)
    assert plain(samples) == before
