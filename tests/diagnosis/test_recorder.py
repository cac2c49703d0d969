"""What the recorder keeps of calls: repeats, copies, scans, files and random states."""

from __future__ import annotations

import copy
import pickle
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from types import MethodType

import numpy as np
import pandas as pd
import pytest
import torch

from pytest_loaderperf.diagnosis.passes.description import describe
from pytest_loaderperf.diagnosis.passes.naming import callee_name, user_code
from pytest_loaderperf.diagnosis.passes.recorder import Recorder
from pytest_loaderperf.diagnosis.passes.values import digest


@pytest.fixture
def recorder():
    made = Recorder()
    made.starting = False
    return made


def one(recorder, kind="call"):
    """A number of a site, and how to read it."""
    number = recorder.register("file.py", kind, 7, "function")
    return number, lambda: next(site for site in recorder.sites() if site["line"] == 7)


def test_calls_with_equal_arguments_and_results_are_known(recorder):
    number, seen = one(recorder)
    text = "[1, 2, 3]"
    for _ in range(6):
        recorder.call(number, eval, text)
    assert (seen()["count"], seen()["known"], seen()["equal"], seen()["compared"]) == (6, 5, 5, 5)


def test_calls_with_other_arguments_are_not_known(recorder):
    number, seen = one(recorder)
    for i in range(6):
        recorder.call(number, str, i)
    assert (seen()["known"], seen()["alike"]) == (0, 1)


def test_random_results_are_not_equal(recorder):
    number, seen = one(recorder)
    for _ in range(6):
        recorder.call(number, np.random.default_rng().random, 4)
    assert seen()["equal"] == 0


def test_counts_go_on_where_looking_ends(recorder):
    number, seen = one(recorder)
    for _ in range(500):
        recorder.call(number, len, "abc")
    assert (seen()["count"], seen()["looked_at"]) == (500, 64)


def test_a_copy_that_is_modified_later_is_not_kept(recorder):
    number, seen = one(recorder)
    source = torch.arange(8.0)
    copies = [recorder.call(number, source.clone) for _ in range(3)]
    copies[0].add_(1)
    assert (seen()["kept"], seen()["checked"]) == (2, 3)


def test_copies_of_a_buffer_that_is_filled_again_are_not_kept(recorder):
    number, seen = one(recorder)
    buffer = np.zeros(8)
    for i in range(3):
        buffer[:] = i
        recorder.call(number, buffer.copy)
    assert seen()["kept"] == 1  # the last, which is still equal to the buffer


def test_a_copy_of_a_part_of_a_temporary_array_is_not_kept(recorder):
    number, seen = one(recorder)
    for _ in range(3):
        recorder.call(number, torch.rand(64)[:8].clone)
    assert (seen()["kept"], seen()["checked"]) == (0, 3)


def test_a_deep_copy_is_known_by_its_arrays(recorder):
    number, seen = one(recorder)
    sample = {"image": torch.rand(4)}
    recorder.call(number, copy.deepcopy, sample)["image"] = "replaced"
    assert seen()["kept"] == 1


def test_joining_what_was_joined_before_grows(recorder):
    number, seen = one(recorder)
    joined = torch.zeros(1)
    for _ in range(5):
        joined = recorder.call(number, torch.cat, [joined, torch.ones(1)])
    assert seen()["grows"] == 4


def test_a_persistent_operand_and_a_single_value_are_a_scan(recorder):
    number, seen = one(recorder, "operator")
    ids = np.arange(1000)
    for i in range(4):
        recorder.operate(number, "Eq", ids, i)
    assert (seen()["callee"], seen()["same_operand"], seen()["scans"], seen()["largest"]["items"]) == ("Eq", 3, 4, 1000)


@pytest.mark.parametrize(
    "value, items, nested",
    [
        ({"ids": [[1] * 30, [2] * 30], "label": [0, 1]}, 2, 2 + 2 + 60 + 2),
        ([{"ids": [1] * 30}] * 100, 100, 100 + 100 + 3000),
        ({"text": "a long text"}, 1, 1),
        ([1, 2, 3], 3, 3),
    ],
)
def test_lists_and_dicts_are_described_with_what_is_inside_them(value, items, nested):
    assert (describe(value).items, describe(value).nested) == (items, nested)


