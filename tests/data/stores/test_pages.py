"""What a library allocated in small pages is copied once into huge ones, where the budget has room for both."""

from __future__ import annotations

import mmap
import sys

import numpy as np
import pyarrow as pa
import pytest

from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.stores import pages, whole
from pytest_loaderperf.data.stores.pages import in_small_pages

SMAPS = """\
10000000-11000000 rw-p 00000000 00:00 0
Size:              16384 kB
Rss:               16384 kB
AnonHugePages:     {huge} kB
VmFlags: rd wr mr mw me ac
20000000-21000000 r--s 00000000 08:01 77                         /data/x.arrow
Rss:               16384 kB
AnonHugePages:         0 kB
"""
HUGE_NBYTES = 8 << 20


class At:
    """An array that only says where it lies."""

    def __init__(self, address, nbytes):
        self.nbytes, self.__array_interface__ = nbytes, {"data": (address, True)}


@pytest.fixture
def told(tmp_path, monkeypatch):
    """``told(smaps, huge)``: what the system says."""

    def tell(smaps, huge="always [madvise] never"):
        for name, text in (("_AREAS", smaps), ("_HUGE", huge)):
            (tmp_path / name).write_text(text)
            monkeypatch.setattr(pages, name, tmp_path / name)

    return tell


@pytest.mark.parametrize("huge, small", [(0, True), (4096, True), (8192, False), (16384, False)])
def test_an_area_of_mostly_huge_pages_is_none(told, huge, small):
    told(SMAPS.format(huge=huge))
    assert in_small_pages([At(0x10000000, HUGE_NBYTES), At(0x20000000, HUGE_NBYTES), At(0x10000000, 4096)]) == [
        small,
        False,  # a mapped file
        False,  # too small to matter
    ]


def test_an_array_that_lies_mostly_elsewhere_is_none(told):
    told(SMAPS.format(huge=0))
    ends = [At(0x11000000 - part, HUGE_NBYTES) for part in (5 << 20, 3 << 20)]
    assert in_small_pages(ends) == [True, False]


def test_without_huge_pages_or_a_word_of_them_nothing_is(told, tmp_path, monkeypatch):
    told(SMAPS.format(huge=0), "always madvise [never]")
    assert in_small_pages([At(0x10000000, HUGE_NBYTES)]) == [False]
    told(SMAPS.format(huge=0))
    monkeypatch.setattr(pages, "_AREAS", tmp_path / "gone")
    assert in_small_pages([At(0x10000000, HUGE_NBYTES)]) == [False]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_that_may_have_no_huge_pages_lies_in_small_ones():
    if "[never]" in pages._HUGE.read_text():
        pytest.skip("the system gives no huge pages")
    memory = mmap.mmap(-1, HUGE_NBYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    array = np.frombuffer(memory, np.uint8)
    memory[:] = b"\1" * HUGE_NBYTES
    assert in_small_pages([array]) == [True]


class TestWhole:
    @pytest.fixture
    def store(self, on_disk, monkeypatch, caplog):
        caplog.set_level("INFO", "pytest_loaderperf")
        monkeypatch.setattr(whole, "in_small_pages", lambda arrays: [array.dtype == np.int64 for array in arrays])
        table = pa.table({"x": np.arange(100), "y": np.arange(100.0), "z": [[i] * (i % 3) for i in range(100)]})
        return lambda **given: optimize(on_disk(table, group=100), **given)

    @pytest.mark.parametrize("cache", ["auto", "whole"])
    def test_it_is_copied_and_that_is_said(self, store, caplog, cache):
        made = store(cache=cache)
        kept = made._kept
        assert (kept["x"].flags.owndata, kept["y"].flags.owndata, kept["z"].values.flags.owndata) == (True, False, True)
        assert made[[3, 99]]["x"].tolist() == [3, 99]
        assert [sample.tolist() for sample in made[[4, 5]]["z"]] == [[4], [5, 5]]
        assert caplog.messages[1:] == [
            f"store: column {name!r}, {nbytes} bytes, is in small memory pages, from which batches take longer: "
            "copied into huge ones"
            for name, nbytes in [("x", 800), ("z", 792)]
        ]

    def test_it_stays_where_the_budget_has_no_room_for_both(self, store, caplog):
        made = store(memory_budget=2500)
        assert not made._kept["x"].flags.owndata
        assert caplog.messages[1].endswith('both exceed the budget, cache="chunked" copies while it reads')
        assert made[99]["x"].item() == 99

    def test_a_table_in_memory_is_never_copied(self, store):
        made = optimize(pa.table({"x": np.arange(100)}))
        assert not made._kept["x"].flags.owndata
