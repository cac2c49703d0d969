"""``loaderperf calibrate``: claims whose truth is known, counted."""

from __future__ import annotations

import json
import subprocess
import sys

import psutil
import pytest

from pytest_loaderperf import cli
from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.report import calibration_lines, draw_operating_curve, loader_words
from pytest_loaderperf.runs import calibration, known_work
from pytest_loaderperf.runs.calibration import EFFECTS, THRESHOLD, Row, calibrate
from pytest_loaderperf.runs.known_work import Work

WORK = Work(970_000)
WITHIN_S = [1, 5, 10]


@pytest.fixture
def judged(monkeypatch):
    """Claims are judged by what is true of them, at once; those asked for are listed."""
    asked = []

    def judge(work, other_work, alpha, budget_seconds, *, base):
        asked.append((work, other_work, alpha, budget_seconds, base))
        slower = work.operations * THRESHOLD > other_work.operations or work.handover > other_work.handover
        return "FAIL" if slower else "PASS", 0.5

    monkeypatch.setattr(calibration, "_judged", judge)
    return asked


def row(effect, *outcomes_and_seconds, handover=False):
    outcomes, seconds = zip(*outcomes_and_seconds, strict=True)
    return Row(effect, list(outcomes), list(seconds), handover)


ROWS = [
    row(0.0, ("PASS", 0.5), ("PASS", 0.25), ("INCONCLUSIVE", 10.0), ("FAIL", 3.0)),
    row(0.02, ("FAIL", 0.5), ("FAIL", 4.0), ("FAIL", 8.0), ("INCONCLUSIVE", 10.0)),
    row(0.0, ("FAIL", 0.5), ("PASS", 4.0), ("INCONCLUSIVE", 8.0), ("INCONCLUSIVE", 10.0), handover=True),
]


def test_each_kind_of_claim_is_judged_as_often_and_in_random_order(judged):
    effects = (*EFFECTS, 9.0)
    rows = calibrate(20, effects, work=WORK, alpha=0.01, budget_seconds=3, noise=False)
    assert [r.effect for r in rows] == [*effects]
    assert [tuple(r.outcomes) for r in rows] == [("PASS",) * 20] + [("FAIL",) * 20] * (len(effects) - 1)
    operations = [round(WORK.operations * (1 + effect) / THRESHOLD) for effect in effects if effect]
    assert set(judged) == {(Work(n), WORK, 0.01, 3, False) for n in (WORK.operations, *operations)}
    asked = [work.operations for work, *_ in judged]
    assert asked != sorted(asked)
    assert all(r.seconds == [0.5] * 20 for r in rows)


def test_the_noise_is_there_while_claims_are_judged_is_nobodys_child_and_gone_afterwards(monkeypatch):
    started = []
    run = subprocess.run

    def launch(command, **how):
        launched = run(command, **how)
        started.extend(map(psutil.Process, map(int, launched.stdout.split())))
        return launched

    def judge(work, other_work, alpha, budget_seconds, *, base):
        assert len(started) == calibration.NOISE_PROCESSES
        assert all(burner.is_running() for burner in started)
        assert not set(started) & set(psutil.Process().children(recursive=True))
        raise LoaderPerfError("broken")

    monkeypatch.setattr(calibration.subprocess, "run", launch)
    monkeypatch.setattr(calibration, "_judged", judge)
    with pytest.raises(LoaderPerfError, match="broken"):
        calibrate(1, EFFECTS, work=WORK, alpha=0.01, budget_seconds=3, noise=True)
    assert started
    _, alive = psutil.wait_procs(started, timeout=30)
    assert not [burner for burner in alive if burner.status() != psutil.STATUS_ZOMBIE]


def test_shares_and_seconds_are_counted():
    no_slowdown, slowdown, _ = ROWS
    assert (no_slowdown.true_ratio, slowdown.true_ratio) == (1.0, THRESHOLD / 1.02)
    assert [slowdown.share("FAIL", within_s) for within_s in (1, 5, 10)] == [0.25, 0.5, 0.75]
    assert (no_slowdown.share("PASS"), no_slowdown.median_s) == (0.5, 1.75)


