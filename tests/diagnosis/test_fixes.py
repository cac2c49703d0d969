"""What a fixed line would give, in place of what it calls."""

from __future__ import annotations

import copy
import io
import itertools
import pickle
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from pytest_loaderperf.diagnosis.passes import fixes
from pytest_loaderperf.diagnosis.passes.changes import Change, Changed
from pytest_loaderperf.diagnosis.passes.fixes import Growing, Once, Own, Replay, Slept, kept, rewound
from pytest_loaderperf.diagnosis.passes.naming import callee_name
from pytest_loaderperf.diagnosis.passes.narrowing import narrow, narrowly, unwidened


def changed(rule, function):
    return Changed(Change(rule, "data.py", 7, callee_name(function, getattr(function, "__self__", None))))


def asked(once, arguments):
    """What was made for each of ``arguments``."""
    made = []
    for argument in arguments:
        once((argument,), lambda argument=argument: made.append(argument))
    return made


def test_equal_arguments_are_answered_once():
    assert asked(Once(), [1, 2, 1, 1, 2, 3] * 3) == [1, 2, 3]


def test_one_result_for_all_is_given_without_looking_at_arguments():
    once = Once()
    assert asked(once, [1] * 8) == [1]
    assert once.settled
    assert asked(once, [2]) == []


def test_arguments_that_never_come_again_have_one_result():
    once = Once()
    assert asked(once, range(20)) == list(range(8))
    assert once((99,), lambda: "new") is once.only


def test_a_file_stays_open_and_is_read_from_its_start(tmp_path):
    (tmp_path / "rows").write_text("a\nb")
    file = kept((tmp_path / "rows").open())
    with file as opened:
        assert list(opened) == ["a\n", "b"]
    file.close()
    assert rewound(file).read() == "a\nb"
    file._opened.close()


def test_an_archive_stays_open(tmp_path):
    with zipfile.ZipFile(tmp_path / "rows.zip", "w") as archive:
        archive.writestr("a", "1")
    probe = changed("file-reopened", zipfile.ZipFile)
    for _ in range(3):
        with probe.call(1, zipfile.ZipFile, tmp_path / "rows.zip") as archive:
            assert archive.read("a") == b"1"
    assert probe.used


def test_what_cannot_be_closed_is_kept_as_it_is():
    rows = np.arange(3)
    assert rewound(kept(rows)) is rows
    assert kept(io.BytesIO(b"12")).getvalue() == b"12"


@pytest.mark.parametrize(
    ("name", "function", "first", "piece"),
    [
        ("cat", torch.cat, torch.zeros(1, 3), torch.ones(2, 3)),
        ("concatenate", np.concatenate, np.zeros((1, 3)), np.ones((2, 3))),
        ("append", np.append, np.zeros(2), np.ones(3)),
    ],
)
def test_pieces_are_joined_as_the_function_joins_them(name, function, first, piece):
    grow, batch, expected = Growing(Own()), first, first
    for n in range(6):
        one = (piece + n,)
        args = (batch, *one) if name == "append" else ([batch, *one],)
        right = (expected, *one) if name == "append" else ([expected, *one],)
        batch, expected = grow(name, function, args, {}), function(*right)
        assert np.array_equal(batch, expected)
    again = grow(name, function, (first, piece) if name == "append" else ([first, piece],), {})
    assert len(again) == len(first) + len(piece)
    assert np.array_equal(batch, expected)  # a new start has a buffer of its own


@pytest.mark.parametrize(
    ("name", "function", "args", "named"),
    [
        ("cat", torch.cat, ([torch.zeros(1, 3), torch.ones(2, 3)],), {"dim": 0}),
        ("cat", torch.cat, ([torch.zeros(1, 3), torch.ones(2, 3)], 0), {}),
        ("concatenate", np.concatenate, ([np.zeros((1, 3)), np.ones((2, 3))],), {"axis": 0}),
        ("append", np.append, (np.zeros((1, 3)), np.ones((2, 3))), {"axis": 0}),
        ("append", np.append, (np.zeros((1, 3)), np.ones((2, 3)), 0), {}),
    ],
)
def test_the_first_dimension_may_be_named(name, function, args, named):
    grow = Growing(Own())
    assert np.array_equal(grow(name, function, args, named), function(*args, **named))
    assert grow.used


def test_a_join_that_was_left_to_the_function_was_not_changed():
    probe = changed("growing-concatenation", torch.cat)
    probe.call(1, torch.cat, [torch.zeros(2, 1), torch.zeros(2, 2)], dim=1)
    assert not probe.used
    probe.call(1, torch.cat, [torch.zeros(2, 1), torch.zeros(2, 1)], dim=0)
    assert probe.used


