"""The check of simulated jobs against real ones: a real job runs, and a row says how it compares."""

from __future__ import annotations

import multiprocessing

import pytest

from suites.scale import __main__ as compare
from suites.scale.job import Pace, step_seconds


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_ranks_wait_for_each_other_before_each_step():
    taken_s = step_seconds(2, Pace(0.001, 1), 0.02, 5)
    assert taken_s >= 0.02
    assert multiprocessing.active_children() == []


def test_a_row_has_the_measured_and_the_simulated_step(monkeypatch):
    monkeypatch.setattr(compare, "step_seconds", lambda ranks, pace, step_s, steps: 0.05 * ranks)
    [row] = compare.rows(Pace(0.002, 0), [2], 0.05, 1.0, 5)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["0", "2", "100 ms"]
    value = float(cells[3].partition(" ")[0])
    assert value >= 50
    assert float(cells[4]) == pytest.approx(value / 100, abs=0.02)
