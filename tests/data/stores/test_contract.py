"""What every store does, whatever it keeps its rows in."""

from __future__ import annotations

import gc
import pickle

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.stores import compressed, mapped, whole
from pytest_loaderperf.data.stores.source import Rows, Source
from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader import Collate, ReferenceLoader
from tests.data.stores.conftest import ROWS, ragged, uniform

CACHES = ["auto", "whole", "chunked", "mapped", "compressed", "lru", "lazy", "background", "tiny lru"]
RAGGED_CACHES = [cache for cache in CACHES if cache != "background"]


@pytest.fixture(params=["in memory", "in chunks", "on disk"])
def place(request, on_disk):
    """``place(table)``: the table where the store reads it."""

    def put(table):
        if request.param == "on disk":
            return on_disk(table)
        return table if request.param == "in memory" else pa.concat_tables(table[i : i + 9] for i in range(0, ROWS, 9))

    return put


@pytest.fixture
def make(tmp_path, monkeypatch):
    """``make(cache, table)``: a store; its blocks hold a few rows."""
    monkeypatch.setattr(compressed, "BLOCK_NBYTES", 300)
    monkeypatch.setattr(mapped, "BLOCK_NBYTES", 600)
    monkeypatch.setattr(whole, "CHUNK_NBYTES", 500)
    made = []

    def store(cache, table, **arguments):
        if cache == "background":
            arguments |= {"background": True}
        elif cache == "tiny lru":
            arguments |= {"cache": "lru", "memory_budget": 3 * max(1, Source(table, None).row_nbytes)}
        else:
            arguments |= {"cache": cache}
        made.append(optimize(table, cache_dir=tmp_path / "cache", **arguments))
        return made[-1]

    yield store
    for one in made:
        one.close()


def rows_of(wanted, indices):
    return {name: [samples[i] for i in indices] for name, samples in wanted.items()}


def same(batch, wanted):
    assert list(batch) == list(wanted)
    for name, values in batch.items():
        assert isinstance(values, torch.Tensor | list)
        assert len(values) == len(wanted[name])
        for ours, theirs in zip(values, wanted[name], strict=True):
            assert ours.dtype == torch.from_numpy(np.array(theirs)).dtype
            assert np.array_equal(ours.numpy(), theirs)


def same_sample(sample, wanted, index):
    same({name: [value] for name, value in sample.items()}, rows_of(wanted, [index]))


@pytest.mark.parametrize("cache", CACHES)
def test_samples_are_dicts_of_one_tensor_a_column(cache, place, make):
    table, wanted = uniform()
    store = make(cache, place(table))
    assert len(store) == ROWS
    for index in (0, ROWS - 1, 17, np.int64(3), -1, -ROWS):
        same_sample(store[index], wanted, index)


@pytest.mark.parametrize("cache", CACHES)
def test_iterating_gives_the_rows_that_arrow_reads(cache, make):
    table, _ = uniform()
    expected = table.select(["label", "row", "flag"]).to_pylist()
    rows = [{name: sample[name].tolist() for name in ("label", "row", "flag")} for sample in make(cache, table)]
    assert rows == expected


@pytest.mark.parametrize("cache", CACHES)
def test_a_list_of_indices_gives_a_batch_in_that_order_doubles_included(cache, place, make):
    table, wanted = uniform()
    store = make(cache, place(table))
    for indices in ([5], [ROWS - 1, 0, 5, 5, -2, 17], list(range(ROWS)), np.random.default_rng(2).permutation(ROWS)):
        batch = store[list(indices)]
        same(batch, rows_of(wanted, indices))
        assert all(isinstance(values, torch.Tensor) for values in batch.values())


@pytest.mark.parametrize("cache", RAGGED_CACHES)
def test_ragged_columns_give_a_list_of_tensors(cache, place, make):
    table, wanted = ragged()
    store = make(cache, place(table))
    for index in (0, 3, ROWS - 1, -1):
        same_sample(store[index], wanted, index)
    for indices in ([ROWS - 1, 0, 5, 5, -2, 17], list(range(ROWS))):
        batch = store[indices]
        same(batch, rows_of(wanted, indices))
        assert [type(values) for values in batch.values()] == [torch.Tensor, list, list]


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("index, wrong", [(ROWS, ROWS), (-ROWS - 1, -ROWS - 1), ([3, ROWS], ROWS)])
def test_an_index_out_of_range_is_refused(cache, make, index, wrong):
    store = make(cache, uniform()[0])
    with pytest.raises(IndexError) as caught:
        store[index]
    assert str(caught.value) == f"index {wrong} is out of range for a dataset of {ROWS} samples."


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("loader", [DataLoader, ReferenceLoader])
def test_batches_are_those_of_the_rows(cache, place, make, loader):
    table, wanted = uniform()
    store = make(cache, place(table))
    for epoch in range(2):
        came = []
        for batch in loader(store, batch_size=8, shuffle=True):
            indices = batch["label"].tolist()
            same(batch, rows_of(wanted, indices))
            came += indices
        assert sorted(came) == list(range(ROWS)), epoch


