"""Tables as datasources of Ray Data: their tasks, which run here without a cluster."""

from __future__ import annotations

import gc
import pickle
import sys
import time
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pytest_loaderperf.data.encoded.pictures import open_pictures
from pytest_loaderperf.data.formats import FORMATS, open_table, write_table
from pytest_loaderperf.errors import DataError
from tests.data.formats.kinds import HOLDS, KINDS, ROWS

ray_data = pytest.importorskip("ray.data")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")  # which warns of itself

from ray import cloudpickle  # noqa: E402 once it is known to be there

from pytest_loaderperf.data.formats.ray_source import ranges  # noqa: E402 likewise

IMAGES = np.arange(1000 * 300, dtype=np.float32).reshape(1000, 10, 30)  # 1.2 MB
TABLE = pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES), "label": np.arange(1000)})


def source_of(path, *given, **options):
    with closing(open_table(path, *given, **options)) as table:
        return table.to_ray()


def rows_of(tasks):
    """What tasks read after they were sent to another process."""
    sent = pickle.loads(cloudpickle.dumps(tasks))  # noqa: S301 our own
    return pa.concat_tables([block for task in sent for block in task()])


@pytest.fixture
def parquet(tmp_path):
    """A file of four row groups of 250 rows."""
    pq.write_table(TABLE, tmp_path / "rows.parquet", row_group_size=250)
    return tmp_path / "rows.parquet"


@pytest.mark.parametrize("name", HOLDS)
def test_tasks_read_all_rows_in_order(name, tmp_path):
    for kind in {"tensors", "nested", "permuted"} & set(HOLDS[name]):
        path = tmp_path / f"{kind}{FORMATS[name].suffix}"
        write_table(KINDS[kind], path, name)
        for parallelism in (1, 3):
            tasks = source_of(path, name).get_read_tasks(parallelism)
            got = rows_of(tasks)
            assert got.schema.equals(KINDS[kind].schema, check_metadata=True)
            assert got.equals(KINDS[kind])
            assert all(task.schema.equals(KINDS[kind].schema, check_metadata=True) for task in tasks)
            assert sum(task.metadata.num_rows for task in tasks) == ROWS


@pytest.mark.parametrize("name", ["arrow", "npy", "safetensors"])
def test_blocks_of_mapped_formats_are_not_copied(name, tmp_path):
    path = tmp_path / f"rows{FORMATS[name].suffix}"
    write_table(TABLE, path, name)
    tasks = source_of(path, name).get_read_tasks(4)
    assert [task.metadata.num_rows for task in tasks] == [250] * 4
    before = pa.total_allocated_bytes()
    blocks = [block for task in tasks for block in task()]
    assert pa.total_allocated_bytes() - before < TABLE.nbytes / 100
    assert pa.concat_tables(blocks).equals(TABLE)


def test_a_decoded_row_group_is_not_copied_again(parquet):
    tasks = source_of(parquet).get_read_tasks(4)
    gc.collect()
    before = pa.total_allocated_bytes()
    (block,) = tasks[2]()
    until = time.monotonic() + 5  # threads of Arrow, which may still hold what they read
    while pa.total_allocated_bytes() - before >= 1.1 * TABLE.nbytes / 4 and time.monotonic() < until:
        time.sleep(0.01)
    assert pa.total_allocated_bytes() - before < 1.1 * TABLE.nbytes / 4
    assert block.equals(TABLE.slice(500, 250))


@pytest.mark.parametrize("parallelism, rows", [(1, [1000]), (2, [500, 500]), (3, [250] * 4), (100, [250] * 4)])
def test_a_row_group_is_read_by_one_task(parquet, parallelism, rows):
    assert [task.metadata.num_rows for task in source_of(parquet).get_read_tasks(parallelism)] == rows


def test_files_that_are_read_from_the_beginning_are_one_task_each(tmp_path):
    np.savez(tmp_path / "rows.npz", x=np.arange(100))
    (tmp_path / "texts").mkdir()
    for file in ("a.csv", "b.csv"):
        pacsv.write_csv(pa.table({"x": np.arange(100)}), tmp_path / "texts" / file)
    for path, rows in (("rows.npz", [100]), ("texts/a.csv", [100]), ("texts", [100, 100])):
        tasks = source_of(tmp_path / path).get_read_tasks(8)
        assert [task.metadata.num_rows for task in tasks] == rows
        assert rows_of(tasks)["x"].to_pylist() == [*range(100)] * len(rows)


