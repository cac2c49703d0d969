"""What a run's document keeps of its trials."""

from __future__ import annotations

from types import SimpleNamespace

from pytest_loaderperf.measurement import Key, Steady
from pytest_loaderperf.measurement.record import SteadyRecord
from pytest_loaderperf.runs.results import _MOST_TRIALS, _trials


def run_of(walls_ns):
    records = [SteadyRecord((wall_ns,), wall_ns, 10, 0) for wall_ns in walls_ns]
    done = [SimpleNamespace(records={Key("loader", Steady()): record}) for record in records]
    return SimpleNamespace(rounds=SimpleNamespace(done=[SimpleNamespace(records={}), *done]))


def test_trials_are_kept_in_order_as_seconds_a_sample():
    assert _trials(run_of([10**9, 2 * 10**9]), "loader") == [0.1, 0.2]
    assert _trials(run_of([10**9]), "against") == []


def test_of_very_many_trials_evenly_chosen_ones_are_kept():
    kept = _trials(run_of(range(10, 10 + 3 * _MOST_TRIALS)), "loader")
    assert len(kept) == _MOST_TRIALS
    assert kept == sorted(kept)
    assert kept[-1] > 2.9 * _MOST_TRIALS * 1e-10
