"""The comparison of detectors: its histories have the steps that they say, and its counts are right."""

from __future__ import annotations

import sys
from itertools import chain

import numpy as np
import pytest

from suites.history import __main__ as compare
from suites.history.series import Case, recorded, simulated


def test_histories_have_their_steps_where_they_say():
    rng = np.random.default_rng(0)
    for case in chain(simulated(), recorded()):
        made = case.make(rng)
        assert len(made) in (60, 40, 110, 100, 120, 130, 1000)
        assert all(3 <= true <= len(made) - 3 for true in case.truth)


def test_steps_near_and_false_ones_are_counted():
    case = Case("two", (10, 30), lambda _rng: np.zeros(50))
    found = [(11, 9, 12), (25, 20, 28), (45, 44, 46)]
    assert compare.row(case, lambda series: [found for _ in series], 4) == (1.0, 0.5, 1.0, 6.5)
    assert compare.row(case, lambda series: [[] for _ in series], 4) == (0.0, 0.0, 0.0, 0.0)


def test_the_table_has_a_line_for_each_history(monkeypatch, capsys):
    cases = [case for case in simulated() if case.name.startswith(("step of 20 %", "60 commits"))]
    monkeypatch.setattr(compare, "simulated", lambda: cases)
    monkeypatch.setattr(compare, "recorded", list)
    monkeypatch.setattr(sys, "argv", ["compare", "--count", "2", "--slow", "1"])
    compare.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.count("|") for line in lines[:4]] == [5] * 4
    assert lines[3].startswith("| step of 20 %, 20 commits after it | 100.0% (best place 100.0%, range 1")
    assert lines[3].endswith("), 0.000 false | 100.0%, 0.000 false | 100.0%, 0.000 false |")
    assert lines[4].startswith("best possible place of a step of 5 %: ")
    assert "1,000 commits x 200 series" in lines[5]


def test_a_place_cannot_be_better_known_than_the_noise_allows():
    assert compare.limit(0.05, 500) == pytest.approx(0.92, abs=0.04)
    assert compare.limit(0.5, 50) == 1.0
