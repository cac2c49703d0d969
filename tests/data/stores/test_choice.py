from __future__ import annotations

import re
import threading

import numpy as np
import pyarrow as pa
import pytest

from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.arrow.ome_arrow import ome_arrow_array
from pytest_loaderperf.data.stores import background, compressed, memo
from pytest_loaderperf.data.stores.mapped import MappedStore
from pytest_loaderperf.data.stores.source import Source
from pytest_loaderperf.errors import DataError
from tests.data.stores.conftest import ROWS, ragged, uniform

TABLE = pa.table({"x": np.arange(100)})
PATIENCE_S = 30  # far beyond what a busy machine needs; only a failure waits so long


def refusal(*given, **arguments):
    with pytest.raises(DataError) as caught:
        optimize(*given, **arguments)
    return str(caught.value)


class TestAuto:
    def test_what_fits_the_budget_is_kept_whole_and_that_is_logged(self, caplog):
        caplog.set_level("INFO", "pytest_loaderperf")
        assert not isinstance(optimize(TABLE, memory_budget=800), MappedStore)
        assert caplog.messages == ["store: 100 rows, cache whole: 800 bytes fit the budget of 800"]

    def test_what_exceeds_it_is_mapped_and_never_read_whole(self, caplog, on_disk, tmp_path):
        caplog.set_level("INFO", "pytest_loaderperf")
        source = on_disk(TABLE)
        assert isinstance(optimize(source, memory_budget=799, cache_dir=tmp_path), MappedStore)
        assert source.reads == 0
        assert caplog.messages == ["store: 100 rows, cache mapped: 800 bytes exceed the budget of 799"]

    def test_then_nothing_is_filled_in_the_background(self, caplog, tmp_path):
        caplog.set_level("INFO", "pytest_loaderperf")
        assert isinstance(optimize(TABLE, memory_budget=799, cache_dir=tmp_path, background=True), MappedStore)
        assert caplog.messages[0].endswith("exceed the budget of 799, so nothing is filled in the background")


@pytest.mark.parametrize("cache", ["whole", "chunked", "lazy"])
def test_what_exceeds_the_budget_is_not_loaded_even_if_asked_for(cache, on_disk):
    source = on_disk(TABLE)
    assert refusal(source, cache=cache, memory_budget=799) == (
        "100 rows take about 800 bytes, more than the budget of 799. "
        f"Give a larger memory_budget, or cache=\"mapped\" instead of '{cache}'."
    )
    assert source.reads == 0


def test_compressed_rows_that_exceed_it_are_refused_as_soon_as_they_do(on_disk):
    noise = np.random.default_rng(0).integers(0, 1 << 62, 100_000)
    found = refusal(on_disk(pa.table({"x": noise}), group=20_000), cache="compressed", memory_budget=200_000)
    held = re.fullmatch(
        r".*table.arrow: the compressed rows exceed the budget of 200,000 bytes with (2..,...) bytes. "
        r'Give a larger memory_budget, or cache="mapped".',
        found,
    )
    assert held, found


def test_compressed_rows_take_less_memory():
    store = optimize(pa.table({"x": np.zeros((100_000,))}), cache="compressed", memory_budget=10_000)
    assert store[[5, 99_999]]["x"].tolist() == [0, 0]


def test_a_batch_decodes_each_block_once(monkeypatch):
    store = optimize(pa.table({"x": np.arange(100_000)}), cache="compressed")
    column = store.columns.columns[0]
    assert len(column.blocks) > 3
    decoded = []
    real = compressed.CompressedBlock.values
    monkeypatch.setattr(compressed.CompressedBlock, "values", lambda own: (decoded.append(own), real(own))[1])
    indices = [0, 99_999, 1, 50_000, 99_998, 0]
    assert store[indices]["x"].tolist() == indices
    assert len(decoded) == len(set(map(id, decoded))) == 3


