from __future__ import annotations

import pickle
import threading
import tracemalloc
from collections import UserDict
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, default_collate, get_worker_info

from pytest_loaderperf.data.arrays.fields import Field
from pytest_loaderperf.data.arrays.structure import SampleMismatchError, rebuilder
from pytest_loaderperf.loader import collate as collate_module
from pytest_loaderperf.loader.collate import Collate, vectorized_collate

ROWS = 8


class Point(NamedTuple):
    x: Any
    y: Any


def sample(i):
    return {
        "array": np.full((2, 3), i, np.float32),
        "tensor": torch.full((4,), i, dtype=torch.bfloat16),
        "numbers": (i, i / 2, i % 2 == 0, np.uint8(i)),
        "single": [np.array(i), torch.tensor(float(i))],
        "point": Point(np.full(2, i, ">i4"), torch.full((1, 2), i).T),
    }


FIELDS = [
    Field("['array']", (2, 3), np.dtype(np.float32), None),
    Field("['tensor']", (4,), np.dtype(np.uint16), torch.bfloat16),
    Field("['numbers'][0]", (), np.dtype(np.int64), None),
    Field("['numbers'][1]", (), np.dtype(np.float64), None),
    Field("['numbers'][2]", (), np.dtype(np.bool_), None),
    Field("['numbers'][3]", (), np.dtype(np.uint8), None),
    Field("['single'][0]", (), np.dtype(np.int64), None),
    Field("['single'][1]", (), np.dtype(np.float32), None),
    Field("['point'].x", (2,), np.dtype(np.int32), None),
    Field("['point'].y", (2, 1), np.dtype(np.int64), None),
]


def flat(batch):
    if isinstance(batch, dict):
        return [tensor for part in batch.values() for tensor in flat(part)]
    return [batch] if isinstance(batch, torch.Tensor) else [tensor for part in batch for tensor in flat(part)]


def tensors_of(arrays):
    return [
        tensor if field.torch_dtype is None else tensor.view(field.torch_dtype)
        for tensor, field in zip(map(torch.from_numpy, arrays), FIELDS, strict=True)
    ]


def assert_equal(batch, expected):
    assert [tensor.dtype for tensor in flat(batch)] == [tensor.dtype for tensor in flat(expected)]
    assert [tensor.tolist() for tensor in flat(batch)] == [tensor.tolist() for tensor in flat(expected)]


def native(samples):
    """The samples as torch takes them."""
    return [{**s, "point": s["point"]._replace(x=s["point"].x.astype("i4"))} for s in samples]


def test_the_batch_lies_in_the_buffers_that_were_asked_for():
    asked, given = [], []

    def allocate(fields, rows):
        asked.append((fields, rows))
        given[:] = [np.empty((rows, *field.shape), field.dtype) for field in fields]
        return given

    samples = [sample(i) for i in range(ROWS)]
    batch = Collate()(samples, allocate)
    assert asked == [(FIELDS, ROWS)]
    assert [tensor.data_ptr() for tensor in flat(batch)] == [array.ctypes.data for array in given]
    assert_equal(batch, default_collate(native(samples)))


@pytest.mark.parametrize(
    "make", [lambda: np.ones(10_000), lambda: torch.ones(10_000), lambda: np.ones((100, 200))[:, ::2]]
)
def test_with_buffers_no_memory_of_their_size_is_taken(make):
    samples = [(make(), i) for i in range(ROWS)]
    buffers = [np.empty((ROWS, *samples[0][0].shape)), np.empty(ROWS, np.int64)]
    collate = Collate()
    collate(samples, lambda fields, rows: buffers)
    tracemalloc.start()
    try:
        collate(samples, lambda fields, rows: buffers)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < make().nbytes


def test_nothing_is_asked_for_where_there_is_no_field():
    def allocate(fields, rows):
        raise AssertionError

    assert Collate()(["a", "b"], allocate) == ["a", "b"]


def test_a_mismatch_is_found_before_or_after_the_buffers_are_asked_for_but_only_once():
    asked = []

    def allocate(fields, rows):
        asked.append(fields)
        return [np.empty((rows, *field.shape), field.dtype) for field in fields]

    with pytest.raises(SampleMismatchError):
        Collate()([np.zeros(2), np.zeros(2, "f")], allocate)
    assert len(asked) == 1


def test_fields_are_named_by_where_they_are():
    assert Collate().fields(sample(0)) == tuple(FIELDS)
    assert Collate().fields(1.5) == (Field("", (), np.dtype(np.float64), None),)
    assert Collate().fields(()) == ()


