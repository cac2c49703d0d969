from __future__ import annotations

from array import array
from collections import OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

from pytest_loaderperf.data.arrays.fields import Field
from pytest_loaderperf.loader.collate import Collate
from tests.torch_versions import newer_torch


class Point(NamedTuple):
    x: Any
    y: Any


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Subclass(np.ndarray):
    """An array that does not let NumPy's functions near it, as those with units do."""

    def __array_function__(self, *how):
        raise AssertionError


class Tagged(UserDict):
    """A mapping with more than its items."""

    tag = ""


class Frozen(Mapping):
    def __init__(self, items):
        self.items_ = dict(items)

    def __getitem__(self, key):
        return self.items_[key]

    def __iter__(self):
        return iter(self.items_)

    def __len__(self):
        return len(self.items_)


class Stubborn(Frozen):
    """A mapping that cannot be made from one."""

    def __init__(self, first, second):
        super().__init__({first: second})


class Row(Sequence):
    def __init__(self, parts):
        self.parts = list(parts)

    def __getitem__(self, index):
        return self.parts[index]

    def __len__(self):
        return len(self.parts)


def plain(value: Any) -> Any:
    """Types, dtypes, shapes and bytes, comparable by ``==``."""
    if isinstance(value, torch.Tensor):
        data = value.detach().resolve_conj().flatten().view(torch.uint8)
        return type(value), value.dtype, tuple(value.shape), value.requires_grad, data.tolist()
    if isinstance(value, Mapping):
        return type(value), [(key, plain(value[key])) for key in value]
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return type(value), [plain(part) for part in value]
    return type(value), value


class Buffers:
    """An ``allocate`` that remembers what it was asked for and gave."""

    def __init__(self) -> None:
        self.calls: list[list[Field]] = []
        self.arrays: list[np.ndarray] = []

    def __call__(self, fields: Sequence[Field], rows: int) -> list[np.ndarray]:
        self.calls.append(list(fields))
        self.arrays = [np.full((rows, *field.shape), 7).astype(field.dtype) for field in fields]
        return self.arrays


@pytest.fixture(params=["fresh", "allocated"])
def collated(request):
    """Collate samples into fresh memory, or into buffers."""

    def collated(samples, **how):
        return Collate(**how)(samples, Buffers() if request.param == "allocated" else None)

    return collated


NUMPY_DTYPES = "?bhilqBHIfdeFD"
TORCH_DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.float32,
    torch.float64, torch.bfloat16, torch.complex64, torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn,
]  # fmt: skip
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)


def numbers(rng, shape, dtype):
    return np.asarray(rng.integers(0, 2 if dtype == "?" else 100, shape)).astype(dtype)


def tensor(rng, shape, dtype):
    return torch.from_numpy(numbers(rng, shape, "f")).to(dtype)


# Each leaf and container is a function from a random generator to a sample's part.
LEAVES = st.one_of(
    st.just(lambda rng: int(rng.integers(-9, 9))),
    st.just(lambda rng: float(rng.random())),
    st.just(lambda rng: bool(rng.integers(2))),
    st.just(lambda rng: Level(int(rng.integers(1, 3)))),
    st.just(lambda rng: "ab"[: rng.integers(3)]),
    st.just(lambda rng: b"ab"[: rng.integers(3)]),
    st.sampled_from(NUMPY_DTYPES).map(lambda dtype: lambda rng: numbers(rng, (), dtype)[()]),
    st.tuples(SHAPES, st.sampled_from(NUMPY_DTYPES + "L")).map(lambda how: lambda rng: numbers(rng, *how)),
    st.tuples(SHAPES, st.sampled_from(TORCH_DTYPES)).map(lambda how: lambda rng: tensor(rng, *how)),
)
KEYS = st.one_of(st.text("ab", max_size=2), st.integers(0, 3), st.tuples(st.integers(0, 1)))
CONTAINERS = [tuple, list, UserList, Row, deque, lambda parts: Point(parts[0], list(parts[1:]))]
MAPPINGS = [dict, OrderedDict, UserDict, Frozen, MappingProxyType]


