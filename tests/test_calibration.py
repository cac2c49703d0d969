"""``loaderperf calibrate``: claims whose truth is known, counted."""

from __future__ import annotations

import json
import sys

import pytest

from pytest_loaderperf import calibration, cli
from pytest_loaderperf.calibration import EFFECTS, THRESHOLD, KnownWork, Row, calibrate
from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.report import calibration_lines, draw_operating_curve

OUTCOMES = {1.0: "PASS", **{THRESHOLD / (1 + effect): "FAIL" for effect in EFFECTS if effect}}


@pytest.fixture
def judged(monkeypatch):
    """Claims are judged by what is true of them, at once; those asked for are listed."""
    asked = []

    def judge(true_ratio, alpha, budget_seconds, *, base):
        asked.append((true_ratio, alpha, budget_seconds, base))
        return OUTCOMES[true_ratio], 0.5

    monkeypatch.setattr(calibration, "_judged", judge)
    return asked


def row(effect, *outcomes_and_seconds):
    outcomes, seconds = zip(*outcomes_and_seconds, strict=True)
    return Row(effect, list(outcomes), list(seconds))


ROWS = [
    row(0.0, ("PASS", 0.5), ("PASS", 0.25), ("INCONCLUSIVE", 10.0), ("FAIL", 3.0)),
    row(0.02, ("FAIL", 0.5), ("FAIL", 4.0), ("FAIL", 8.0), ("INCONCLUSIVE", 10.0)),
]


def test_the_work_of_a_batch_is_what_was_asked_for(monkeypatch):
    done = []
    monkeypatch.setattr(calibration, "deque", lambda steps, maxlen: done.append(len(list(steps))))
    batches = list(KnownWork(7))
    assert len(batches) == len(KnownWork(7)) == calibration._BATCHES
    assert done == [7] * len(batches)


def test_each_kind_of_claim_is_judged_as_often_and_in_random_order(judged):
    rows = calibrate(20, EFFECTS, alpha=0.01, budget_seconds=3, noise=False)
    assert [r.effect for r in rows] == [*EFFECTS]
    assert {tuple(r.outcomes) for r in rows} == {("PASS",) * 20, ("FAIL",) * 20}
    assert set(judged) == {(ratio, 0.01, 3, False) for ratio in OUTCOMES}
    assert [ratio for ratio, *_ in judged] != sorted(ratio for ratio, *_ in judged)
    assert all(r.seconds == [0.5] * 20 for r in rows)


def test_the_noise_is_there_while_claims_are_judged_and_gone_afterwards(monkeypatch):
    started = []

    class Burner:
        def __init__(self, command):
            assert command[:2] == [sys.executable, "-c"]
            self.alive = True
            started.append(self)

        def kill(self):
            self.alive = False

        def wait(self):
            assert not self.alive

    def judge(true_ratio, alpha, budget_seconds, *, base):
        assert [burner.alive for burner in started] == [True] * calibration.NOISE_PROCESSES
        raise LoaderPerfError("broken")

    monkeypatch.setattr(calibration.subprocess, "Popen", Burner)
    monkeypatch.setattr(calibration, "_judged", judge)
    with pytest.raises(LoaderPerfError, match="broken"):
        calibrate(1, EFFECTS, alpha=0.01, budget_seconds=3, noise=True)
    assert not any(burner.alive for burner in started)


def test_shares_and_seconds_are_counted():
    no_slowdown, slowdown = ROWS
    assert (no_slowdown.true_ratio, slowdown.true_ratio) == (1.0, THRESHOLD / 1.02)
    assert [slowdown.share("FAIL", within_s) for within_s in (1, 5, 10)] == [0.25, 0.5, 0.75]
    assert (no_slowdown.share("PASS"), no_slowdown.median_s) == (0.5, 1.75)


def test_the_table_has_a_line_for_each_kind():
    heading, first, second = calibration_lines(ROWS)
    assert heading.split()[:4] == ["slowdown", "beyond", "the", "threshold"]
    assert first.split() == "none (A/A) 4 25.0% 50.0% 25.0% 1.75 0.0% / 25.0% / 25.0%".split()  # noqa: SIM905 as shown
    assert second.split() == "2.0% 4 75.0% 0.0% 25.0% 6.00 25.0% / 50.0% / 75.0%".split()  # noqa: SIM905 as shown


def test_the_command_prints_writes_and_draws(judged, tmp_path, capsys):
    files = tmp_path / "c.json", tmp_path / "c.svg"
    arguments = ["--claims", "3", "--alpha", "0.05", "--json", str(files[0]), "--plot", str(files[1])]
    assert cli.main(["calibrate", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "claim: throughput >= 0.97 x against.throughput, alpha 0.05, budget 10 s"
    assert lines[2].split()[:2] == ["none", "(A/A)"]
    document = json.loads(files[0].read_text())
    assert document["schema"] == "loaderperf-calibration/1"
    assert [r["outcomes"] for r in document["rows"]] == [["PASS"] * 3] + [["FAIL"] * 3] * (len(EFFECTS) - 1)
    assert files[1].read_text().count("<svg") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--claims", "0"],
        ["--claims", "many"],
        ["--alpha", "1"],
        ["--budget", "0"],
        ["--effects", "2,100"],
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
        draw_operating_curve(ROWS, tmp_path / "c.png")


def test_a_claim_is_measured_and_judged_in_earnest():
    for true_ratio, word, base in [(0.5, "FAIL", False), (2.0, "PASS", False), (0.5, "FAIL", True)]:
        outcome, seconds = calibration._judged(true_ratio, 0.01, 10, base=base)
        assert outcome == word
        assert 0 < seconds < 60