def test_columns_of_a_table_are_known_although_they_are_new_objects(recorder):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"user": range(300), "name": list("abc") * 100})
    for column, value in (("user", 7), ("name", "b")):
        number = recorder.register("file.py", "operator", 7, column)
        for _ in range(5):
            recorder.operate(number, "Eq", table[column], value)
    for name, key in (("iloc", [3, 4]), ("loc", (table["user"] == 3, "user"))):
        number = recorder.register("file.py", "item", 7, name)
        for _ in range(5):
            recorder.item(number, getattr(table, name), key)
    others = recorder.register("file.py", "operator", 7, "others")
    for i in range(5):
        recorder.operate(others, "Eq", pandas.Series(range(i, i + 300)), 7)
    seen = {site["function"]: site for site in recorder.sites()}
    assert {name: site["same_operand"] for name, site in seen.items()} == {
        "user": 4,
        "name": 4,
        "iloc": 4,
        "loc": 4,
        "others": 0,
    }
    assert seen["loc"]["dtypes"] == ("bool",)
    assert seen["iloc"]["argument"]["nbytes"] == describe(table).nbytes > 0
    assert describe(table[["user"]]).nbytes == 300 * 8


@pytest.mark.parametrize(
    "function, name",
    [
        (pickle.loads, "pickle.loads"),
        (sqlite3.connect, "sqlite3.connect"),
        (ThreadPoolExecutor, "concurrent.futures.ThreadPoolExecutor"),
        (np.random.default_rng, "numpy.random.default_rng"),
        (torch.utils.data.DataLoader, "torch.utils.data.DataLoader"),
        (open, "io.open"),
        (Path().read_text, "pathlib.Path.read_text"),
        (len, "builtins.len"),
    ],
)
def test_a_callee_is_named_as_users_import_it(function, name):
    assert callee_name(function, getattr(function, "__self__", None)) == name


class Scale:
    def __init__(self, by):
        self.by = by

    def __call__(self, value):
        return value * self.by


def test_objects_that_are_made_and_called_in_one_line_are_two_callees(recorder):
    number = recorder.register("file.py", "call", 7, "function")
    for i in range(80):
        recorder.call(number, recorder.call(number, Scale, 2), i)
    seen = {site["callee"].removeprefix(__name__): site["count"] for site in recorder.sites()}
    assert seen == {".Scale": 80, ".Scale.__call__": 80}
    assert len(recorder.sites()) == 2  # not one for each object


def test_a_list_is_looked_at_again_when_it_has_grown(recorder):
    number, seen = one(recorder)
    used = []
    for i in range(1024):
        recorder.operate(number, "NotIn", i, used)
        used.append(i)
    assert (seen()["largest"]["items"], seen()["same_operand"]) == (1023, 62)


@pytest.mark.parametrize("chunks, nbytes", [((8, 100), 8 * 100 * 4), (None, 0), (((4, 4), (100,)), 0)])
def test_an_array_on_disk_is_described_with_its_chunks(chunks, nbytes):
    held = {"__module__": "h5py", "chunks": chunks, "dtype": np.dtype("float32"), "nbytes": 1 << 21}
    stored = type("Dataset", (), held | {"__len__": lambda _self: 1 << 12})()
    assert (describe(stored).chunk_nbytes, describe(stored).nbytes) == (nbytes, 1 << 21)


def parsed(path):
    return path.read_text()


@pytest.mark.parametrize(
    "wrapped",
    [parsed, lru_cache(parsed), partial(parsed), partial(lru_cache(parsed)), MethodType(lru_cache(parsed), "x.txt")],
    ids=["plain", "lru_cache", "partial", "both", "method"],
)
def test_a_function_of_the_user_is_known_through_its_wrappers(wrapped):
    code = parsed.__code__
    assert user_code(wrapped) == f"{code.co_filename}:{code.co_firstlineno}"
    assert not user_code(lru_cache(len))
    assert not user_code(partial(np.load, mmap_mode="r"))


