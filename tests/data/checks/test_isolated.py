from __future__ import annotations

import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pytest_loaderperf.data import check
from pytest_loaderperf.data.checks import isolated
from pytest_loaderperf.data.checks.isolated import CrashedError, Isolated
from pytest_loaderperf.errors import DataError

pytestmark = pytest.mark.usefixtures("quick_start")


def double(value, told=None):
    """Runs in the child, which imports this module by its name."""
    if value == "crash":
        signal.raise_signal(signal.SIGSEGV)  # in this thread, as a library does: a signal to the process may come later
    if value == "exit":
        os._exit(3)
    if value == "fail":
        raise DataError("expected a number, got fail")
    if value == "print":
        os.write(1, b"what a library prints")
    if value == "pid":
        return os.getpid()
    if told is not None:
        told(f"doubling {value}")
    time.sleep(0.01)
    return value * 2


@pytest.fixture
def call():
    with Isolated(double) as isolated:
        yield isolated


def test_results_errors_and_prints_of_the_child(call):
    assert call(4) == 8
    with pytest.raises(DataError, match=r"^expected a number, got fail$"):
        call("fail")
    assert call("print") == "printprint"
    assert call("pid") != os.getpid()


@pytest.mark.parametrize("how, text", [("crash", "SIGSEGV"), ("exit", "status 3")])
def test_a_crash_is_an_error_of_that_call_alone(call, how, text):
    values = [*range(10), how, *range(10, 20), how]

    def outcome(value):
        try:
            return call(value)
        except CrashedError as error:
            return str(error)

    crashed = f"crashes the library that reads it ({text}). Write it again, or give an undamaged file."
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(outcome, values))
    assert outcomes == [crashed if value == how else value * 2 for value in values]


def test_the_child_ends_with_its_parent_object_and_starts_no_earlier_than_needed():
    before = threading.active_count()
    with Isolated(double) as call:
        assert threading.active_count() == before
        pid = call("pid")
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert threading.active_count() == before


def test_what_is_told_comes_before_the_result():
    told = []
    with Isolated(double, told.append) as call:
        assert call(1) == 2
    assert told == ["doubling 1"]


@pytest.fixture
def aborts(tmp_path, monkeypatch):
    """Lets the readers of the child abort on files that say CRASH."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "crashing.py").write_text(
        "import os, pathlib\n"
        "from PIL import Image\n"
        "from pytest_loaderperf.data.checks import images as check_images\n"
        "read = check_images._read\n"
        "def _read(sample):\n"
        "    if b'CRASH' in pathlib.Path(sample.file).read_bytes():\n"
        "        os.abort()\n"
        "    return read(sample)\n"
        "check_images._read = _read\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path / "site"), *sys.path])
    monkeypatch.setattr(isolated, "_CODE", f"import crashing; {isolated._CODE}")


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.usefixtures("aborts")
def test_a_native_crash_is_a_problem_of_its_file_and_the_check_goes_on(workers, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    (tmp_path / "images").mkdir()
    for i in range(12):
        file = tmp_path / "images" / f"{i:02}.tif"
        tifffile.imwrite(file, np.zeros((4, 4), "u1"), description="CRASH" if i in (3, 7) else None)
    result = check(tmp_path / "images", workers=workers)
    what = "crashes the library that reads it (SIGABRT). Write it again, or give an undamaged file."
    assert [(problem.file, problem.what) for problem in result.problems] == [
        (str(tmp_path / "images" / name), what) for name in ("03.tif", "07.tif")
    ]
    assert (result.checked, result.found) == (12, 2)


def test_a_large_image_that_is_good_is_no_problem(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    pillow.new("1", (14000, 13000)).save(tmp_path / "slide.png")
    result = check(tmp_path)
    assert (result.found, result.shape, result.dtype) == (0, (13000, 14000), "bool")


def test_a_table_whose_bytes_make_its_library_fail_is_a_problem_of_the_file(tmp_path):
    import pyarrow as pa

    table = pa.table({"x": ["some", "text", "that is long enough"] * 9})
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    content = bytearray((tmp_path / "a.arrow").read_bytes())
    at = content.index(np.array([0, 4, 8, 27], "<i4").tobytes())
    content[at + 4 : at + 8] = np.array([1 << 30], "<i4").tobytes()
    (tmp_path / "a.arrow").write_bytes(content)
    result = check(tmp_path / "a.arrow")
    assert [problem.file for problem in result.problems] == [str(tmp_path / "a.arrow")]
    assert not result.good