def containers(parts):
    return st.one_of(
        st.tuples(st.sampled_from(CONTAINERS), st.lists(parts, min_size=1, max_size=3)).map(
            lambda how: lambda rng: how[0]([part(rng) for part in how[1]])
        ),
        st.tuples(st.sampled_from(MAPPINGS), st.dictionaries(KEYS, parts, max_size=3)).map(
            lambda how: lambda rng: how[0]({key: part(rng) for key, part in how[1].items()})
        ),
    )


@newer_torch
@settings(deadline=None)
@given(make=st.recursive(LEAVES, containers, max_leaves=8), count=st.integers(1, 4), seed=st.integers(0, 99))
def test_batches_are_those_of_torch(make, count, seed):
    rng = np.random.default_rng(seed)
    samples = [make(rng) for _ in range(count)]
    expected = plain(default_collate(samples))
    assert plain(Collate()(samples)) == expected
    assert plain(Collate()(tuple(samples), Buffers())) == plain(default_collate(tuple(samples)))
    for ragged in ("pad", "list"):
        assert plain(Collate(ragged)(samples)) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda i: range(i, i + 2),
        lambda i: array("i", [i, i]),
        lambda i: bytearray([i, 2]),
        lambda i: torch.Size([i, 2]),
        lambda i: defaultdict(int, a=i),
        lambda i: Stubborn("a", i),
        lambda i: (),
        lambda i: {},
        lambda i: np.ma.masked_array([i, 2]),
        lambda i: np.array([i, 2]).view(Subclass),
        lambda i: torch.nn.Parameter(torch.full((2,), float(i))),
        lambda i: torch.full((2,), float(i), requires_grad=True),
        lambda i: torch.full((), float(i), requires_grad=True),
        lambda i: torch.full((2,), i * 1j).conj(),
        lambda i: torch.full((), i * 1j).conj(),
        lambda i: torch.full((2, 3), i)[:, ::2].T,
        lambda i: np.full((2, 3), i)[:, ::2].T,
        lambda i: (np.full(3, i), None if i > 9 else "text"),
        lambda i: torch.tensor(2**64 - 1 - i, dtype=torch.uint64),
    ],
)
def test_batches_of_rare_parts_are_those_of_torch(make, collated):
    samples = [make(i) for i in range(1, 4)]
    assert plain(collated(samples)) == plain(default_collate(samples))


def test_samples_may_come_in_any_sequence():
    rows = np.arange(6.0).reshape(3, 2)
    assert plain(Collate()(rows)) == plain(default_collate(rows))
    assert plain(Collate()(deque([1, 2]))) == plain(default_collate(deque([1, 2])))
    assert Collate()(torch.arange(3)).tolist() == [0, 1, 2]


def test_a_custom_mapping_keeps_what_else_the_first_sample_holds(collated):
    samples = [Tagged(a=1), Tagged(a=2)]
    samples[0].tag = "first"
    batch = collated(samples)
    assert (type(batch), batch.tag, batch["a"].tolist()) == (Tagged, "first", [1, 2])
    assert samples[0]["a"] == 1


def test_scalars_of_one_dtype_may_be_of_several_types(collated):
    assert plain(collated([1.5, np.float64(2.5)])) == plain(torch.tensor([1.5, 2.5], dtype=torch.float64))
    assert plain(collated([np.int64(1), Level.HIGH, 3])) == plain(torch.tensor([1, 2, 3]))


def test_what_torch_does_not_take_is_taken(collated):
    assert plain(collated([np.array([1, 2], ">i2")] * 2)) == plain(torch.tensor([[1, 2]] * 2, dtype=torch.int16))
    assert plain(collated([np.array(1, ">f4")] * 2)) == plain(torch.ones(2))
    assert plain(collated([np.ones(2, np.ulonglong)] * 2)) == plain(torch.ones((2, 2), dtype=torch.uint64))
    assert plain(collated([np.uint64(2**64 - 1)])) == plain(torch.tensor([2**64 - 1], dtype=torch.uint64))
    assert plain(collated([1j, 2j])) == plain(torch.tensor([1j, 2j], dtype=torch.complex128))