@pytest.mark.parametrize("name, opens", [("open", 1), ("read_bytes", 1), ("read_text", 1), ("exists", 0), ("stat", 0)])
def test_a_path_that_is_opened_by_its_own_method_is_counted(recorder, tmp_path, name, opens):
    number, seen = one(recorder)
    (tmp_path / "a.txt").write_text("a")
    done = recorder.call(number, getattr(tmp_path / "a.txt", name))
    if name == "open":
        done.close()
    assert (seen()["path_calls"], seen()["paths"]) == (opens, opens)


def test_files_among_the_arguments_are_counted(recorder, tmp_path):
    number, seen = one(recorder)
    files = [tmp_path / name for name in ("a.npy", "b.npy")]
    for file in files:
        np.save(file, np.zeros(2))
    for i in range(6):
        recorder.call(number, np.load, files[i % 2])
    assert (seen()["path_calls"], seen()["paths"]) == (6, 2)


def test_the_state_of_a_generator_that_is_used_again_is_kept(recorder):
    number, seen = one(recorder)
    rng = np.random.default_rng(3)
    recorder.call(number, rng.random)
    assert seen()["random_states"] == ()
    recorder.call(number, rng.random)
    assert len(seen()["random_states"]) == 1


def test_time_of_calls_inside_is_not_a_calls_own(recorder):
    outer, _ = one(recorder)
    inner = recorder.register("file.py", "call", 8, "function")
    recorder.call(outer, lambda: recorder.call(inner, sum, range(100_000)))
    sites = {site["line"]: site for site in recorder.sites()}
    assert sites[7]["own_ns"] < sites[8]["total_ns"] <= sites[7]["total_ns"]


def test_a_call_that_raises_is_counted_and_raises(recorder):
    number, seen = one(recorder)
    with pytest.raises(ValueError, match="invalid"):
        recorder.call(number, int, "x")
    assert seen()["count"] == 1


def test_calls_of_other_threads_are_counted_as_theirs(recorder):
    number, seen = one(recorder)
    thread = threading.Thread(target=recorder.call, args=(number, len, "a"))
    thread.start()
    thread.join()
    assert (seen()["count"], seen()["in_helper_thread"]) == (1, 1)


def test_values_are_not_read_by_the_users_own_methods(recorder):
    class Rows(list):
        read = 0

        def __iter__(self):
            Rows.read += 1
            return super().__iter__()

    number, seen = one(recorder)
    for _ in range(3):
        recorder.call(number, id, Rows([1, 2]))
    assert (Rows.read, seen()["count"]) == (0, 3)


@pytest.mark.parametrize(
    ("callee", "call"),
    [
        ("torch.tensor", lambda r, n: r.call(n, torch.tensor, [1])),
        ("torch.Tensor.clone", lambda r, n: r.call(n, torch.ones(1).clone)),
        ("numpy.ndarray.astype", lambda r, n: r.call(n, np.ones(1).astype, np.float64)),
        ("list.index", lambda r, n: r.call(n, [1].index, 1)),
        ("numpy.concatenate", lambda r, n: r.call(n, np.concatenate, [np.ones(1)])),
        ("builtins.len", lambda r, n: r.call(n, len, "")),
        ("dict.__getitem__", lambda r, n: r.item(n, {1: 2}, 1)),
        ("dict.__setitem__", lambda r, n: r.store(n, 2, {}, 1)),
    ],
)
def test_callees_have_the_names_that_users_write(recorder, callee, call):
    number, seen = one(recorder)
    call(recorder, number)
    assert seen()["callee"] == callee


@pytest.mark.parametrize(
    ("value", "other"),
    [
        (np.arange(3), np.arange(3, dtype=np.int32)),
        (torch.zeros(2, 3), torch.zeros(3, 2)),
        ({"a": [1, 2]}, {"a": [1, 3]}),
        ("a", b"a"),
        ((1, 2), (1, 2, 3)),
        (np.zeros(1 << 20), np.ones(1 << 20)),
    ],
)
def test_digests_are_equal_for_equal_values_only(value, other):
    assert digest(value) == digest(copy.deepcopy(value))
    assert digest(value) != digest(other)


