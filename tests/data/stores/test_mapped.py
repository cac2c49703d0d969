from __future__ import annotations

import multiprocessing
import os
import pickle
import resource
import signal
import sys
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.arrays.mapping import FileMapping
from pytest_loaderperf.data.stores import mapped
from pytest_loaderperf.data.stores.source import Source
from pytest_loaderperf.errors import DataError
from tests.data.stores.conftest import OnDisk, ragged, uniform

PATIENCE_S = 180  # two new interpreters import torch on a busy machine; only a failure waits so long


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def store(folder):
    """``store(table)``: the rows of it, mapped."""
    return lambda table, **arguments: optimize(table, cache="mapped", cache_dir=folder, **arguments)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_rows_lie_in_one_file_that_is_mapped(store, folder):
    before = pa.total_allocated_bytes()
    made = store(uniform()[0])
    assert pa.total_allocated_bytes() - before < 1000
    assert files(folder) == [made.path.name]
    assert pa.ipc.open_file(pa.memory_map(str(made.path))).num_record_batches == 1
    image = made.columns.columns[0].rows
    assert not image.flags.writeable
    address = image.ctypes.data
    own = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(made.path) in line]
    ranges = [tuple(int(end, 16) for end in line.split()[0].split("-")) for line in own]
    assert any(start <= address < stop for start, stop in ranges)


@pytest.mark.parametrize("rows_of", [uniform, ragged])
def test_rows_beyond_the_budget_are_the_same(store, rows_of, monkeypatch):
    monkeypatch.setattr(mapped, "BLOCK_NBYTES", 700)
    table, wanted = rows_of()
    unbounded, bounded = store(table), store(table, memory_budget=1000)
    released = []
    monkeypatch.setattr(FileMapping, "release", lambda mapping: released.append(None))
    for kept in (unbounded, bounded, pickle.loads(pickle.dumps(bounded))):  # noqa: S301 made here
        before = len(released)
        batch = kept[[3, 1, 1, 49]]
        assert (len(released) > before) is (kept is not unbounded)
        for name, column in batch.items():
            for sample, index in zip(column, [3, 1, 1, 49], strict=True):
                assert np.array_equal(sample, wanted[name][index])


def test_it_is_written_once_for_as_long_as_the_source_stays(store, folder, on_disk):
    source = on_disk(uniform()[0])
    first = store(source)
    written = first.path.stat().st_mtime_ns
    assert store(source).path == first.path
    assert store(OnDisk(source.path)).path == first.path
    assert first.path.stat().st_mtime_ns == written
    assert source.reads == 0  # by stream alone


def test_a_table_in_memory_is_known_by_its_rows(store):
    table, _ = uniform()
    path = store(table).path
    assert store(pa.concat_tables([table[:20], table[20:]]).combine_chunks()).path == path
    assert store(table[1:]).path != path
    assert store(table, columns=["label"]).path != path


@pytest.mark.parametrize("change", ["time", "size", "name", "schema"])
def test_another_source_has_another_file(store, on_disk, change):
    table, _ = uniform()
    source = on_disk(table)
    path = store(source).path
    if change == "time":
        os.utime(source.path, ns=(1, 1))
    elif change == "name":
        source = on_disk(table, "other.arrow")
    elif change == "size":
        source = on_disk(table[1:])
    else:
        source.schema = source.schema.set(1, source.schema.field(1).with_name("other"))
        source.stream = lambda rows, columns: iter([])
        changed = Source(source, None)
        assert changed.identity(changed.files()) not in path.name
        return
    assert store(source).path != path


def test_a_source_in_a_folder_is_known_by_all_its_files(on_disk, tmp_path):
    source = Source(on_disk(uniform()[0]), None)
    source.table.path = tmp_path / "folder"
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    (tmp_path / "folder" / "deep" / "a.bin").write_bytes(b"1")
    before = source.identity(source.files())
    assert source.identity(source.files()) == before
    (tmp_path / "folder" / "deep" / "b.bin").write_bytes(b"")
    assert source.identity(source.files()) != before


def damage_cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def damage_start(path):
    path.write_bytes(path.read_bytes()[:100])


def damage_empty(path):
    path.write_bytes(b"")


def damage_other(path):
    path.write_text("something else" * 100)


def damage_foreign(path):
    with pa.ipc.new_file(str(path), pa.schema([("x", pa.int8())])):
        pass


def damage_rows(path):
    file = pa.ipc.open_file(pa.BufferReader(path.read_bytes()))
    with pa.ipc.new_file(str(path), file.schema):
        pass


