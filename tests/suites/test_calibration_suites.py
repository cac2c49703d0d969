"""The suites that count verdicts: obvious regressions through the base option, and loaders as projects have them."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest

from suites.calibration import kinds, obvious, wild
from suites.calibration.obvious import NO_VERDICT, Cell, Claim
from suites.calibration.repository import Outcome, git, make_repository
from suites.calibration.wild import samples

INLINE, WORKERS = Cell(10, 1.0, 0), Cell(30, 1000.0, 2)
LIBRARIES = {"torchdata", "spdl", "grain", "datasets", "litdata", "webdataset", "ray", "tensordict", "monai", "fastai"}


def test_a_repository_has_a_commit_for_each_text(tmp_path):
    make_repository(tmp_path / "made", "def test_it(): pass\n", ["first = 1\n", "second = 2\n", "second = 2\n"])
    assert len(git(tmp_path / "made", "log", "--oneline").splitlines()) == 3
    assert git(tmp_path / "made", "show", "HEAD~2:mypkg/datasets.py") == "first = 1"
    assert (tmp_path / "made" / "mypkg" / "datasets.py").read_text() == "second = 2\n"


@pytest.mark.parametrize("work", list(obvious.WORK))
def test_the_second_commit_is_slower_by_what_is_asked_for(monkeypatch, tmp_path, work):
    seen = []

    def measure(folder, timeout_s, *options):
        seen.extend(git(folder, "show", f"{revision}:mypkg/datasets.py") for revision in ("HEAD~1", "HEAD"))
        return Outcome({"test_images": ["FAIL"]}, "", 1, 7.0)

    monkeypatch.setattr(obvious, "measure_repository", measure)
    assert obvious.judged(Cell(30, 100.0, 2), work, tmp_path / "r") == Claim("FAIL", 7.0)
    assert "batch_size=4, num_workers=2" in (tmp_path / "r" / "test_speed.py").read_text()
    quicker, slower = seen
    assert "0.025" in quicker
    assert "0.75" in slower
    assert quicker.replace("0.025", "0.75") == slower


@pytest.mark.parametrize(
    "outcome, verdict",
    [
        (Outcome({"test_images": ["INCONCLUSIVE"]}, "", 0, 1.0), "INCONCLUSIVE"),
        (Outcome({"test_images": ["FAIL"]}, "", 0, 1.0), NO_VERDICT),
        (Outcome({"test_images": ["PASS"]}, "", 1, 1.0), NO_VERDICT),
        (Outcome({}, "INTERNALERROR", 3, 1.0), NO_VERDICT),
    ],
)
def test_a_fail_counts_where_the_exit_status_tells_it(monkeypatch, tmp_path, outcome, verdict, capsys):
    monkeypatch.setattr(obvious, "measure_repository", lambda folder, timeout_s: outcome)
    assert obvious.judged(INLINE, "busy", tmp_path / "r").verdict == verdict
    assert outcome.output in capsys.readouterr().err


def test_a_run_that_does_not_end_has_no_verdict(monkeypatch, tmp_path):
    def measure(folder, timeout_s):
        raise subprocess.TimeoutExpired("pytest", timeout_s)

    monkeypatch.setattr(obvious, "measure_repository", measure)
    assert obvious.judged(INLINE, "sleep", tmp_path / "r") == Claim(NO_VERDICT, 360.0)


def test_the_table_of_obvious_regressions_counts_what_came_in_time():
    claims = {
        INLINE: [Claim("FAIL", 20.0), Claim("FAIL", 30.0)],
        WORKERS: [Claim("FAIL", 61.0), Claim("INCONCLUSIVE", 40.0)],
    }
    *_, first, second, empty, together = obvious.table(claims).splitlines()
    assert first == "| 10 times | 1 ms | 0 | 2 of 2 | 2 of 2 | 25.0 | 30.0 |  |"
    assert second == "| 30 times | 1000 ms | 2 | 1 of 2 | 0 of 2 | 50.5 | 61.0 | INCONCLUSIVE |"
    assert (empty, together) == ("", "FAIL within 60 s: 2 of 4")


@pytest.mark.parametrize("verdict, status", [("FAIL", 0), ("INCONCLUSIVE", 1)])
def test_every_cell_is_counted_and_one_that_does_not_fail_ends_with_1(monkeypatch, tmp_path, verdict, status, capsys):
    monkeypatch.setattr(obvious, "judged", lambda cell, work, folder: Claim(verdict, 2.0))
    file = tmp_path / "made" / "o.json"
    monkeypatch.setattr(sys, "argv", ["obvious", "--times", "2", "--json", str(file)])
    assert obvious.main() == status
    cells = json.loads(file.read_text())["cells"]
    assert len(cells) == 16
    assert all(cell["claims"] == [{"verdict": verdict, "seconds": 2.0}] * 2 for cell in cells)
    assert f"FAIL within 60 s: {32 - 32 * status} of 32" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name in wild.KINDS if name != "Ray Data"])  # tests/ray has a cluster for it
def test_a_loader_of_each_kind_gives_batches(tmp_path, monkeypatch, name):
    try:
        batches = wild.first_batches(name, wild.Setting(1e-5, tmp_path), 2)
    except ModuleNotFoundError as error:
        assert error.name.partition(".")[0] in LIBRARIES | {"torchio"}  # noqa: PT017 the rest needs no library
        pytest.skip(f"needs {error.name}")
    assert len(batches) == 2


def test_a_sample_takes_its_time(tmp_path, monkeypatch):
    times_s = iter([0.0, 0.5, 0.99, 1.0, 5.0])
    monkeypatch.setattr(samples.time, "perf_counter", lambda: next(times_s))
    assert samples.Samples(wild.Setting(1.0, tmp_path))[3]["y"] == 3
    assert next(times_s) == 5.0


def test_claims_on_a_kind_are_made_for_both_truths(monkeypatch):
    asked = []
    monkeypatch.setattr(kinds, "factor_slower", lambda name, *more: 1.3)
    monkeypatch.setattr(kinds, "judged", lambda name, factor, *more: asked.append((name, factor)) or ("PASS", 1.0))
    found = kinds.claims_on("Arrow scanner", argparse.Namespace(times=2))
    assert found == {kinds.SAME: [("PASS", 1.0)] * 2, kinds.SLOW: [("PASS", 1.0)] * 2}
    assert asked == [("Arrow scanner", 1.0), ("Arrow scanner", 1.3)] * 2


@pytest.mark.parametrize("overhead_s, factor", [(0.0, 1.15), (0.004, 1.3)])
def test_batches_become_slower_by_so_much_whatever_they_take_besides(tmp_path, monkeypatch, overhead_s, factor):
    clock_s = [0.0]

    def make(setting):
        while True:
            clock_s[0] += overhead_s + setting.sample_s * wild.BATCH_SIZE
            yield None

    monkeypatch.setitem(kinds.KINDS, "Arrow scanner", make)
    monkeypatch.setattr(kinds.time, "perf_counter", lambda: clock_s[0])
    options = argparse.Namespace(batch_ms=4.0)
    assert kinds.factor_slower("Arrow scanner", options, tmp_path) == pytest.approx(factor)


def test_a_kind_is_judged_in_earnest(tmp_path):
    options = argparse.Namespace(batch_ms=0.2, budget=0.2)
    outcome, seconds = kinds.judged("DataLoader, in process", 8.0, options, tmp_path)
    assert outcome in ("FAIL", "INCONCLUSIVE")
    assert seconds > 0


@pytest.mark.parametrize(
    "error, words",
    [
        (ModuleNotFoundError("No module named 'x'", name="x"), "not installed: no module x"),
        (ValueError("two\nlines"), "ValueError: two"),
        (KeyError(), "KeyError: "),
    ],
)
def test_a_kind_that_cannot_be_measured_says_why(monkeypatch, tmp_path, error, words):
    def claims_on(name, options):
        raise error

    monkeypatch.setattr(kinds, "claims_on", claims_on)
    file = tmp_path / "k.json"
    monkeypatch.setattr(sys, "argv", ["kinds", "--here", "Ray Data", "--json", str(file)])
    kinds.main()
    assert json.loads(file.read_text()) == words


def test_a_missing_library_is_told_through_the_error_of_the_measuring(monkeypatch, tmp_path):
    def make(setting):
        raise ModuleNotFoundError("No module named 'monai'", name="monai")

    monkeypatch.setitem(wild.KINDS, "Ray Data", make)
    file = tmp_path / "k.json"
    monkeypatch.setattr(sys, "argv", ["kinds", "--here", "Ray Data", "--times", "1", "--json", str(file)])
    kinds.main()
    assert json.loads(file.read_text()) == "not installed: no module monai"


def test_the_table_of_kinds_has_two_rows_a_kind_or_a_reason(monkeypatch, tmp_path, capsys):
    claims = {kinds.SAME: [("PASS", 1.0), ("FAIL", 3.0)], kinds.SLOW: [("FAIL", 4.0), ("INCONCLUSIVE", 20.0)]}
    found = {"Arrow scanner": claims, "Ray Data": "not installed: no module ray"}
    monkeypatch.setattr(kinds, "claims_there", lambda name, options, python: found[name])
    file = tmp_path / "made" / "k.json"
    monkeypatch.setattr(sys, "argv", ["kinds", "--only", *found, "--json", str(file)])
    kinds.main()
    assert capsys.readouterr().out.splitlines()[2:] == [
        "| Arrow scanner | same code | 1 | 1 | 0 | 2.0 |",
        "| Arrow scanner | 15 % slower | 0 | 1 | 1 | 12.0 |",
        "| Ray Data | not installed: no module ray | | | | |",
        "",
        "same code: PASS 1 of 2, wrong 1",
        "15 % slower: FAIL 1 of 2, wrong 0",
    ]
    assert json.loads(file.read_text())["kinds"]["Ray Data"] == "not installed: no module ray"