def test_a_folder_is_read_across_its_files(tmp_path):
    (tmp_path / "rows").mkdir()
    for number in range(3):
        write_table(TABLE.slice(number * 300, 300), tmp_path / "rows" / f"{number}.arrow")
    tasks = source_of(tmp_path / "rows").get_read_tasks(2)
    assert [task.metadata.num_rows for task in tasks] == [450, 450]
    assert rows_of(tasks).equals(TABLE.slice(0, 900))


def test_blocks_are_as_large_as_ray_asks(tmp_path):
    write_table(TABLE, tmp_path / "rows.arrow")
    context = ray_data.DataContext()
    context.target_max_block_size = TABLE.nbytes // 10
    (task,) = source_of(tmp_path / "rows.arrow").get_read_tasks(1, data_context=context)
    assert [len(block) for block in task()] == [100] * 10
    (task,) = source_of(tmp_path / "rows.arrow").get_read_tasks(1, per_task_row_limit=150, data_context=context)
    assert sum(len(block) for block in task()) == 150


def test_the_size_is_estimated_from_the_first_rows(tmp_path):
    write_table(TABLE, tmp_path / "rows.arrow")
    write_table(TABLE.slice(0, 0), tmp_path / "none.arrow")
    assert source_of(tmp_path / "rows.arrow").estimate_inmemory_data_size() == TABLE.nbytes
    empty = source_of(tmp_path / "none.arrow")
    assert (empty.estimate_inmemory_data_size(), empty.get_read_tasks(4)) == (0, [])


def test_only_selected_columns_are_read(parquet):
    source = source_of(parquet)
    assert source.supports_projection_pushdown()
    tasks = source.apply_projection({"label": "label"}).get_read_tasks(2)
    assert tasks[0].schema.names == ["label"]
    assert rows_of(tasks).equals(TABLE.select(["label"]))
    (task,) = source.apply_projection({}).get_read_tasks(1)
    assert [(len(block), block.num_columns) for block in task()] == [(1000, 0)]


def test_a_task_runs_in_any_folder(parquet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tasks = source_of("rows.parquet").get_read_tasks(1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert rows_of(tasks).equals(TABLE)


def test_pictures_are_decoded_in_the_tasks(tmp_path):
    for number in range(4):
        Image.new("RGB", (6, 5), (number, 0, 0)).save(tmp_path / f"{number}.png")
    tasks = source_of(tmp_path, size=(5, 6)).get_read_tasks(2)
    images = rows_of(tasks)["image"].combine_chunks().to_numpy_ndarray()
    assert images.shape[0] == 4
    assert images.reshape(4, -1).max(axis=1).tolist() == [0, 1, 2, 3]


def test_a_file_that_a_node_lacks_is_named(parquet):
    (task,) = source_of(parquet).get_read_tasks(1)
    parquet.unlink()
    with pytest.raises(DataError, match=r"rows\.parquet is missing\. Give a path that exists"):
        list(task())


def test_a_table_in_memory_is_refused(tmp_path):
    Image.new("RGB", (6, 5)).save(tmp_path / "one.png")
    pictures = open_pictures(pa.table({"image": [(tmp_path / "one.png").read_bytes()]}))
    with pytest.raises(DataError, match=r"expected a table on disk, .*, got one in memory\..*ray\.data\.from_arrow"):
        pictures.to_ray()


def test_a_closed_table_is_refused(parquet):
    table = open_table(parquet)
    table.close()
    with pytest.raises(DataError, match="was closed"):
        table.to_ray()


def test_without_ray_the_install_command_is_named(parquet, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with closing(open_table(parquet)) as table, pytest.raises(DataError, match=r"pip install .*\[ray\]"):
        table.to_ray()


@pytest.mark.parametrize(
    "ends, most, expected",
    [
        (None, 4, [(0, 4), (4, 8), (8, 10)]),
        ([3, 6, 10], 4, [(0, 3), (3, 6), (6, 10)]),
        ([3, 6, 10], 6, [(0, 6), (6, 10)]),
        ([9, 10], 2, [(0, 9), (9, 10)]),
        ([0, 2, 2, 10], 1, [(0, 2), (2, 10)]),
        ([10], 100, [(0, 10)]),
    ],
)
def test_ranges_end_where_chunks_end(ends, most, expected):
    assert list(ranges(0, 10, None if ends is None else np.array(ends), most)) == expected