def test_a_view_larger_than_its_memory_is_not_copied():
    view = np.lib.stride_tricks.sliding_window_view(np.zeros(1 << 20), 1 << 19)
    assert digest(view) is not None


def test_values_are_described():
    assert (describe(np.ones((2, 3), np.float32)).dtype, describe(torch.ones(2, 3)).items) == ("float32", 6)
    assert describe([[1.0, 2.0], [3.0, 4.0]]).numbers
    assert describe([[1.0, 2.0], [3.0, 4.0]]).items == 4
    assert not describe(["a"]).numbers
    assert not describe(np.ones(4)[::-1]).shareable


@pytest.mark.parametrize("power", [1, 2])
def test_the_time_of_what_grows_has_an_exponent(recorder, power):
    number, seen = one(recorder)
    for size in range(1, 10):
        recorder._keep(number, bytes, (), bytes(100 * size), 1_000 * size**power, 0)
    assert seen()["exponent"] == pytest.approx(power)


@pytest.mark.parametrize("sizes", [[100] * 9, [100, 200, 400], [100 + n for n in range(9)]])
def test_without_enough_sizes_there_is_no_exponent(recorder, sizes):
    number, seen = one(recorder)
    for size in sizes:
        recorder._keep(number, bytes, (), bytes(size), size, 0)
    assert seen()["exponent"] == 0


def test_a_line_knows_the_lines_that_run_it(recorder):
    outer, inner = (recorder.register("file.py", "call", line, "function") for line in (7, 8))
    made = recorder.register("file.py", "comprehension", 9, "function")

    def listed():
        began = recorder.begin()
        return recorder.made(made, began, [recorder.call(inner, len, "abc")])

    recorder.call(outer, sorted, "ba", key=lambda _: listed())
    recorder.call(inner, len, "abc")
    assert {site["line"]: site["within"] for site in recorder.sites()} == {7: (), 8: ("file.py:7",), 9: ("file.py:7",)}


def test_what_raises_leaves_nothing_running(recorder):
    number, _ = one(recorder)
    other = recorder.register("file.py", "call", 8, "function")

    def fails():
        recorder.begin()
        raise ValueError("no value")

    with pytest.raises(ValueError, match="no value"):
        recorder.call(number, fails)
    recorder.call(other, len, "abc")
    assert [site["within"] for site in recorder.sites()] == [(), ()]


def test_a_container_is_measured_after_each_epoch(recorder):
    number, seen = one(recorder)
    kept = []
    for _ in range(3):
        recorder.call(number, kept.append, 1)
        recorder.epoch_ended()
    assert seen()["held"] == (1, 2, 3)


@pytest.mark.parametrize("write", [pickle.dump, torch.save])
def test_a_state_that_is_written_grows_as_what_is_returned_does(recorder, write, tmp_path):
    number, seen = one(recorder)
    state = {"seen": [0]}
    for n in range(6):
        state["seen"].append(n)
        with (tmp_path / "state").open("wb") as file:
            recorder.call(number, write, state, file)
    assert seen()["growing"] == 5


def test_results_of_pandas_are_compared(recorder):
    number, seen = one(recorder)
    times = pd.date_range("2024-01-01", periods=600, freq="min")
    rows = pd.DataFrame({"t": times.strftime("%H:%M"), "x": np.arange(600)}, index=times)
    for _ in range(6):
        recorder.call(number, rows.resample("1h").agg, {"x": "mean"})
    assert (seen()["alike"], seen()["looked_at"]) == (6, 6)
    parsed, _ = one(recorder)
    for _ in range(6):
        recorder.call(parsed, pd.to_datetime, rows["t"], format="%H:%M")
    again = next(site for site in recorder.sites() if site["callee"].endswith("to_datetime"))
    assert (again["known"], again["equal"], again["compared"]) == (5, 5, 5)