def test_none_and_unknown_objects_are_listed(collated):
    a, b = object(), object()
    assert collated([None, None]) == [None, None]
    assert collated([(a, 1), (b, 2)])[0] == (a, b)
    assert collated([{"a": None}, {"a": "text"}, {"a": b}]) == {"a": [None, "text", b]}
    assert collated([Level, Point]) == [Level, Point]
    moments = [np.datetime64("2020-01-01"), np.datetime64("2021-01-01")]
    assert collated(moments) == moments


@pytest.mark.parametrize("dtype", ["O", "U3", "S3", "M8[s]", "g"])
def test_arrays_that_no_tensor_holds_are_refused_as_torch_does(dtype, collated):
    samples = [np.zeros(2, dtype)] * 2
    with pytest.raises(TypeError) as theirs:
        default_collate(samples)
    with pytest.raises(TypeError) as ours:
        collated(samples)
    assert str(ours.value) == str(theirs.value)


def test_sparse_and_nested_tensors_are_refused_as_torch_does(collated):
    for sample in (torch.eye(2).to_sparse(), torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged)):
        with pytest.raises(RuntimeError) as theirs:
            default_collate([sample, sample])
        with pytest.raises(RuntimeError) as ours:
            collated([sample, sample])
        assert str(ours.value) == str(theirs.value)
        assert type(ours.value) is RuntimeError


def test_a_memmap_is_an_array(tmp_path, collated):
    rows = np.memmap(tmp_path / "rows", np.int32, "w+", shape=(3, 2))
    rows[:] = [[1, 2], [3, 4], [5, 6]]
    assert plain(collated(list(rows))) == plain(torch.tensor([[1, 2], [3, 4], [5, 6]], dtype=torch.int32))
    assert collated([rows[0], np.array([7, 8], np.int32)]).tolist() == [[1, 2], [7, 8]]


def test_batches_share_no_memory_with_samples(collated):
    rows = [np.zeros(2), np.zeros(2)]
    tensors = [torch.zeros(2), torch.zeros(2)]
    for batch in (collated(rows), collated(tensors)):
        batch.fill_(1)
    assert not any(map(np.any, rows + [row.numpy() for row in tensors]))


class TestHandlers:
    """A user's own handlers, which torch calls an extension of default_collate."""

    @pytest.mark.parametrize(
        "kind, sample",
        [(np.ndarray, np.zeros(2)), (torch.Tensor, torch.zeros(2)), (int, 1), (dict, {}), (object, None)],
    )
    def test_are_honoured_as_soon_as_they_are_there(self, monkeypatch, kind, sample, collated):
        collate = Collate()
        before = plain(collate([sample]))

        def handler(batch, *, collate_fn_map):
            assert collate_fn_map is default_collate_fn_map
            return "handled", batch

        with monkeypatch.context() as patched:
            patched.setitem(default_collate_fn_map, kind, handler)
            assert collate([sample], Buffers()) == ("handled", [sample])
            assert collate.fields(sample) is None
        assert plain(collate([sample])) == before

    def test_keep_their_own_errors(self, monkeypatch):
        def handler(batch, *, collate_fn_map):
            raise KeyError("mine")

        monkeypatch.setitem(default_collate_fn_map, Row, handler)
        with pytest.raises(KeyError, match="mine"):
            Collate()([Row([1]), Row([2, 3])])


@dataclass
class Image:
    pixels: Any
    label: int
    area: int = field(init=False)

    def __post_init__(self):
        self.area = self.pixels.size if isinstance(self.pixels, np.ndarray) else -1


@dataclass(frozen=True, slots=True)
class Pair:
    left: Any
    right: Any


def test_dataclasses_are_made_of_batches(collated):
    batch = collated([Pair(Image(np.full((2, 2), i), i), {"name": str(i)}) for i in range(2)])
    assert type(batch) is Pair
    assert type(batch.left) is Image
    assert batch.left.pixels.tolist() == [[[0, 0], [0, 0]], [[1, 1], [1, 1]]]
    assert plain(batch.left.label) == plain(torch.tensor([0, 1]))
    assert plain(batch.left.area) == plain(torch.tensor([4, 4]))
    assert batch.right == {"name": ["0", "1"]}
