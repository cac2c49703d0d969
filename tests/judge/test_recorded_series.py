"""Series recorded from real DataLoaders, whose truth is known by construction, are judged right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_loaderperf.judge import Outcome, PairTest, claim_alpha

FOLDER = Path(__file__).parents[2] / "fixtures" / "series"
NAMES = ["aa", "aa_workers", "busy_wait_ten_percent"]
COLUMNS = ["loader_ns", "loader_samples", "against_ns", "against_samples"]


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def judged(name, needed, *, at_least=True):
    test = PairTest(needed, at_least)
    alpha = claim_alpha(0.001, 0)
    for loader_ns, loader_samples, against_ns, against_samples in load(name)["pairs"]:
        test.add((loader_samples / loader_ns) / (against_samples / against_ns))
        if test.outcome(alpha) is not Outcome.INCONCLUSIVE:
            break
    return test.outcome(alpha)


def test_every_recorded_series_is_judged_here():
    assert sorted(path.stem for path in FOLDER.glob("*.json")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_series_holds_whole_nanoseconds_and_samples_and_its_truth(name):
    series = load(name)
    assert series["columns"] == COLUMNS
    assert 200 <= len(series["pairs"]) <= 300
    assert {type(number) for pair in series["pairs"] for number in pair} == {int}
    assert min(number for pair in series["pairs"] for number in pair) > 0
    assert series["truth"]["text"]
    assert 0.5 < series["truth"]["ratio"] <= 1


@pytest.mark.parametrize(
    "name, needed, at_least, outcome",
    [
        ("aa", 0.97, True, "PASS"),
        ("aa", 1.03, True, "FAIL"),
        ("aa", 1.03, False, "PASS"),
        ("aa_workers", 0.85, True, "PASS"),
        ("aa_workers", 1.15, True, "FAIL"),
        ("busy_wait_ten_percent", 0.97, True, "FAIL"),
        ("busy_wait_ten_percent", 0.97, False, "PASS"),
        ("busy_wait_ten_percent", 0.85, True, "PASS"),
        ("busy_wait_ten_percent", 0.85, False, "FAIL"),
    ],
)
def test_a_claim_away_from_the_truth_is_settled_right(name, needed, at_least, outcome):
    assert judged(name, needed, at_least=at_least) is Outcome(outcome)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("at_least", [True, False])
def test_a_claim_that_the_truth_meets_with_room_never_fails(name, at_least):
    needed = load(name)["truth"]["ratio"] * (0.97 if at_least else 1.03)
    assert judged(name, needed, at_least=at_least) is not Outcome.FAIL