@pytest.mark.parametrize("damage", [damage_cut, damage_start, damage_empty, damage_other, damage_foreign, damage_rows])
@pytest.mark.parametrize("kind", [uniform, ragged])
def test_a_damaged_file_is_written_anew_and_that_is_said_once(store, folder, caplog, damage, kind):
    table, _ = kind()
    made = store(table)
    path, pickled = made.path, pickle.dumps(made)
    damage(path)
    with pytest.raises(DataError) as caught:
        pickle.loads(pickled)  # noqa: S301 made here
    assert str(caught.value).startswith(f"the cache {path} cannot be read (")
    for _ in range(2):
        assert store(table)[[7]]["label"].tolist() == [7]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"the cache {path} cannot be read (")
    assert warnings[0].endswith("Expected what optimize wrote there; call it again. It is written again.")


def test_pickled_it_is_a_path(store):
    made = store(uniform(500)[0])
    data = pickle.dumps(made)
    assert len(data) < 1000
    assert pickle.loads(data).path == made.path  # noqa: S301 made here


def test_a_full_disk_is_an_error_that_leaves_the_old_file_as_it_was(store, folder):
    table, _ = uniform(2000)
    old = store(uniform()[0])
    old_bytes = old.path.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    was = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))  # the system itself refuses to write on
    try:
        with pytest.raises(DataError) as caught:
            store(table)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, was)
    assert str(caught.value).startswith(f"{folder}{os.sep}loaderperf-cache-2-")
    assert "cannot be written: " in str(caught.value)
    assert str(caught.value).endswith(
        "File too large. What was there before is unchanged; "
        'free some space, or give another cache_dir, or cache="lru", which needs no disk.'
    )
    assert files(folder) == [old.path.name]
    assert old.path.read_bytes() == old_bytes


def test_what_a_killed_build_left_goes_with_the_next_use_of_the_file(store, folder):
    table, _ = uniform()
    path = store(table).path
    left = folder / f".{path.name}.abcd"
    left.mkdir()
    (left / ".writing").touch()
    store(table)
    assert files(folder) == [path.name]


def test_a_file_that_cannot_take_its_place_leaves_nothing(store, folder, monkeypatch):
    def fail(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DataError, match="No space left on device"):
        store(uniform()[0])
    assert files(folder) == []


def test_an_error_of_the_source_leaves_nothing(store, folder, on_disk):
    source = on_disk(uniform()[0])
    good = source.stream

    def broken(rows, columns):
        yield from list(good(rows, columns))[:3]
        raise DataError("the file is broken in row 21")

    source.stream = broken
    with pytest.raises(DataError, match="broken in row 21"):
        store(source)
    assert files(folder) == []


def build(path, folder, start, done):
    start.wait(PATIENCE_S)
    made = optimize(OnDisk(path), cache="mapped", cache_dir=folder)
    total = int(made[list(range(len(made)))]["label"].sum())
    facts = next(m for m in psutil.Process().memory_maps() if str(made.path) in m.path)
    done.put((total, made.path.name, facts.rss, facts.shared_clean + facts.private_clean, facts.private_dirty))


@pytest.mark.slow
def test_two_processes_may_build_it_at_once_and_share_it(folder, on_disk):
    source = on_disk(uniform(5000)[0], group=500)
    own = multiprocessing.get_context("spawn")
    start, done = own.Event(), own.Queue()
    builders = [own.Process(target=build, args=(source.path, folder, start, done)) for _ in range(2)]
    for builder in builders:
        builder.start()
    start.set()
    results = [done.get(timeout=PATIENCE_S) for _ in builders]
    for builder in builders:
        builder.join(PATIENCE_S)
    assert {total for total, *_ in results} == {sum(range(5000))}
    assert len({name for _, name, *_ in results}) == 1
    assert files(folder) == [results[0][1]]
    if sys.platform == "linux":
        for _, _, resident, clean, dirty in results:
            assert (resident, dirty) == (clean, 0)  # nobody has a copy of any page


def test_rows_in_several_blocks_are_read_as_those_in_one(store, monkeypatch):
    for kind in (uniform, ragged):
        table, _ = kind()
        one = store(table)
        monkeypatch.setattr(mapped, "BLOCK_NBYTES", 600)
        monkeypatch.setattr(mapped, "LAYOUT", b"other")
        several = store(table)
        assert pa.ipc.open_file(str(several.path)).num_record_batches > 2
        indices = np.random.default_rng(0).integers(0, len(table), 200).tolist()
        for ours, theirs in zip(several[indices].values(), one[indices].values(), strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
        monkeypatch.undo()


def test_by_default_caches_lie_with_those_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert optimize(uniform()[0], cache="mapped").path.parent == tmp_path / "loaderperf"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert mapped.default_folder() == tmp_path / ".cache" / "loaderperf"
