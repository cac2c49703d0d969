"""A few damaged files of every format; `make mutants` reads as many as you like."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest

from suites.mutants import reading
from suites.mutants.__main__ import is_bad
from suites.mutants.mutation import BYTES
from suites.mutants.pool import CHECK, CRASH, HANG, READ, Child, outcomes
from suites.mutants.reading import ERROR, FOREIGN, OTHER_ROWS, RIGHT, WRONG, Outcome, Reader
from suites.mutants.sound import MAKERS, make

COUNT = 10
pytestmark = pytest.mark.usefixtures("quick_start")


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name != "npy")) for name in MAKERS])
def test_damaged_files_give_the_right_rows_or_an_error_of_ours(name, tmp_path):
    make(name, tmp_path / "sound")
    indices = range(COUNT)
    found = list(outcomes(name, tmp_path, 1, indices, workers=1, check_every=0))
    kinds = {outcome.kind for _, _, outcome in found}
    assert [(index, verb, *outcome) for index, verb, outcome in found if is_bad(verb, outcome)] == []
    assert (RIGHT if name == "cache" else ERROR) in kinds  # a damaged cache is written anew


@pytest.mark.parametrize("kind", BYTES)
def test_a_seed_repeats_the_damage(kind):
    results = []
    for _ in range(2):
        rng, content = random.Random(5), bytearray(range(250))  # noqa: S311 a seed that repeats
        BYTES[kind](rng, content)
        results.append(bytes(content))
    assert results[0] == results[1] != bytes(range(250))


@pytest.mark.parametrize("damage, kind", [("swap", OTHER_ROWS), ("flip", WRONG), ("cut", WRONG)])
def test_words_of_a_duckdb_block_in_another_order_are_seen_by_no_checksum(monkeypatch, tmp_path, damage, kind):
    def damaged(path, _rng):
        content = path.read_bytes()
        words = [content[start : start + 8] for start in range(20_480, 20_640, 8)]
        swapped = content[:20_480] + b"".join(reversed(words)) + content[20_640:]
        flipped = bytes([content[0] ^ 1]) + content[1:]
        path.write_bytes({"swap": swapped, "flip": flipped, "cut": content[:-8]}[damage])
        return damage

    (tmp_path / "sound").mkdir()
    (tmp_path / "sound" / "a.duckdb").write_bytes(random.Random(3).randbytes(12_288 + (1 << 18)))  # noqa: S311 a seed
    monkeypatch.setattr(reading, "mutate", damaged)
    monkeypatch.setattr(reading, "_table", lambda path, _name: path.read_bytes())
    assert Reader("duckdb", tmp_path / "sound", tmp_path / "scratch", 0).outcome(0).kind == kind


def test_which_outcomes_are_bad():
    bad = {(verb, kind) for verb in (READ, CHECK) for kind in (RIGHT, ERROR, OTHER_ROWS, WRONG, FOREIGN, CRASH, HANG)}
    bad = {pair for pair in bad if is_bad(pair[0], Outcome(pair[1], ""))}
    everywhere = {(verb, kind) for verb in (READ, CHECK) for kind in (WRONG, FOREIGN, HANG)}
    assert bad == everywhere | {(CHECK, CRASH)}


@pytest.mark.parametrize(
    "code, kind, text",
    [
        ("import os; os.abort()", CRASH, "SIGABRT"),
        ("import time; time.sleep(600)", HANG, "longer than 2 s"),
        ("raise SystemExit(1)", FOREIGN, "status 1: an error in what asks, or a library that exits"),
    ],
)
def test_a_crash_a_hang_and_an_error_are_told_apart_and_the_next_has_a_new_child(
    code, kind, text, tmp_path, monkeypatch
):
    if kind == HANG:
        monkeypatch.setattr("suites.mutants.pool.LIMIT_S", 2.0)
    child = Child("npy", tmp_path, tmp_path, 0)
    child._command = [sys.executable, "-c", code]
    assert child.ask(READ, 0) == Outcome(kind, "", text)
    monkeypatch.undo()
    child._command = [sys.executable, "-c", f"input(); print({json.dumps(json.dumps([RIGHT, 'flip']))})"]
    assert child.ask(READ, 1) == Outcome(RIGHT, "flip")
    child.close()


def test_a_reader_that_cannot_be_made_ends_its_process_and_is_not_forked_again_and_again(tmp_path):
    child = Child("npy", tmp_path / "none", tmp_path, 0)
    for _ in range(2):
        assert child.ask(READ, 0) == Outcome(FOREIGN, "", "status 1: an error in what asks, or a library that exits")
    child.close()


@pytest.mark.long
def test_the_command_prints_a_table_and_says_by_its_status_whether_all_is_well():
    command = [sys.executable, "-m", "suites.mutants", "--format", "npy", "--count", "4", "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[2].startswith("| `npy` | 4 | ")