@pytest.mark.parametrize("cache", RAGGED_CACHES)
def test_ragged_samples_are_padded_by_the_loader(cache, make):
    table, wanted = ragged()
    store = make(cache, table)
    for batch in ReferenceLoader(store, batch_size=8, collate_fn=Collate(ragged="pad")):
        for row, index in enumerate(batch["label"].tolist()):
            tokens = wanted["tokens"][index]
            assert batch["tokens"][row, : len(tokens)].tolist() == tokens.tolist()


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("kind", ["threads", "processes"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_serve_it(cache, make, on_disk, kind):
    table, wanted = uniform()
    store = make(cache, on_disk(table))
    with ReferenceLoader(store, batch_size=8, shuffle=True, num_workers=2, worker_kind=kind) as loader:
        batches = list(loader)
    assert sorted(torch.cat([batch["label"] for batch in batches]).tolist()) == list(range(ROWS))
    for batch in batches:
        same(batch, rows_of(wanted, batch["label"].tolist()))


@pytest.mark.parametrize("cache", [cache for cache in CACHES if "lru" not in cache and cache != "lazy"])
def test_the_reference_loader_gathers_from_uniform_columns(cache, make):
    store = make(cache, uniform()[0])
    store.wait()
    assert store.columns is not None
    assert len(store.columns) == ROWS


@pytest.mark.parametrize("cache", CACHES)
def test_a_pickled_store_has_the_same_samples(cache, make):
    table, wanted = uniform()
    store = pickle.loads(pickle.dumps(make(cache, table)))  # noqa: S301 made here
    same(store[[3, 0, -1]], rows_of(wanted, [3, 0, -1]))
    store.wait()
    same(store[list(range(ROWS))], wanted)


@pytest.mark.parametrize(
    "cache, kind", [*((cache, uniform) for cache in CACHES), *((cache, ragged) for cache in RAGGED_CACHES)]
)
def test_writing_into_a_sample_or_a_batch_leaves_the_rows_alone(cache, make, kind):
    table, wanted = kind()
    store = make(cache, table)
    for value in store[3].values():
        value.zero_()
    for values in store[[3, 4]].values():
        for value in values:
            value.zero_()
    for sample in store.__getitems__([3, 4]):
        for value in sample.values():
            value.zero_()
    same(store[[3, 4]], rows_of(wanted, [3, 4]))


@pytest.mark.parametrize("cache", CACHES)
def test_only_the_columns_that_are_asked_for_are_loaded(cache, place, make):
    table, wanted = uniform()
    table = table.append_column("name", [["x"] * ROWS])
    store = make(cache if cache != "tiny lru" else "lru", place(table), columns=["label", "image"])
    batch = store[[1, 2]]
    assert list(batch) == ["label", "image"]
    same(batch, rows_of({name: wanted[name] for name in ("label", "image")}, [1, 2]))


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("kind", [uniform, ragged])
def test_a_table_without_rows_is_an_empty_dataset(cache, place, make, kind):
    table, _ = kind()
    store = make(cache, place(table[:0]))
    assert len(store) == 0
    store.wait()
    with pytest.raises(IndexError):
        store[0]


@pytest.mark.parametrize("cache", CACHES)
def test_one_row(cache, make):
    table, wanted = uniform()
    store = make(cache, table[7:8])
    assert len(store) == 1
    same(store[[0, -1]], rows_of(wanted, [7, 7]))


@pytest.mark.parametrize("cache", [cache for cache in RAGGED_CACHES if "lru" not in cache and cache != "lazy"])
@pytest.mark.parametrize("late", ["tokens", "image"])
def test_rows_of_another_shape_may_come_late(cache, place, make, late):
    """Beyond the first rows, from which everything else is known."""
    table, wanted = uniform()
    other, others = ragged()
    column = "row" if late == "tokens" else "image"
    tail = other[late].chunk(0)[40:]
    tail = tail.cast(table[column].type) if late == "tokens" else tail
    dtype = np.array(wanted[column][0]).dtype
    rows = {column: [*wanted[column][:40], *(sample.astype(dtype) for sample in others[late][40:])]}
    joined = pa.table({column: pa.chunked_array([*table[column][:40].chunks, tail])})
    store = make(cache, place(joined))
    same(store[[0, 49, 41, 3]], rows_of(rows, [0, 49, 41, 3]))


@pytest.mark.parametrize("cache", CACHES)
def test_a_null_is_refused_with_column_and_row(cache, make):
    table = pa.table({"x": pa.array([1, 2, None])})
    with pytest.raises(DataError) as caught:
        make(cache, table)
    assert str(caught.value).startswith("column 'x' is null in row 2, and no tensor can hold that.")


def test_whole_rows_are_views_of_the_table():
    table, _ = uniform()
    table = table.drop_columns(["flag"])
    store = optimize(table, cache="whole")
    addresses = [column.rows.ctypes.data for column in store.columns.columns]
    buffers = [
        *table["image"].chunk(0).field("planes").values.field("pixels").values.buffers(),
        *table["label"].chunk(0).buffers(),
        *table["row"].chunk(0).values.buffers(),
    ]
    assert addresses == [buffer.address for buffer in buffers if buffer is not None]


def test_chunked_takes_the_memory_of_the_rows_and_of_one_chunk(on_disk, monkeypatch):
    table = pa.table({"x": np.arange(1 << 20)})
    source = on_disk(table, group=1 << 14)
    monkeypatch.setattr(whole, "CHUNK_NBYTES", 1 << 17)
    gc.collect()
    before, most = pa.total_allocated_bytes(), 0
    real = Rows.flat

    def watched(*given):
        nonlocal most
        most = max(most, pa.total_allocated_bytes() - before)
        return real(*given)

    monkeypatch.setattr(Rows, "flat", watched)
    store = optimize(source, cache="chunked")
    assert store[-1]["x"].item() == (1 << 20) - 1
    assert most < table.nbytes // 4
