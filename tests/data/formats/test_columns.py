"""What is particular to the formats that keep columns."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from weakref import ref

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from pytest_loaderperf.data.formats import FORMATS, arrow_ipc, open_table, parquet, write_table
from pytest_loaderperf.errors import DataError
from tests.data.formats.kinds import KINDS, OME, ROWS

TABLE = KINDS["tensors"]


def written(path, table=TABLE):
    write_table(table, path)
    return open_table(path)


def batches_of(table, rows):
    return pa.RecordBatchReader.from_batches(table.schema, table.to_batches(rows))


def address(column):
    return column.chunk(0).storage.values.buffers()[1].address


def is_mapped(place, file):
    """Whether an address lies in this process's mapping of a file."""
    for line in Path("/proc/self/maps").read_text("utf-8").splitlines():
        if line.endswith(str(file)):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if start <= place < end:
                return True
    return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
@pytest.mark.parametrize("name, file", [("arrow", ""), ("safetensors", ""), ("npy", "image.npy")])
def test_what_is_read_lies_in_the_mapped_file(name, file, tmp_path):
    path = tmp_path / f"rows{FORMATS[name].suffix}"
    with closing(written(path)) as table:
        assert is_mapped(address(table.read()["image"]), path / file if file else path)
        first = pa.Table.from_batches([next(table.stream(4))])
        assert address(first["image"]) == address(table.read()["image"])


@pytest.mark.parametrize("name", ["parquet", "arrow", "lance", "duckdb", "vortex", "safetensors", "npy"])
def test_a_table_is_read_as_one_chunk(name, tmp_path):
    path = tmp_path / f"rows{FORMATS[name].suffix}"
    table = pa.table({"x": np.arange(20_000), "y": np.arange(20_000) % 7})
    write_table(batches_of(table, 999), path)
    with closing(open_table(path)) as opened:
        came = opened.read()
    assert came.equals(table)
    assert [column.num_chunks for column in came.columns] == [1, 1]


@pytest.mark.parametrize("name", ["parquet", "arrow", "lance", "duckdb", "vortex", "safetensors", "npy"])
def test_a_stream_is_written_batch_by_batch(name, tmp_path, monkeypatch):
    """However many batches come, few of them are in memory at once."""
    monkeypatch.setattr(arrow_ipc, "BATCH_NBYTES", 1)
    monkeypatch.setattr(parquet, "ROW_GROUP_NBYTES", 8000)
    alive, most = [], 0

    def batches():
        nonlocal most
        for start in range(100):
            batch = pa.record_batch({"x": np.arange(start, start + 1000)})
            alive.append(ref(batch))
            most = max(most, sum(one() is not None for one in alive))
            yield batch

    reader = pa.RecordBatchReader.from_batches(pa.schema([("x", pa.int64())]), batches())
    write_table(reader, tmp_path / f"rows{FORMATS[name].suffix}")
    assert len(alive) == 100
    assert most < 20


class TestParquet:
    def test_small_batches_share_a_row_group_and_large_ones_are_cut(self, tmp_path, monkeypatch):
        table = pa.table({"x": np.arange(100)})
        write_table(batches_of(table, 1), tmp_path / "a.parquet")
        assert pq.read_metadata(tmp_path / "a.parquet").num_row_groups == 1
        monkeypatch.setattr(parquet, "ROW_GROUP_NBYTES", 200)
        write_table(table, tmp_path / "b.parquet")
        assert pq.read_metadata(tmp_path / "b.parquet").num_row_groups == 4

    def test_take_reads_the_row_groups_touched_alone(self, tmp_path, monkeypatch):
        monkeypatch.setattr(parquet, "ROW_GROUP_NBYTES", 80)
        with closing(written(tmp_path / "a.parquet", pa.table({"x": np.arange(100)}))) as table:
            groups = []

            class Spy(pq.ParquetFile):
                def read_row_group(self, i, **options):
                    groups.append(i)
                    return super().read_row_group(i, **options)

            monkeypatch.setattr(pq, "ParquetFile", Spy)
            assert table.take(np.array([95, 12, 11, 95])).to_pydict() == {"x": [95, 12, 11, 95]}
            assert groups == [1, 9]

    def test_a_file_of_others_is_read_in_parquets_own_types(self, tmp_path):
        pq.write_table(
            TABLE.cast(pa.schema([("image", pa.list_(pa.uint16(), 20)), ("label", pa.int32())])),
            tmp_path / "a.parquet",
            store_schema=False,
        )
        with closing(open_table(tmp_path / "a.parquet")) as table:
            assert table.schema.field("image").type == pa.list_(pa.uint16())
            assert table.read()["label"].to_pylist() == TABLE["label"].to_pylist()


class TestArrow:
    def test_take_reads_nothing_but_the_batches_touched(self, tmp_path, monkeypatch):
        monkeypatch.setattr(arrow_ipc, "BATCH_NBYTES", 1)
        write_table(batches_of(TABLE, 2), tmp_path / "a.arrow")
        with closing(open_table(tmp_path / "a.arrow")) as table:
            table._batches[0] = None
            assert table.take(np.array([12, 2])).equals(TABLE.take([12, 2]))

    def test_a_compressed_feather_file_is_read(self, tmp_path):
        pyarrow.feather.write_feather(TABLE, tmp_path / "a.feather", compression="zstd")
        with closing(open_table(tmp_path / "a.feather")) as table:
            assert table.read().equals(TABLE)