def test_pieces_are_copied_into_one_buffer():
    grow = Growing(Own())
    batch = torch.zeros(1, 3)
    for _ in range(64):
        batch = grow("cat", torch.cat, ([batch, torch.ones(1, 3)],), {})
    before = batch.data_ptr()
    batch = grow("cat", torch.cat, ([batch, torch.ones(1, 3)],), {})
    assert batch.data_ptr() == before


@pytest.mark.parametrize(
    "args",
    [
        ([torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1, 3)],),
        ([torch.zeros(1), torch.zeros(1, dtype=torch.int64)],),
        ([torch.zeros(2, 1), torch.zeros(2, 2)], 1),
        ([torch.zeros(2, 1), torch.zeros(2, 2)], -1),
    ],
)
def test_other_joins_are_left_to_the_function(args):
    assert torch.equal(Growing(Own())("cat", torch.cat, args, {}), torch.cat(*args))


def test_a_wait_looks_again_soon(monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(sys, "addaudithook", lambda _hook: None)
    monkeypatch.setattr(fixes, "active_children", list)
    monkeypatch.setattr(fixes, "active_count", lambda: 1)
    sleep = Slept(Own())
    sleep(5)
    assert slept == []  # nothing here could end the wait
    monkeypatch.setattr(fixes, "active_count", lambda: 2)
    sleep(5)
    sleep._heard("socket.connect", (None, "/run/socket"))
    sleep(5)
    sleep._heard("socket.connect", (None, ("example.org", 80)))
    sleep(5)
    assert slept == [fixes._SLEEP_SECONDS, fixes._SLEEP_SECONDS, 5]


@pytest.mark.parametrize(
    ("result", "ns", "made"),
    [
        (1, 1_000, 512),
        (1, 10_000_000, 38),  # in 0.3 s after the eighth
        ((np.zeros(1 << 18), {"y": torch.zeros(1 << 18)}), 1_000, 22),  # of 3 MiB each
        (np.zeros(9 << 20), 400_000_000, 8),
    ],
)
def test_as_many_results_come_again_in_turns_as_there_is_time_and_memory_for(monkeypatch, result, ns, made):
    clock, calls = iter(range(0, 1 << 60, ns)), []
    monkeypatch.setattr(fixes, "perf_counter_ns", lambda: next(clock) // 3)
    monkeypatch.setattr(fixes, "copied", lambda result: result)
    replay = Replay(Own(), many=True, copies=True)
    for _ in range(2000):
        replay(lambda: calls.append(1) or result)
    assert len(calls) == pytest.approx(made, abs=2)


@pytest.mark.parametrize("how", ["a later epoch", "a worker", "all are the same"])
def test_a_later_epoch_a_worker_and_one_result_need_a_few(monkeypatch, how):
    replay, made = Replay(Own(), many=how != "all are the same", copies=False), iter(range(9999))
    if how == "a worker":
        monkeypatch.setattr(fixes, "get_worker_info", lambda: 1)
    elif how == "a later epoch":
        replay.wants_more = False
    assert sorted({replay(lambda: next(made)) for _ in range(600)}) == list(range(8))


def test_results_come_again_in_turns():
    replay, made = Replay(Own(), many=True, copies=True), iter(range(9999))
    first = [replay(lambda: next(made)) for _ in range(512)]
    assert sorted(replay(lambda: next(made)) for _ in range(512)) == first


def test_arrays_that_come_again_are_new_ones():
    rows = np.zeros(3)
    replay = Replay(Own(), many=True, copies=True)
    for _ in range(512):
        replay(lambda: (rows, {"x": torch.zeros(2)}, "name"))
    again = replay(lambda: None)
    assert again[0] is not rows
    assert [len(again[0]), len(again[1]["x"]), again[2]] == [3, 2, "name"]


@pytest.mark.parametrize("rule", ["list-to-array", "arrow-to-python"])
def test_what_is_a_view_when_it_is_fixed_is_not_copied(rule):
    rows = np.zeros(3)
    for views in (True, False):
        probe = Changed(Change(rule, "data.py", 7, "", views=views))
        again = [probe.replay("", lambda: rows) for _ in range(520)]
        assert (again[-1] is rows) is views


def test_a_snapshot_is_left_out():
    state = {"rows": [1, 2]}
    assert changed("snapshot-per-batch", copy.deepcopy).call(1, copy.deepcopy, state) is state
    assert changed("snapshot-per-batch", pickle.dumps).call(1, pickle.dumps, state) == b""


def test_what_the_fixed_line_would_do_as_well_is_not_the_doctors(monkeypatch):
    clock = iter([100, 107, 120, 130, 131, 150])
    monkeypatch.setattr(fixes, "perf_counter_ns", lambda: next(clock))
    own = Own()
    entered_ns = fixes.perf_counter_ns()
    assert own.work(lambda: "made") == "made"  # from 107 to 120
    own.add_since(entered_ns)  # at 130
    assert own.ns == 17
    own.add_since(fixes.perf_counter_ns())
    assert own.ns == 17 + 19


def test_another_thread_takes_nothing_of_the_consumers():
    own = Own()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(own.work, lambda: 3).result() == 3
        pool.submit(own.add_since, 0).result()
    assert own.ns == 0


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (np.arange(3), "float32"),
        (np.ones(3, bool), "float32"),
        (np.zeros(3), "float64"),
        (np.zeros(3, "f2"), "float16"),
    ],
)
def test_integers_are_narrow_operands(value, dtype):
    assert narrow(value).dtype == dtype