@pytest.mark.parametrize("part", ["text", None, object(), torch.eye(2).to_sparse(), torch.ones(2, requires_grad=True)])
def test_a_sample_with_a_part_of_no_fixed_size_has_no_fields(part):
    assert Collate().fields((1, [part])) is None


@pytest.mark.parametrize(
    "one",
    [
        1,
        (1, 2.5),
        [1, np.zeros(2)],
        {"a": 1, "b": (2, {"c": 3})},
        Point(1, [2]),
        UserDict(a=1),
        (np.zeros(2), (1, 2)),
        (range(2), 1),
    ],
)
def test_a_batch_is_rebuilt_from_its_tensors_also_after_pickling(one):
    rebuild = pickle.loads(pickle.dumps(rebuilder(one)))  # noqa: S301 made here
    batch = default_collate([one, one])
    tensors = []
    Collate()(
        [one, one], lambda fields, rows: tensors.extend(np.zeros((rows, *f.shape), f.dtype) for f in fields) or tensors
    )
    rebuilt = rebuild(list(map(torch.from_numpy, tensors)))
    assert type(rebuilt) is type(batch)
    assert str(rebuilt) == str(batch)


def test_a_dataset_is_written_chunk_by_chunk():
    samples = [sample(i) for i in range(ROWS)]
    collate = Collate()
    arrays = [np.empty((ROWS, *field.shape), field.dtype) for field in collate.fields(samples[0])]
    for start in range(0, ROWS, 3):
        collate(samples[start : start + 3], lambda fields, rows, start=start: [a[start : start + rows] for a in arrays])
    assert_equal(rebuilder(samples[0])(tensors_of(arrays)), default_collate(native(samples)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_batches_of_tensors_are_like_small_ones(monkeypatch, dtype):
    samples = [torch.full((3, 2), i, dtype=dtype) for i in range(ROWS)]
    small = Collate()(samples)
    monkeypatch.setattr(collate_module, "HUGE_NBYTES", 0)
    large = Collate()(samples)
    assert large.dtype == small.dtype == dtype
    assert large.tolist() == small.tolist()


def test_threads_may_share_one():
    collate = Collate()
    kinds = [
        [sample(i) for i in range(ROWS)],
        [(np.full(5, i), i) for i in range(ROWS)],
        [Point(torch.full((3,), i), str(i)) for i in range(ROWS)],
    ]
    expected = [str(collate(samples)) for samples in kinds]
    barrier = threading.Barrier(2 * len(kinds))
    failures = []

    def work(samples, text):
        barrier.wait()
        failures.extend(text for _ in range(50) if str(collate(samples)) != text)

    threads = [threading.Thread(target=work, args=how) for how in [*zip(kinds, expected, strict=True)] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_it_is_pickled_with_its_choices():
    collate = pickle.loads(pickle.dumps(Collate("pad", pad_value=-1)))  # noqa: S301 made here
    assert collate([np.ones(1), np.ones(2)]).tolist() == [[1, -1], [1, 1]]
    assert pickle.loads(pickle.dumps(vectorized_collate)) is vectorized_collate  # noqa: S301 made here


class Samples:
    def __init__(self, *, bad=False):
        self.bad = bad

    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        assert get_worker_info() is not None
        one = native([sample(index)])[0]
        return {**one, "array": np.zeros(1)} if self.bad and index == 1 else one


def is_shared(samples):
    return [tensor.is_shared() for tensor in flat(vectorized_collate(samples))]


def loader(dataset, collate_fn):
    return DataLoader(dataset, batch_size=3, num_workers=2, collate_fn=collate_fn)


def test_in_torchs_worker_processes_batches_are_those_of_torch():
    ours, theirs = list(loader(Samples(), vectorized_collate)), list(loader(Samples(), default_collate))
    assert len(ours) == len(theirs) == 3
    for batch, expected in zip(ours, theirs, strict=True):
        assert_equal(batch, expected)


@pytest.mark.parametrize("least, wanted", [(0, True), (1 << 20, False)])
def test_in_torchs_worker_processes_large_batches_lie_in_shared_memory(monkeypatch, least, wanted):
    monkeypatch.setattr(collate_module, "SHARED_NBYTES", least)
    for shared in loader(Samples(), is_shared):
        assert shared == [wanted] * len(FIELDS)


def test_a_mismatch_in_a_worker_process_is_raised_as_itself():
    batches = iter(loader(Samples(bad=True), vectorized_collate))
    with pytest.raises(SampleMismatchError) as caught:
        next(batches)
    assert caught.value.position == -1
    where = "sample 1 of the batch differs in field \"['array']\": expected float32 array of shape (2, 3), got "
    assert where in str(caught.value)
    assert len(list(batches)) == 2
