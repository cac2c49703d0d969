"""optimize(transform=): what is kept is transformed each time it is asked for, from every store alike."""

from __future__ import annotations

import pickle

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, Subset

from pytest_loaderperf.data import optimize
from pytest_loaderperf.errors import DataError

ROWS = 40
CACHES = ["auto", "whole", "chunked", "mapped", "compressed", "lru", "lazy", "background"]
UNEVEN = [cache for cache in CACHES if cache != "background"]  # which fills arrays of one shape
INDICES = {
    "list": [3, 1, 1, -1],
    "slice": slice(5, 9),
    "array": np.array([7, 2]),
    "tensor": torch.tensor([0, 39]),
    "mask": np.arange(ROWS) % 9 == 0,
}


class Read:
    """A dataset that counts its reads."""

    def __init__(self):
        self.reads = 0

    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        self.reads += 1
        return torch.full((3,), float(index)), index


class Count:
    """A transform of dicts or lists that adds how often it was called, in place, as augmentations do."""

    def __init__(self):
        self.calls = 0

    def __call__(self, given):
        self.calls += 1
        for name in given if isinstance(given, dict) else range(len(given)):
            given[name] += self.calls
        return given


def table():
    rows = np.arange(3 * ROWS, dtype=np.float32).reshape(ROWS, 3)
    return pa.table({"x": pa.FixedSizeListArray.from_arrays(rows.ravel(), 3), "y": np.arange(ROWS)})


def uneven():
    return pa.table({"x": [[float(i)] * (1 + i % 3) for i in range(ROWS)], "y": np.arange(ROWS)})


def kept(cache, tmp_path, source, **arguments):
    if cache == "background":
        return optimize(source, background=True, **arguments)
    return optimize(source, cache=cache, cache_dir=tmp_path / "c", **arguments)


@pytest.mark.parametrize("cache", CACHES)
class TestOfATable:
    def test_each_sample_is_transformed_anew(self, cache, tmp_path):
        store = kept(cache, tmp_path, table(), transform=Count())
        assert len(store) == ROWS
        for call in (1, 2, 3):
            sample = store[5]
            assert sample["x"].tolist() == [15 + call, 16 + call, 17 + call]
            assert sample["y"] == 5 + call
        assert [s["y"].item() for s in store.__getitems__([0, 10, -1])] == [4, 15, 45]
        store.wait()
        store.close()

    @pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
    def test_a_batch_has_samples_that_were_transformed_each(self, cache, tmp_path, index):
        plain = kept(cache, tmp_path, table())
        store = kept(cache, tmp_path, table(), transform=lambda s: {"x": s["x"] * 2, "y": s["y"]})
        assert torch.equal(store[index]["x"], plain[index]["x"] * 2)
        assert torch.equal(store[index]["y"], plain[index]["y"])

    @pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
    def test_whole_batches_are_transformed_at_once(self, cache, tmp_path, index):
        plain = kept(cache, tmp_path, table())
        store = kept(cache, tmp_path, table(), transform=Count(), per="batch")
        for call in (1, 2):
            batch = store[index]
            assert torch.equal(batch["x"], plain[index]["x"] + call)
            assert torch.equal(batch["y"], plain[index]["y"] + call)

    def test_what_is_kept_stays_as_it_was(self, cache, tmp_path):
        for per in ("sample", "batch"):
            store = kept(cache, tmp_path, table(), transform=Count(), per=per)
            [store[[1, 2]] for _ in range(3)]
            assert store.store[[1, 2]]["y"].tolist() == [1, 2]

    def test_it_is_pickled_with_its_transform(self, cache, tmp_path):
        store = pickle.loads(pickle.dumps(kept(cache, tmp_path, table(), transform=Count())))  # noqa: S301 our own
        assert store[3]["y"] == 4


@pytest.mark.parametrize("cache", UNEVEN)
def test_samples_of_several_sizes_can_be_made_alike(cache, tmp_path):
    cut = kept(cache, tmp_path, uneven(), transform=lambda s: {"x": s["x"][:1], "y": s["y"]})
    assert cut[[0, 1, 2]]["x"].tolist() == [[0.0], [1.0], [2.0]]
    lists = kept(cache, tmp_path, uneven(), transform=lambda b: torch.tensor([x.sum() for x in b["x"]]), per="batch")
    assert lists[[0, 1, 2]].tolist() == [0.0, 2.0, 6.0]