def test_numbers_are_python_floats_and_others_are_left():
    assert type(narrow(np.float64(2))) is float
    assert [narrow(2), narrow("name"), narrow(None)] == [2, "name", None]


@pytest.mark.parametrize("wide", [float, np.float64, "float64", "f8", ">f8", "d", np.dtype("f8")])
def test_conversions_are_to_float32(wide):
    rows = np.zeros(3, np.float32)
    assert narrowly(np.asarray, None, (rows,), {"dtype": wide}) is rows
    assert narrowly(np.arange(3).astype, rows, (wide,), {}).dtype == np.float32


def test_tensors_are_converted_to_float32():
    rows = torch.zeros(3)
    assert narrowly(rows.double, rows, (), {}) is rows
    assert narrowly(rows.to, rows, (torch.float64,), {}) is rows
    assert narrowly(rows.type, rows, (torch.DoubleTensor,), {}).dtype == torch.float32
    assert narrowly(rows.type, rows, ("torch.DoubleTensor",), {}).dtype == torch.float32


def test_functions_of_arrays_get_narrow_ones():
    image, mean = np.zeros((3, 8), np.uint8), np.zeros((3, 1))
    assert narrowly(np.divide, None, (image, 255.0), {}).dtype == np.float32
    assert narrowly(np.subtract, None, (image.astype("f4"), mean), {}).dtype == np.float32
    assert narrowly(np.subtract, None, (mean, mean), {}).dtype == np.float64


@pytest.mark.parametrize(
    ("function", "args"),
    [(np.arange(3, dtype="i2").astype, [float]), (np.asarray, [np.arange(3, dtype="i2"), float])],
)
def test_what_was_to_be_made_wider_is_copied(function, args):
    owner = getattr(function, "__self__", None)
    rows = owner if isinstance(owner, np.ndarray) else args[0]
    probe = changed("large-hand-over", function)
    made = probe.call(1, function, *args)
    assert probe.used
    assert made.dtype == rows.dtype
    assert made is not rows
    assert np.array_equal(made, rows)


def test_a_tensor_that_was_to_be_made_wider_is_copied():
    rows = torch.zeros(3, dtype=torch.uint8)
    assert unwidened(rows, (torch.float64,)).dtype == torch.uint8
    assert unwidened(rows, ()).data_ptr() != rows.data_ptr()


def test_what_a_call_takes_beyond_what_it_adds_up_is_known():
    own = Own()

    def call():
        entered_ns = time.perf_counter_ns()
        time.sleep(0.00005)
        own.add_since(entered_ns)
        time.sleep(0.00005)

    assert own.calibrate(call) >= 50_000
    assert own.ns >= 50_000


def test_what_is_around_each_call_is_added():
    own = Own()
    own.around_ns = 10**9
    own.add_since(time.perf_counter_ns())
    assert own.ns > 10**9


def test_what_a_settled_call_takes_is_not_the_loaders():
    probe = changed("repeated-work", len)
    for _ in range(20):
        assert probe.settled("len", lambda: probe.call(1, len, "text")) == 4
    before_ns = probe.paused_ns()
    probe.settled("len", None)
    assert probe.paused_ns() > before_ns


def test_other_programs_do_not_make_a_call_cost_less(monkeypatch):
    now = itertools.accumulate([0, 400_000, 100, 900_000_000] + [0, 500_000, 100, 200_000] * 4)
    monkeypatch.setattr(fixes, "perf_counter_ns", lambda: next(now))
    assert Own().calibrate(fixes.nothing) == (400_000 - 200_000) // 200
