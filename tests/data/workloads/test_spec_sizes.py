"""Specs that nobody can make, or that are no specs: refused at once, in words."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pytest_loaderperf.data import workload
from pytest_loaderperf.data.workloads.draws import Draws
from pytest_loaderperf.data.workloads.make import make
from pytest_loaderperf.data.workloads.spec import load_spec
from pytest_loaderperf.errors import DataError

ARRAYS = 'factory = "arrays"\nsamples = 10\n'
MOST = 2**31 - 1


def refused(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    began_s = time.monotonic()
    with pytest.raises(DataError) as caught:
        load_spec(str(path))
    assert time.monotonic() - began_s < 5
    assert len(str(caught.value)) < 2000
    return str(caught.value)


@pytest.mark.parametrize(
    "text, words",
    [
        (f"{ARRAYS}shape = {'[' * 3000}{']' * 3000}", "expected plain values and lists, got lists nested deep."),
        (f"{ARRAYS}shape = {'[' * 200}{']' * 200}", "shape: expected a list of integers of at least 1, got "),
        (f"{ARRAYS}shape = [{'{a = ' * 3000}", "expected plain values and lists, got lists nested deep."),
        (f"{ARRAYS}shape = [4294967296, 4294967296]", f"expected at most {MOST:,} values in one sample, got 18446"),
        (f"{ARRAYS}shape = [65536, 32767]\ndtype = 'float64'", "expected at most 4,294,967,296 bytes for one sample"),
        (f"{ARRAYS}shape = [{'1, ' * 32}]", "shape: expected a list of at most 31 sizes, got [1, 1, 1, 1, 1, 1,"),
        (f"{ARRAYS}shape = [8, -8]", "shape: expected a list of integers of at least 1, got [8, -8]."),
        (f"{ARRAYS}shape = [true]", "shape: expected a list of integers of at least 1"),
        (f"{ARRAYS}shape = [nan]", "shape: expected a list of integers of at least 1, got [nan]."),
        (f"{ARRAYS}shape = 1979-05-27", "shape: expected a list of sizes, got datetime.date(1979, 5, 27)."),
        (f"{ARRAYS}shape = [8]\nseed = {'9' * 60}", "seed: expected an integer below 2**128, got "),
        (f"{ARRAYS}shape = [8]\nbatch_size = {'9' * 60}", "batch_size: expected an integer of at most 1,099,511,627"),
        (f"{ARRAYS}shape = [8]\nclasses = {'9' * 5000}", "is not TOML: Exceeds the limit"),
        (f"{ARRAYS}shape = [8]\n{'k' * 100_000} = 1", "unknown keys: kkkk"),
        ('factory = "arrays"\nsamples = 1000000000000\nshape = [8000]', "expected at most 1,125,899,906,842,624"),
        ('factory = "tokens"\nsamples = 9\nlengths = [1, 1099511627776]\nvocabulary = 9', "at most 2,147,483,647"),
        ('factory = "tables"\nsamples = 9\ncolumns = {"" = "int8"}', "columns: expected a table of names, which are t"),
        ('factory = "tiffs"\nsamples = 9\nshape = [8, 8]\nfolder = "a\\u0000b"', "folder: expected the path of a f"),
        (b"\xff\xfe", "is not TOML: 'utf-8' codec can't decode byte 0xff"),
        (b"x" * (2 << 20), "expected at most 1,048,576 bytes of TOML, got 2,097,152."),
    ],
)  # fmt: skip
def test_a_spec_that_nobody_can_make_is_refused_at_once(tmp_path, text, words):
    assert words in refused(tmp_path, text)


def test_a_folder_and_a_name_that_is_none_are_no_specs(tmp_path):
    (tmp_path / "mine.toml").mkdir()
    for name in (str(tmp_path / "mine.toml"), "a\0b.toml", f"{'x' * 5000}.toml"):
        with pytest.raises(DataError, match=r"no workload spec at|cannot be read"):
            load_spec(name)


def test_names_of_fields_can_be_written():
    with pytest.raises(DataError, match="inputs: expected a list of names, got"):
        workload(factory="volumes", samples=2, shape=[2, 2, 2], inputs=["a\udc80"], targets=["b"])


def test_a_value_that_is_nested_deep_is_shown_shortened():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(DataError, match="shape: expected a list of integers of at least 1, got "):
        workload(factory="arrays", samples=2, shape=[deep])


def test_samples_that_no_memory_or_disk_holds_are_refused_before_any_is_made(tmp_path):
    large = workload(factory="arrays", samples=2**40, shape=[250])
    assert len(large) == 2**40
    with pytest.raises(DataError, match=r"bytes of memory that are available, got 1,\d+,\d+,\d+,\d+,\d+,?\d* for all"):
        large.columns  # noqa: B018 made when it is asked for
    with pytest.raises(
        DataError, match=r"expected a workload that fits the [\d,]+ bytes free on that disk, got one of"
    ):
        make(large, tmp_path / "large.parquet")
    assert list(tmp_path.iterdir()) == []


def test_many_classes_with_weights_take_no_minutes():
    began_s = time.monotonic()
    drawn = Draws(1).weighted([1.0 + i % 7 for i in range(20_000)], 0, 100)
    assert time.monotonic() - began_s < 20
    assert np.all((drawn >= 0) & (drawn < 20_000))
