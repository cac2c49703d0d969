from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from pytest_loaderperf.data.arrays import mapping
from pytest_loaderperf.data.arrays.mapping import FileMapping

NBYTES = 8 << 20


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows"
    path.write_bytes(np.arange(NBYTES, dtype=np.uint8).tobytes())
    return path


def resident_nbytes(path):
    """Of the file, in this process's memory."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        if line.endswith(str(path)):
            return next(int(fact.split()[1]) << 10 for fact in lines if fact.startswith("Rss:"))
    return 0


needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@needs_proc
@pytest.mark.parametrize("most_nbytes, bounded", [(None, False), (NBYTES, False), (2 << 20, True), (1, True)])
def test_no_more_than_the_limit_stays_in_the_process(file, most_nbytes, bounded):
    found = FileMapping(file, most_nbytes)
    assert found.bounded is bounded
    array, most = np.frombuffer(found.buffer, np.uint8), 0
    total, step = 0, 1 << 19
    for start in range(0, NBYTES, step):
        total += int(array[start : start + step].sum())
        found.note_read(step, 1)
        most = max(most, resident_nbytes(file))
    assert total == int(np.arange(NBYTES, dtype=np.uint8).sum())
    assert most <= most_nbytes + (2 << 20) if bounded else most == NBYTES


@needs_proc
def test_single_places_count_for_what_the_system_maps_around_them(file):
    bounded = FileMapping(file, 4 << 20)
    array = np.frombuffer(bounded.buffer, np.uint8)
    places = np.random.default_rng(0).permutation(NBYTES)[:200]
    for number, place in enumerate(places.tolist()):
        assert array[place] == place % 256
        bounded.note_read(1, 1)
        if number % 10 == 9:  # what the system tells costs 20 ms
            assert resident_nbytes(file) <= 4 << 20


def test_where_the_system_tells_nothing_pages_leave_all_the_sooner(file, monkeypatch):
    monkeypatch.setattr(mapping, "_STATM", file.with_name("none"))
    released = []
    monkeypatch.setattr(FileMapping, "release", lambda mapping: released.append(None))
    bounded = FileMapping(file, 4 << 20)
    for times in (0, 1, 1, 2):
        bounded.note_read(3 << 18, 0)
        assert len(released) == times


def test_an_empty_file_and_one_that_is_not_there_are_errors(tmp_path):
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="empty"):
        FileMapping(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        FileMapping(tmp_path / "none")


def test_the_memory_lives_as_long_as_a_view_of_it(file):
    array = np.frombuffer(FileMapping(file).buffer, np.uint8)
    file.unlink()
    assert int(array[-1]) == (NBYTES - 1) % 256
