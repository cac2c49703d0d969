"""Every store takes the same indices, before and after it is filled."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest
import torch

from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.arrays.columns import BatchDataset
from pytest_loaderperf.data.stores import background, compressed, mapped, whole
from pytest_loaderperf.errors import DataError

ROWS = 40
MASK = np.arange(ROWS) % 7 == 3
PATIENCE_S = 30  # far beyond what a busy machine needs; only a failure waits so long
KINDS = ["whole", "chunked", "mapped", "compressed", "lru", "lazy", "background", "filled", "dataset", "filled dataset"]
KINDS += ["columns"]

SINGLE = [0, -1, ROWS - 1, -ROWS, np.int64(3), np.uint8(3), np.int32(-3), np.array(5), torch.tensor(5)]
BATCHES = {
    "list": [3, 0, 3, -1],
    "tuple": (3, 0, -ROWS),
    "numpy numbers": [np.int64(3), np.int8(-2)],
    "range": range(3, 30, 4),
    "array": np.array([0, 1]),
    "unsigned": np.array([0, 1], np.uint64),
    "small": np.array([0, -1], np.int8),
    "big-endian": np.array([0, 1], ">i4"),
    "strided": np.arange(30)[::3],
    "tensor": torch.tensor([0, 39, -1]),
    "mask": MASK,
    "list of bools": MASK.tolist(),
    "tensor of bools": torch.from_numpy(MASK),
    "nobody": np.zeros(ROWS, bool),
    "slice": slice(3, 9),
    "all": slice(None),
    "backwards": slice(None, None, -3),
    "negative": slice(-5, None),
    "beyond": slice(30, 1000),
    "nothing": slice(5, 5),
    "empty list": [],
    "empty array": np.array([], np.int64),
}
OUTSIDE = [ROWS, -ROWS - 1, 10**30, -(10**30), np.int64(ROWS), [0, ROWS], (-ROWS - 1,), np.array([ROWS], np.uint64)]
OUTSIDE += [range(ROWS + 1), torch.tensor([ROWS]), np.ones(ROWS + 1, bool), [True], np.ones(0, bool)]
WRONG = ["x", 1.5, None, True, np.bool_(True), [1.0], ["x"], [None], np.array([[1]]), torch.tensor([1.5]), [[1], [2]]]


class Dataset:
    def __len__(self):
        return ROWS

    def __getitem__(self, index):
        return {"x": torch.tensor(index), "y": torch.tensor([index, index + 1])}


def table():
    pairs = pa.array([[i, i + 1] for i in range(ROWS)], pa.list_(pa.int64(), 2))
    return pa.table({"x": np.arange(ROWS), "y": pairs})


@pytest.fixture
def make(tmp_path, monkeypatch):
    for module, name in [(compressed, "BLOCK_NBYTES"), (mapped, "BLOCK_NBYTES"), (whole, "CHUNK_NBYTES")]:
        monkeypatch.setattr(module, name, 100)

    def store(kind):
        if kind == "columns":
            return BatchDataset({"x": np.arange(ROWS), "y": np.stack([np.arange(ROWS), np.arange(1, ROWS + 1)], 1)})
        if "background" in kind or "filled" in kind or kind == "dataset":
            source = Dataset() if "dataset" in kind else table()
            with monkeypatch.context() as patch:
                if "filled" not in kind:  # nobody but who asks fills it
                    patch.setattr(background.Preloaded, "_begin", lambda own: None)
                made = optimize(source, background=True)
            if "filled" in kind:
                made.wait()
            assert (made.columns is None) == ("filled" not in kind)
            return made
        return optimize(table(), cache=kind, cache_dir=tmp_path / "c")

    return store


@pytest.mark.parametrize("kind", KINDS)
def test_one_sample(kind, make):
    for index in SINGLE:
        sample = make(kind)[index]
        row = int(index) % ROWS
        assert (sample["x"].item(), sample["y"].tolist()) == (row, [row, row + 1]), index


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch(kind, make):
    for name, index in BATCHES.items():
        asked = np.array(index, None if len(index) else int) if isinstance(index, list | tuple | range) else index
        rows = np.arange(ROWS)[asked]
        batch = make(kind)[index]  # of a store that has given nothing before
        assert batch["x"].tolist() == rows.tolist(), name
        assert batch["x"].dtype == torch.int64, name
        assert batch["y"].tolist() == np.stack([rows, rows + 1], 1).tolist(), name
        assert batch["y"].shape == (len(rows), 2), name


@pytest.mark.parametrize("kind", KINDS)
def test_what_lies_outside_is_an_index_error(kind, make):
    store = make(kind)
    for index in OUTSIDE:
        with pytest.raises(IndexError, match=r"out of range for a dataset of 40 samples|expected a mask of 40 bools"):
            store[index]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_index_is_refused(kind, make):
    store = make(kind)
    for index in WRONG:
        with pytest.raises(DataError, match="expected a list of integers"):
            store[index]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "dataset" not in kind])
def test_a_sampler_gives_whole_numbers_and_no_mask(kind, make):
    store = make(kind)
    for indices in ([True, False], MASK.tolist(), []):
        with pytest.raises(DataError, match="expected a list of integers"):
            store.__getitems__(indices)


@pytest.mark.parametrize("kind", ["whole", "chunked", "mapped", "compressed", "lru", "lazy"])
def test_a_batch_of_no_rows_of_a_ragged_column_is_an_empty_list(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(mapped, "BLOCK_NBYTES", 100)
    ragged = pa.table({"x": [[1], [2, 3]] * 50})
    store = optimize(ragged, cache=kind, cache_dir=tmp_path / "c")
    for index in ([], slice(0, 0), np.zeros(100, bool)):
        assert store[index]["x"] == []
    assert [sample.tolist() for sample in store[1:3]["x"]] == [[2, 3], [1]]


def test_indices_are_taken_while_a_thread_fills(on_disk, monkeypatch):
    gate, good = threading.Event(), background.PreloadedTable._step
    monkeypatch.setattr(background.PreloadedTable, "_step", lambda own: gate.wait(PATIENCE_S) and good(own))
    asked = (np.array([39, 1]), slice(20, 23), MASK)
    store = optimize(on_disk(table(), group=4), background=True)
    try:
        early = [store[index]["x"].tolist() for index in asked]
        assert store.columns is None
    finally:
        gate.set()
    store.wait()
    assert store.columns is not None
    assert [store[index]["x"].tolist() for index in asked] == early
    assert early == [[39, 1], [20, 21, 22], np.flatnonzero(MASK).tolist()]
