"""The check of simulated jobs against real ones: a real job runs, and a row says how it compares."""

from __future__ import annotations

import multiprocessing

import pytest

from suites.scale import __main__ as compare
from suites.scale.job import Pace, real_job


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_ranks_wait_for_each_other_before_each_step():
    whole_s, alone_s = real_job(2, Pace(0.001, 1), 0.02, 5)
    assert whole_s >= 0.02
    assert alone_s >= 0.02
    assert multiprocessing.active_children() == []


def test_a_row_has_the_measured_and_the_simulated_step(monkeypatch):
    monkeypatch.setattr(compare, "real_job", lambda ranks, pace, step_s, steps: (0.05 * ranks, step_s))
    [row] = compare.rows(Pace(0.002, 0), [2], 0.05, 40, 5)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:4] == ["0", "2", "50.0 ms", "100 ms"]
    value = float(cells[4].partition(" ")[0])
    assert value >= 50
    assert float(cells[5]) == pytest.approx(value / 100, abs=0.02)