def test_the_table_has_a_line_for_each_kind():
    heading, first, second, third, wrong = calibration_lines(ROWS, WITHIN_S)
    assert heading.split()[:4] == ["slowdown", "beyond", "the", "threshold"]
    assert heading.endswith("FAIL in 1 / 5 / 10 s")
    assert third.split()[:9] == ["hand-over", "twice", "as", "slow", "4", "25.0%", "25.0%", "50.0%", "6.00"]
    assert wrong == "wrong verdicts: 2 of 12 (FAIL of the same work, PASS of a slower loader)"
    assert first.split() == "none (A/A) 4 25.0% 50.0% 25.0% 1.75 0.0% / 25.0% / 25.0%".split()
    assert second.split() == "2.0% 4 75.0% 0.0% 25.0% 6.00 25.0% / 50.0% / 75.0%".split()


def test_the_seconds_within_which_a_fail_counts_are_asked_for():
    heading, _, second, *_ = calibration_lines(ROWS, [0.5, 20])
    assert heading.endswith("FAIL in 0.5 / 20 s")
    assert second.endswith("25.0% / 75.0%")


def test_a_hand_over_costs_twice_as_much_beside_equal_work(judged):
    work = Work(1_000, workers=2)
    same, handed_over = calibrate(3, [0.0], work=work, alpha=0.01, budget_seconds=3, noise=False, handover=True)
    assert (same.slower, handed_over.slower) == (False, True)
    assert (same.outcomes, handed_over.outcomes) == (["PASS"] * 3, ["FAIL"] * 3)
    loader, other, *_ = next(asked for asked in judged if asked[1].handover)
    assert loader == Work(1_000, workers=2, handover=2 * other.handover)
    assert other.operations == 1_000
    assert other.handover >= 500  # what two workers take from one batch to the next


