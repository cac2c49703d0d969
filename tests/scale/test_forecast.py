"""Jobs with intervals, and the quantile that matters for their ranks."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_loaderperf.scale import Recorded, forecast
from pytest_loaderperf.scale.forecast import tail


def recorded(latencies_s, prefetch=0, workers=0):
    return Recorded("t.py::test_a", "loader", "DataLoader", np.asarray(latencies_s), prefetch, workers, 0.1)


def exponential(n, seed=0, mean=0.1):
    return np.random.default_rng(seed).exponential(mean, n)


@pytest.mark.parametrize(
    "ranks, share", [(1, 0.9), (8, 0.9), (10, 0.9), (11, 0.99), (64, 0.99), (512, 0.999), (4096, 0.9999)]
)
def test_a_quantile_with_more_nines_matters_at_more_ranks(ranks, share):
    found = tail(np.arange(1, 100_001) / 1e5, ranks)
    assert found.share == pytest.approx(share)
    assert found.latency_s == pytest.approx(share, abs=2e-5)
    assert found.steps == pytest.approx(1 - share**ranks, abs=2e-2)
    assert found.seen


def test_of_512_ranks_two_steps_in_five_meet_the_slowest_batch_in_a_thousand():
    latencies_s = np.full(10_000, 0.01)
    latencies_s[::1000] = 0.18
    found = tail(latencies_s, 512)
    assert (found.latency_s, found.share) == (0.18, pytest.approx(0.999))
    assert found.steps == pytest.approx(0.4, abs=0.01)


def test_too_few_batches_for_the_quantile_are_said_with_how_many_it_takes():
    found = tail(exponential(500), 4096)
    assert (found.seen, found.needed) == (False, 20_000)
    assert tail(exponential(20_000), 4096).seen
    assert forecast(recorded(exponential(500)), [4096], [0], 0.25).reach == pytest.approx(0.996)


def test_a_job_takes_longer_with_more_ranks_and_less_with_prefetch():
    found = forecast(recorded(exponential(2000)), [2, 16], [0, 2, 8], 0.25)
    steps = np.array([cell.step_s.value for cell in found.cells]).reshape(2, 3)
    assert [(cell.ranks, cell.prefetch) for cell in found.cells[:4]] == [(2, 0), (2, 2), (2, 8), (16, 0)]
    assert np.all(np.diff(steps, axis=0) >= 0)
    assert np.all(np.diff(steps, axis=1) < 0)
    for cell in found.cells:
        assert cell.use.value == pytest.approx(0.25 / cell.step_s.value)
        for low, value, high in ((of.low, of.value, of.high) for of in (cell.step_s, cell.use, cell.waiting)):
            assert low <= value <= high
        assert 0 < cell.use.low <= cell.use.high <= 1
        assert 0 <= cell.waiting.low <= cell.waiting.high <= 1
    assert found == forecast(recorded(exponential(2000)), [2, 16], [0, 2, 8], 0.25)


def test_the_interval_holds_the_truth_and_narrows_with_more_batches():
    """The truth is known: 0.25 s and the expected maximum of 8 exponential times."""
    truth = 0.25 + 0.1 * np.sum(1 / np.arange(1, 9))
    widths, held = {}, 0
    for n in (200, 3200):
        found = [forecast(recorded(exponential(n, seed)), [8], [0], 0.25).cells[0].step_s for seed in range(5)]
        held += sum(cell.low <= truth <= cell.high for cell in found)
        widths[n] = np.mean([cell.high - cell.low for cell in found])
    assert held >= 8
    assert widths[3200] < 0.5 * widths[200]


def test_equal_latencies_have_no_interval_and_slow_workers_no_overlap_to_hide_them():
    [cell] = forecast(recorded(np.full(100, 0.25), 4, 2), [64], [4], 0.1).cells
    assert (cell.step_s.value, cell.step_s.low, cell.step_s.high) == pytest.approx((0.25, 0.25, 0.25))
    assert (cell.use.value, cell.waiting.value) == pytest.approx((0.4, 0.5))  # the workers' batches come in pairs
    [cell] = forecast(recorded(np.full(100, 0.05), 4, 2), [64], [4], 0.1).cells
    assert (cell.step_s.value, cell.use.value, cell.waiting.value) == pytest.approx((0.1, 1.0, 0.0))


def test_large_jobs_are_simulated_in_bounded_parts():
    import tracemalloc

    latencies_s = exponential(1000, mean=0.02)
    tracemalloc.start()
    [cell] = forecast(recorded(latencies_s, 16, 1), [4096], [16], 0.05).cells
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert cell.step_s.value >= 0.05
    assert peak < 300e6
