"""The judges that are held beside each other, on recordings made up."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from pytest_benchmark.utils import parse_compare_fail

from pytest_loaderperf.measurement import Key, Steady
from pytest_loaderperf.measurement.record import SteadyRecord
from pytest_loaderperf.runs.sides import AGAINST, LOADER
from suites.calibration import compare
from suites.calibration.judges import Recording, compare_fails, judged, ours_fails, table, welch_fails

TRIAL_NS, SAMPLES = 2_000_000, 16


def trial(factor):
    return SteadyRecord((1,), round(TRIAL_NS * factor), SAMPLES, 0)


def recording(slowdown, rounds=100, machine=1.0, spread=0.02, seed=0):
    """The loader is slower by ``slowdown``; the machine, for both sides, by ``machine``."""
    noise = np.exp(np.random.default_rng(seed).normal(0, spread, (rounds, 2)))
    return Recording(
        [
            {
                Key(LOADER, Steady()): trial((1 + slowdown) * machine * mine),
                Key(AGAINST, Steady()): trial(machine * theirs),
            }
            for mine, theirs in noise
        ]
    )


def test_times_are_those_of_a_sample():
    first = recording(0.5, rounds=2, spread=0)
    assert first.ns_a_sample(LOADER) == [1.5 * TRIAL_NS / SAMPLES] * 2
    assert first.ns_a_sample(AGAINST) == [TRIAL_NS / SAMPLES] * 2


@pytest.mark.parametrize(("slowdown", "fails"), [(0.0, False), (0.02, False), (0.05, True), (0.10, True)])
def test_ours_fails_what_is_beyond_the_threshold(slowdown, fails):
    assert ours_fails(recording(slowdown), 0.97) is fails


@pytest.mark.parametrize("after", [0.0, 0.031])
def test_ours_confirms_a_fail_on_the_rounds_that_follow(after):
    """A mood as long as the evidence needs; then the truth, or rounds that prove nothing."""
    mood, truth = recording(0.10, rounds=13, spread=0), recording(after, rounds=100)
    assert not ours_fails(Recording([*mood.rounds, *truth.rounds]), 0.97)
    assert ours_fails(Recording([*mood.rounds, *recording(0.10, rounds=10).rounds]), 0.97)
    assert not ours_fails(mood, 0.97)


@pytest.mark.parametrize("statistic", ["mean", "median", "min"])
@pytest.mark.parametrize("factor", [1.049, 1.051, 0.5])
def test_compare_fail_is_that_of_pytest_benchmark(statistic, factor):
    saved = [1.0, 2.0, 6.0]
    new = [factor * value for value in saved]
    theirs = parse_compare_fail(f"{statistic}:5%").fails(
        {statistic: factor * {"mean": 3.0, "median": 2.0, "min": 1.0}[statistic]},
        {"mean": 3.0, "median": 2.0, "min": 1.0},
    )
    assert compare_fails(statistic, saved, new) is bool(theirs) is (factor > 1.05)


def test_compare_fail_takes_the_statistic_that_it_is_told():
    saved, new = [1.0, 1.0, 1.0], [1.0, 1.0, 2.0]
    assert [compare_fails(statistic, saved, new) for statistic in ("mean", "median", "min")] == [True, False, False]


def test_the_t_test_fails_what_is_slower_and_not_what_is_quicker():
    same, other = recording(0.0), recording(0.03, seed=1)
    quick, slow = same.ns_a_sample(AGAINST), other.ns_a_sample(LOADER)
    assert welch_fails(quick, slow)
    assert not welch_fails(slow, quick)
    assert not welch_fails(quick, same.ns_a_sample(LOADER))


def test_a_machine_that_changes_between_two_runs_fools_those_that_compare_two():
    verdicts = judged(recording(0.0), recording(0.0, machine=1.2, seed=1))
    assert [rule for rule, fails in verdicts.items() if fails] == [
        "compare-fail=mean:5%",
        "compare-fail=median:5%",
        "compare-fail=min:5%",
        "Welch's t-test, two runs",
    ]


def test_the_table_has_a_row_a_rule_and_a_column_a_slowdown():
    outcomes = {
        0.05: [{"one": True, "two": False}] * 4,
        0.0: [{"one": True, "two": False}] + [{"one": False, "two": False}] * 3,
    }
    assert table(outcomes).splitlines() == [
        "| FAIL by | same work | 5 % slower |",
        "|---|---|---|",
        "| one | 25 % | 100 % |",
        "| two | 0 % | 0 % |",
    ]


def test_every_claim_is_judged_on_its_recording_and_a_later_one(monkeypatch, tmp_path, capsys):
    """The machine is slower in each turn; no loader is measured here."""
    asked = []

    def record(slowdown, rounds):
        asked.append(slowdown)
        return recording(slowdown, rounds, machine=1.1 ** (len(asked) // len(compare.SLOWDOWNS)), spread=0.002)

    monkeypatch.setattr(compare, "record", record)
    file = tmp_path / "made" / "compare.json"
    monkeypatch.setattr(sys, "argv", ["compare", "--claims", "3", "--rounds", "40", "--json", str(file)])
    compare.main()
    assert "| compare-fail=min:5% | 100 % | 100 % | 100 % | 100 % | 100 % |" in capsys.readouterr().out
    document = json.loads(file.read_text())
    assert [row["slowdown"] for row in document["slowdowns"]] == [*compare.SLOWDOWNS]
    assert [len(row["fails"]) for row in document["slowdowns"]] == [3] * len(compare.SLOWDOWNS)
    ours = [row["fails"][0]["ours, throughput >= 0.97 x"] for row in document["slowdowns"]]
    assert ours == [False, False, True, True, True]
    assert sorted(asked) == sorted([*compare.SLOWDOWNS] * (3 + compare.LATER))