class TestMemo:
    def test_lazy_reads_each_sample_once(self, on_disk):
        source = on_disk(uniform()[0])
        store = optimize(source, cache="lazy")
        assert source.taken == []
        store[[3, 1, 3]]
        store[1]
        store[[1, 2]]
        assert source.taken == [[1, 3], [2]]

    def test_lru_keeps_those_used_last(self, on_disk):
        source = on_disk(TABLE)
        store = optimize(source, cache="lru", memory_budget=3 * 8)
        for index in (0, 1, 2, 0, 3, 0, 1):
            assert store[index]["x"].item() == index
        assert source.taken == [[0], [1], [2], [3], [1]]

    def test_a_batch_may_be_larger_than_what_is_kept(self):
        store = optimize(TABLE, cache="lru", memory_budget=1)
        assert store[list(range(10))]["x"].tolist() == list(range(10))

    def test_a_sample_keeps_nothing_else_alive(self, on_disk):
        store = optimize(on_disk(uniform()[0]), cache="lazy")
        store[list(range(ROWS))]
        assert all(array.base is None or array.base.nbytes == array.nbytes for array in store._kept[0].values())

    def test_one_thread_at_a_time_reads(self, on_disk):
        source = on_disk(TABLE)
        inside, overlaps, good = [], [], source.take

        def take(indices, columns):
            inside.append(1)
            overlaps.append(len(inside) > 1)
            rows = good(indices, columns)
            inside.pop()
            return rows

        source.take = take
        store = optimize(source, cache="lazy")
        threads = [threading.Thread(target=lambda: [store[i] for i in range(100)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert not any(overlaps)
        assert sorted(index for indices in source.taken for index in indices) == list(range(100))

    def test_close_lets_go_of_the_samples(self, on_disk):
        source = on_disk(TABLE)
        store = optimize(source, cache="lazy")
        for _ in range(2):
            assert store[5]["x"].item() == 5
            store.close()
        assert source.taken == [[5], [5]]

    def test_an_image_with_an_axis_that_the_first_ones_lack_is_refused(self):
        flat = [ome_arrow_array(np.zeros((1, 1, 1, z, 2, 2), np.uint16)) for z in [1] * 40 + [3]]
        store = optimize(pa.table({"image": pa.concat_arrays(flat)}), cache="lazy")
        assert store[39]["image"].shape == (2, 2)
        with pytest.raises(DataError) as caught:
            store[[3, 40]]
        assert str(caught.value) == (
            "column 'image', row 40: expected an image of length one along the same axes as the first ones, "
            'got (t, c, z, y, x) = (1, 1, 3, 2, 2). Choose cache="mapped" or "chunked", which read all images first.'
        )
        assert memo.MemoStore is type(store)


@pytest.mark.parametrize("cache", ["whole", "chunked", "mapped", "compressed", "lru", "lazy"])
def test_a_null_is_named_with_its_file_and_row(cache, on_disk, tmp_path):
    source = on_disk(pa.table({"row 0": [None if i == 43 else i for i in range(50)]}))

    def load():
        return optimize(source, cache=cache, cache_dir=tmp_path)[[1, 43, 44]]

    with pytest.raises(DataError) as caught:
        load()
    assert str(caught.value).startswith(f"{source.path}: column 'row 0' is null in row 43, and")


@pytest.mark.parametrize("cache", ["whole", "chunked", "mapped", "compressed", "lru", "lazy"])
def test_a_batch_of_a_ragged_column_is_a_list_whatever_is_in_it(cache, tmp_path):
    store = optimize(pa.table({"x": [[1, 2], [3, 4], [5]]}), cache=cache, cache_dir=tmp_path)
    for indices in ([0, 1], [1, 2], [2], np.array([2, 0])):
        batch = store[indices]["x"]
        assert isinstance(batch, list)
        assert [sample.tolist() for sample in batch] == [[[1, 2], [3, 4], [5]][index] for index in indices]


@pytest.mark.parametrize("cache", ["whole", "lru"])
def test_an_array_of_indices_is_a_batch(cache):
    assert optimize(TABLE, cache=cache)[np.array([3, -1])]["x"].tolist() == [3, 99]


@pytest.mark.parametrize("cache", ["whole", "chunked", "mapped", "compressed", "lru", "lazy"])
def test_rows_of_a_slice_are_its_own(cache, tmp_path):
    squares = np.arange(28).reshape(7, 2, 2)
    lists = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(pa.array(squares.ravel()), 2), 2)
    where = {"cache_dir": tmp_path / "c"} if cache == "mapped" else {}
    store = optimize(pa.table({"x": lists}).slice(3), cache=cache, **where)
    assert store[[2, 0, 3]]["x"].tolist() == squares[[5, 3, 6]].tolist()


def test_columns_of_one_name_are_refused():
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["x", "x"])
    assert refusal(twice) == "expected a table with columns of different names, got ['x', 'x']. Rename some."


class TestBackground:
    @pytest.fixture
    def gated(self, on_disk, monkeypatch):
        """A table whose stream stops after the first rows until the gate is opened."""
        monkeypatch.setattr(background, "CHUNK_NBYTES", 80)
        source = on_disk(TABLE, group=10)
        good, gate = source.stream, threading.Event()

        def stream(rows, columns):
            for i, batch in enumerate(good(rows, columns)):
                assert i < 3 or gate.wait(PATIENCE_S)
                yield batch

        source.stream = stream
        yield source, gate
        gate.set()

    def test_it_returns_at_once_and_gathers_once_all_is_there(self, gated):
        source, gate = gated
        store = optimize(source, background=True)
        assert store.columns is None
        gate.set()
        store.wait()
        assert store.columns is not None
        assert store[list(range(100))]["x"].tolist() == list(range(100))
        assert source.taken == []

    def test_the_rows_that_never_come_by_stream_are_read_when_asked_for(self, on_disk):
        source = on_disk(TABLE)
        good = source.stream
        source.stream = lambda rows, columns: iter(list(good(rows, columns))[:2])
        store = optimize(source, background=True)
        store._thread.join(PATIENCE_S)
        assert store[[99, 3]]["x"].tolist() == [99, 3]
        assert source.taken == [[99]]
        store.wait()
        assert store.columns is not None

    def test_ragged_columns_are_refused_at_once_or_by_wait(self):
        text = (
            "column '{}' has samples of several shapes, and the background fills arrays of one shape. "
            "Leave it out of columns=, or pass background=False."
        )
        assert refusal(ragged()[0], background=True) == text.format("tokens")
        late = pa.table({"x": [[1]] * 40 + [[2, 3]]})
        store = optimize(late, background=True)
        with pytest.raises(DataError) as caught:
            store.wait()
        assert str(caught.value) == text.format("x")

    @pytest.mark.parametrize("cache", ["mapped", "compressed", "lru", "lazy"])
    def test_other_caches_have_no_background(self, cache):
        assert refusal(TABLE, cache=cache, background=True) == (
            f"background=True fills arrays in memory, got cache={cache!r}. Leave one of the two out."
        )


class TestRefused:
    def test_an_unknown_cache(self):
        assert refusal(TABLE, cache="ram") == (
            "cache: expected one of auto, whole, chunked, mapped, compressed, lru, lazy, got 'ram'."
        )

    @pytest.mark.parametrize("arguments", [{"columns": ["x"]}, {"cache": "lru"}, {"cache_dir": "x"}])
    def test_what_is_for_tables_alone(self, arguments):
        assert refusal([1, 2], **arguments) == (
            "columns, cache and cache_dir are for tables, got list. Leave them out, "
            "or give a pa.Table or what data.formats opens."
        )

    @pytest.mark.parametrize("columns", [["y"], [], "x", ["x", "y"]])
    def test_columns_that_there_are_not(self, columns):
        assert refusal(TABLE, columns=columns) == (
            f"columns: expected a list of some of ['x'], got {columns!r}. Name those to load."
        )

    @pytest.mark.parametrize("budget", [0, 1.5, True])
    def test_a_budget_that_is_no_number_of_bytes(self, budget):
        assert refusal(TABLE, memory_budget=budget) == (
            f"memory_budget: expected an integer of at least 1 (bytes), got {budget!r}."
        )


def test_the_bytes_of_all_rows_are_told_from_the_first():
    source = Source(uniform()[0], None)
    assert source.row_nbytes == 4 * 5 * 2 + 8 + 6 * 4 + 1
    assert source.nbytes == ROWS * source.row_nbytes


def test_small_batches_of_a_stream_are_put_together(on_disk):
    source = Source(on_disk(TABLE, group=3), None)
    assert [len(chunk) for chunk in source.chunks(10 * 8)] == [9] * 10 + [10]


class TestLargeSamples:
    def test_one_large_row_is_read_to_judge_the_others(self, monkeypatch):
        asked, stream = [], Source._stream

        def spy(self, rows):
            asked.append(rows)
            return stream(self, rows)

        class OnDisk:
            schema = pa.schema({"x": pa.list_(pa.uint8(), 1 << 20)})
            path = "rows"

            def __len__(self):
                return 100

            def read(self, columns):
                raise AssertionError("read")

            take = read

            def stream(self, rows, columns):
                items = pa.array(np.zeros(rows << 20, np.uint8))
                yield pa.record_batch([pa.FixedSizeListArray.from_arrays(items, 1 << 20)], ["x"])

        monkeypatch.setattr(Source, "_stream", spy)
        assert Source(OnDisk(), None).nbytes == 100 << 20
        assert asked == [1]

    @pytest.mark.parametrize("cache", ["lru", "lazy"])
    def test_a_row_of_several_chunks_is_no_copy_of_all_of_them(self, cache):
        chunk = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(32 << 20, dtype=np.uint8)), 1 << 20)
        store = optimize(pa.table({"x": pa.chunked_array([chunk] * 4)}), cache=cache)
        default = pa.default_memory_pool()
        counted = pa.proxy_memory_pool(default)
        pa.set_memory_pool(counted)
        try:
            assert store[97]["x"][:3].tolist() == [0, 1, 2]
        finally:
            pa.set_memory_pool(default)
        assert 1 << 20 <= counted.max_memory() < 8 << 20

    def test_lists_of_more_items_than_an_offset_counts_are_read_row_by_row(self):
        """The chunks share their memory, so that 2**31 items take 64 MiB."""
        chunk = pa.ListArray.from_arrays(
            pa.array(np.arange(3, dtype=np.int32) << 25), pa.array(np.zeros(1 << 26, np.uint8))
        )
        store = optimize(pa.table({"x": pa.chunked_array([chunk] * 33)}), cache="lru", memory_budget=1 << 27)
        assert store[65]["x"].shape == (1 << 25,)