def test_the_command_prints_writes_and_draws(judged, tmp_path, capsys):
    files = tmp_path / "c.json", tmp_path / "c.svg"
    arguments = ["--claims", "3", "--alpha", "0.05", "--json", str(files[0]), "--plot", str(files[1])]
    assert cli.main(["calibrate", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "claim: throughput >= 0.97 x against.throughput, alpha 0.05, budget 10 s"
    assert lines[1] == "loaders: inline, 0.12 ms a batch"
    assert lines[3].split()[:2] == ["none", "(A/A)"]
    document = json.loads(files[0].read_text())
    assert document["schema"] == "loaderperf-calibration/1"
    assert [r["outcomes"] for r in document["rows"]] == [["PASS"] * 3] + [["FAIL"] * 3] * (len(EFFECTS) - 1)
    assert files[1].read_text().count("<svg") == 1


def test_the_result_says_what_was_calibrated(judged, tmp_path, capsys):
    file = tmp_path / "c.json"
    asked = ["--workers", "2", "--batch-ms", "2.5", "--bursts", "--handover", "--base"]
    assert cli.main(["calibrate", "--claims", "1", "--effects", "0,900", *asked, "--json", str(file)]) == 0
    assert "loaders: 2 workers, 2.5 ms a batch, bursts, base" in capsys.readouterr().out.splitlines()
    document = json.loads(file.read_text())
    facts = [document[key] for key in ("workers", "threads", "batch_ms", "bursts", "handover", "base", "noise")]
    assert facts == [2, 0, 2.5, True, True, True, False]
    assert [(r["effect"], r["handover"]) for r in document["rows"]] == [(0, False), (9, False), (0, True)]
    assert document["partial"] is False
    assert {(work.workers, work.bursts, base) for work, _, _, _, base in judged} == {(2, True, True)}


@pytest.mark.parametrize("before", [0, 3])
def test_after_an_interrupt_what_was_measured_is_kept_and_said_to_be_a_part(monkeypatch, tmp_path, capsys, before):
    def judge(*given, **named):
        if len(asked) == before:
            raise KeyboardInterrupt
        asked.append(given)
        return "PASS", 0.5

    asked = []
    monkeypatch.setattr(calibration, "_judged", judge)
    file = tmp_path / "c.json"
    assert cli.main(["calibrate", "--claims", "2", "--effects", "0,5", "--json", str(file)]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "loaderperf: interrupted"
    if not before:
        assert not file.exists()
        return
    document = json.loads(file.read_text())
    assert document["partial"] is True
    assert sum(len(r["outcomes"]) for r in document["rows"]) == before


@pytest.mark.parametrize("kind", ["workers", "threads"])
def test_batches_of_workers_and_threads_are_longer_unless_asked_for(judged, kind, capsys):
    assert cli.main(["calibrate", "--claims", "1", "--effects", "0", f"--{kind}", "1"]) == 0
    assert f"loaders: 1 {kind[:-1]}, 3 ms a batch" in capsys.readouterr().out.splitlines()


def test_the_curve_of_an_earlier_result_is_drawn_beside(judged, tmp_path):
    first, picture = tmp_path / "first.json", tmp_path / "c.svg"
    arguments = ["calibrate", "--claims", "1", "--effects", "0,10,900"]
    assert cli.main([*arguments, "--json", str(first)]) == 0
    assert cli.main([*arguments, "--threads", "2", "--plot", str(picture), "--beside", str(first)]) == 0
    text = picture.read_text()
    for loaders in ("inline, 0.12 ms a batch", "2 threads, 3 ms a batch"):
        assert f"<!-- {loaders}, within the budget -->" in text
        assert f"<!-- {loaders}, within 5 s -->" in text


def test_an_earlier_result_without_the_newer_keys_is_inline():
    document = {"schema": "loaderperf-calibration/1", "base": False, "rows": []}
    assert loader_words(document) == "inline"
    assert Row(effect=0.0, outcomes=["FAIL"], seconds=[1.0]).handover is False


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "--beside: cannot read"),
        ("{", "--beside: cannot read"),
        ("[]", "(loaderperf-calibration/1), got 'list'."),
        ('{"schema": "loaderperf/1"}', "(loaderperf-calibration/1), got 'loaderperf/1'."),
    ],
)
def test_what_is_no_earlier_result_is_refused_before_anything_is_measured(judged, tmp_path, text, words, capsys):
    file = tmp_path / "first.json"
    if text is not None:
        file.write_text(text)
    assert cli.main(["calibrate", "--plot", str(tmp_path / "c.svg"), "--beside", str(file)]) == 1
    error = capsys.readouterr().err
    assert words in error
    assert "Expected a result that `loaderperf calibrate --json` wrote" in error
    assert judged == []


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--handover"], "--handover is about batches that workers hand over: give --workers N as well."),
        (["--handover", "--threads", "2"], "give --workers N as well."),
        (["--beside", "x.json"], "--beside draws an earlier result's curve: give --plot FILE as well."),
        (["--workers", "2", "--batch-ms", "0.5"], "--batch-ms: expected at least 1 with workers or threads, got 0.5: "),
    ],
)
def test_options_that_do_not_go_together_are_refused(judged, arguments, words, capsys):
    assert cli.main(["calibrate", *arguments]) == 1
    assert words in capsys.readouterr().err
    assert judged == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["--claims", "0"],
        ["--claims", "many"],
        ["--alpha", "1"],
        ["--budget", "0"],
        ["--effects", "2,-1"],
        ["--effects", "2,inf"],
        ["--seconds", "0,5"],
        ["--seconds", "1,,5"],
        ["--batch-ms", "0"],
        ["--workers", "-1"],
        ["--workers", "2", "--threads", "2"],
        ["--plot", "x.txt"],
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["calibrate", *arguments])
    assert caught.value.code == 2
    assert "error: argument --" in capsys.readouterr().err


def test_a_plot_without_matplotlib_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(LoaderPerfError, match=r"pip install 'pytest-loaderperf\[report\]'"):
        draw_operating_curve([("inline", ROWS)], tmp_path / "c.png", WITHIN_S)


@pytest.mark.slow
def test_a_claim_is_measured_and_judged_in_earnest(quick_start):
    quick, slow = Work(50_000), Work(100_000)
    slower, quicker = (slow, quick, "FAIL"), (quick, slow, "PASS")
    for (work, other, word), base in [(slower, False), (quicker, False), (slower, True)]:
        outcome, seconds = calibration._judged(work, other, 0.01, 10, base=base)
        assert outcome == word
        assert 0 < seconds < 60


@pytest.mark.parametrize(
    "work, base",
    [(Work(400_000, workers=1), True), (Work(500, threads=1, bursts=True), False)],
    ids=["workers", "threads"],
)
def test_workers_and_threads_are_measured_in_earnest(monkeypatch, quick_start, work, base):
    monkeypatch.setattr(known_work, "BATCHES", 200)
    outcome, _ = calibration._judged(work, work, 0.001, 0.2, base=base)
    assert outcome in ("PASS", "INCONCLUSIVE")