@pytest.mark.parametrize("background", [False, True])
def test_a_dataset_is_read_once_and_transformed_each_time(background):
    dataset = Read()
    store = optimize(dataset, background=background, transform=Count())
    store.wait()
    reads = dataset.reads
    for call in (1, 2):
        image, label = store[7]
        assert image.tolist() == [7 + call] * 3
        assert label == 7 + call
    image, label = store[[0, 1]]
    assert label.tolist() == [3, 5]
    assert dataset.reads == reads
    batched = optimize(dataset, background=background, transform=Count(), per="batch")
    assert batched[[0, 1]][1].tolist() == [1, 2]
    batched.wait()
    assert batched[[39]][1].tolist() == [41]
    assert dataset.reads == 2 * reads


def test_a_cache_file_serves_every_transform(tmp_path):
    made = [
        optimize(table(), cache="mapped", cache_dir=tmp_path, transform=transform)
        for transform in (None, Count(), lambda sample: sample)
    ]
    assert len(list(tmp_path.iterdir())) == 1
    assert [store[1]["y"].item() for store in made] == [1, 2, 1]


class TestWithTorchsLoader:
    def test_samples_are_served(self):
        loader = DataLoader(optimize(Read(), transform=Count()), 4)
        assert [label.tolist() for _, label in loader][:2] == [[1, 3, 5, 7], [9, 11, 13, 15]]

    def test_batches_are_served_by_a_batch_sampler(self):
        store = optimize(Read(), transform=Count(), per="batch")
        loader = DataLoader(store, batch_size=None, sampler=BatchSampler(SequentialSampler(store), 4, drop_last=False))
        assert [label.tolist() for _, label in loader][:2] == [[1, 2, 3, 4], [6, 7, 8, 9]]

    @pytest.mark.parametrize("workers, part", [(0, lambda store: store), (1, lambda store: Subset(store, range(8)))])
    def test_batches_are_refused_sample_by_sample(self, part, workers):
        store = optimize(Read(), transform=Count(), per="batch")
        words = r"expected the indices of a batch, got 0: with per=\"batch\" there are no"
        with pytest.raises(DataError, match=words) as refused:
            list(DataLoader(part(store), 4, num_workers=workers))
        refused.value.with_traceback(None)  # torch's hangs in a cycle with the iterator, which takes seconds to collect


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"transform": 3}, "expected transform to be a function of one sample, got 3. Give one, or leave it out."),
        (
            {"transform": "flip", "per": "batch"},
            "expected transform to be a function of one batch, got 'flip'. Give one, or leave it out.",
        ),
        (
            {"per": "batch"},
            "expected a transform that is called per batch, got none. Give transform=, or leave per out.",
        ),
        (
            {"transform": abs, "per": "epoch"},
            'expected per="sample" or per="batch", got \'epoch\'. Say what transform is called with.',
        ),
    ],
)
def test_what_cannot_transform_is_refused_before_anything_is_read(arguments, text):
    dataset = Read()
    with pytest.raises(DataError) as refused:
        optimize(dataset, **arguments)
    assert str(refused.value) == text
    assert dataset.reads == 0


@pytest.mark.parametrize(
    "per, index, which",
    [("sample", [3, -1], "sample 3"), ("sample", -1, "sample 39"), ("batch", [3, 4], "a batch of 2 samples")],
)
class TestATransformThatFails:
    def test_raises_and_names_what_it_was_given(self, per, index, which):
        store = optimize(Read(), transform=lambda given: 1 // 0, per=per)
        with pytest.raises(ZeroDivisionError) as failed:
            store[index]
        assert failed.value.__notes__ == [f"raised in stage transform, for {which}"]

    def test_must_return_something(self, per, index, which):
        store = optimize(Read(), transform=lambda given: None, per=per)
        with pytest.raises(DataError) as failed:
            store[index]
        assert str(failed.value) == f"expected transform to return what it made of {which}, got None. Return it."


@pytest.mark.parametrize("per", ["sample", "batch"])
def test_indices_beyond_the_data_raise(per):
    store = optimize(Read(), transform=Count(), per=per)
    for index in (ROWS, -ROWS - 1, [0, ROWS]):
        with pytest.raises(IndexError):
            store[index]