class TestDuckDb:
    @pytest.fixture
    def database(self, tmp_path):
        duckdb = pytest.importorskip("duckdb")
        with duckdb.connect(tmp_path / "a.duckdb") as connection:
            yield connection

    def test_rows_that_were_deleted_do_not_count(self, database, tmp_path):
        database.execute("CREATE TABLE mine AS SELECT range AS x FROM range(100)")
        database.execute("DELETE FROM mine WHERE x % 3 = 0")
        database.close()
        with closing(open_table(tmp_path / "a.duckdb")) as table:
            assert len(table) == 66
            assert table.take(np.array([65, 0, 1, 0])).to_pydict() == {"x": [98, 1, 2, 1]}

    def test_one_table_of_several_is_not_guessed(self, database, tmp_path):
        database.execute("CREATE TABLE a AS SELECT 1 AS x")
        database.execute("CREATE TABLE b AS SELECT 1 AS x")
        database.close()
        with pytest.raises(DataError) as caught:
            open_table(tmp_path / "a.duckdb")
        assert str(caught.value) == (
            f"{tmp_path / 'a.duckdb'} has the tables a, b. Expected one, or one called 'data'. Say which: "
            "table=..., or query=...."
        )

    def test_a_file_that_was_replaced_is_seen_though_the_old_one_is_open(self, tmp_path):
        path = tmp_path / "a.duckdb"
        with closing(written(path, pa.table({"x": [1]}))) as old, closing(written(path, pa.table({"x": [2]}))) as new:
            assert (old.read().to_pydict(), new.read().to_pydict()) == ({"x": [1]}, {"x": [2]})

    def test_lists_longer_than_an_array_of_duckdb_are_held(self, tmp_path):
        wide = pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(200_001 * 2, dtype="u1")), 200_001)})
        with closing(written(tmp_path / "a.duckdb", wide)) as table:
            assert table.read().equals(wide)


class TestVortex:
    def test_a_file_of_others_is_read_in_vortexs_own_types(self, tmp_path):
        vortex = pytest.importorskip("vortex.io")
        vortex.write(pa.table({"x": [1, 2, 3]}), str(tmp_path / "a.vortex"))
        with closing(open_table(tmp_path / "a.vortex")) as table:
            assert table.take(np.array([2, 2])).to_pydict() == {"x": [3, 3]}


class TestNpy:
    def test_others_read_the_arrays_with_numpy(self, tmp_path):
        written(tmp_path / "a-npy").close()
        image = np.load(tmp_path / "a-npy" / "image.npy")
        assert image.shape == (ROWS, 4, 5)
        assert np.array_equal(image, TABLE["image"].chunk(0).to_numpy_ndarray())

    def test_a_folder_of_others_is_read_in_the_order_of_names(self, tmp_path):
        volumes = np.arange(24, dtype=">f4").reshape(2, 3, 4)
        np.save(tmp_path / "b.npy", np.asfortranarray(volumes))
        np.save(tmp_path / "a.npy", np.array([True, False]))
        with closing(open_table(tmp_path)) as table:
            assert table.schema == pa.schema([("a", pa.bool_()), ("b", pa.fixed_shape_tensor(pa.float32(), (3, 4)))])
            assert np.array_equal(table.read()["b"].chunk(0).to_numpy_ndarray(), volumes)

    def test_arrays_of_different_lengths_are_refused(self, tmp_path):
        for name, rows in (("a", 2), ("b", 3)):
            np.save(tmp_path / f"{name}.npy", np.zeros(rows))
        with pytest.raises(DataError) as caught:
            open_table(tmp_path)
        assert str(caught.value) == (
            f"{tmp_path}: expected arrays of one length, got {{'a': 2, 'b': 3}}. Keep others "
            "elsewhere, or name those to open: columns=[...]."
        )

    def test_pickled_objects_are_not_loaded(self, tmp_path):
        np.save(tmp_path / "a.npy", np.array([{}]), allow_pickle=True)
        with pytest.raises(DataError, match=r"a.npy: expected an array of numbers, got Python objects"):
            open_table(tmp_path)

    @pytest.mark.parametrize("name", ["npy", "safetensors"])
    def test_a_column_without_one_shape_is_refused(self, name, tmp_path):
        with pytest.raises(DataError) as caught:
            write_table(KINDS["nested"], tmp_path / "rows", name)
        assert str(caught.value) == (
            "column 'image': expected numbers, bools, or fixed-size lists or fixed-shape tensors of them, for "
            f"{name}, got {OME}. Use parquet, or drop the column."
        )

    def test_nulls_are_refused(self, tmp_path):
        with pytest.raises(DataError, match="column 'x' has 1 nulls, which no tensor can hold"):
            write_table(KINDS["nulls"], tmp_path / "rows", "npy")
        assert list(tmp_path.iterdir()) == []

    def test_a_name_that_no_file_can_have_is_refused(self, tmp_path):
        with pytest.raises(DataError) as caught:
            write_table(pa.table({"a/b": [1]}), tmp_path / "rows", "npy")
        assert str(caught.value) == "column 'a/b' cannot be the name of a file, as npy needs. Rename it."


class TestSafetensors:
    def test_others_read_the_tensors(self, tmp_path):
        load_file = pytest.importorskip("safetensors.torch").load_file
        written(tmp_path / "a.safetensors").close()
        assert load_file(tmp_path / "a.safetensors")["image"].shape == (ROWS, 4, 5)

    def test_tensors_of_different_lengths_are_refused(self, tmp_path):
        save_file = pytest.importorskip("safetensors.numpy").save_file
        save_file({"weight": np.zeros((2, 3)), "bias": np.zeros(3)}, tmp_path / "a.safetensors")
        with pytest.raises(DataError, match=r"expected arrays of one length, got .*'bias': 3.*. Keep others"):
            open_table(tmp_path / "a.safetensors")
