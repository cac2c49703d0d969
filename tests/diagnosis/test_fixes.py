"""What a fixed line would give, in place of what it calls."""

from __future__ import annotations

import copy
import io
import pickle
import sys
import time
import zipfile

import numpy as np
import pytest
import torch

from pytest_loaderperf.diagnosis.passes import fixes
from pytest_loaderperf.diagnosis.passes.changes import Change, Changed
from pytest_loaderperf.diagnosis.passes.fixes import Growing, Once, Replay, Slept, kept, rewound
from pytest_loaderperf.diagnosis.passes.naming import callee_name


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
    grow, batch, expected = Growing(), first, first
    for n in range(6):
        one = (piece + n,)
        args = (batch, *one) if name == "append" else ([batch, *one],)
        right = (expected, *one) if name == "append" else ([expected, *one],)
        batch, expected = grow(name, function, args, {}), function(*right)
        assert np.array_equal(batch, expected)
    again = grow(name, function, (first, piece) if name == "append" else ([first, piece],), {})
    assert len(again) == len(first) + len(piece)
    assert np.array_equal(batch, expected)  # a new start has a buffer of its own


def test_pieces_are_copied_into_one_buffer():
    grow = Growing()
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
    ],
)
def test_other_joins_are_left_to_the_function(args):
    assert torch.equal(Growing()("cat", torch.cat, args, {}), torch.cat(*args))


def test_a_wait_looks_again_soon(monkeypatch):
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(sys, "addaudithook", lambda _hook: None)
    sleep = Slept()
    sleep(5)
    sleep._heard("socket.connect", (None, "/run/socket"))
    sleep(5)
    sleep._heard("socket.connect", (None, ("example.org", 80)))
    sleep(5)
    assert slept == [fixes._SLEEP_SECONDS, fixes._SLEEP_SECONDS, 5]


def test_results_come_again_in_turns():
    replay, made = Replay(copies=False), iter(range(100))
    assert sorted({replay(lambda: next(made)) for _ in range(30)}) == list(range(8))


def test_arrays_that_come_again_are_new_ones():
    rows = np.zeros(3)
    replay = Replay(copies=True)
    for _ in range(8):
        replay(lambda: (rows, {"x": torch.zeros(2)}, "name"))
    again = replay(lambda: None)
    assert again[0] is not rows
    assert [len(again[0]), len(again[1]["x"]), again[2]] == [3, 2, "name"]


def test_a_snapshot_is_left_out():
    state = {"rows": [1, 2]}
    assert changed("snapshot-per-batch", copy.deepcopy).call(1, copy.deepcopy, state) is state
    assert changed("snapshot-per-batch", pickle.dumps).call(1, pickle.dumps, state) == b""
