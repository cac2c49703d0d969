"""The simulated job against closed forms, against a slow simulation, and the work of workers against the true work."""

from __future__ import annotations

import numpy as np
import pytest

from pytest_loaderperf.scale.model import Job, settling_steps, waits, work_of

STEP_S = 1.0


def mean_wait(work_s, *, ranks=1, prefetch=0, workers=1, block=1.0, steps=400, copies=40):
    job = Job(ranks, prefetch, workers, STEP_S, block)
    return waits(np.atleast_2d(work_s), job, steps, copies, np.random.default_rng(1)).mean()


def mean_wait_slowly(draw, *, ranks, prefetch, workers, steps=3000):
    """One job, event by event: a worker is handed a batch when an earlier one is taken, and makes its own in turn."""
    handed = [[0.0] * prefetch for _ in range(ranks)]
    free = [[0.0] * workers for _ in range(ranks)]
    now, waited = 0.0, []
    for step in range(steps):
        taken = []
        for rank in range(ranks):
            worker = step % workers
            free[rank][worker] = max(free[rank][worker], handed[rank][step]) + draw()
            taken.append(max(now, free[rank][worker]))
            handed[rank].append(taken[-1])
        waited.append(max(taken) - now)
        now = max(taken) + STEP_S
    return np.mean(waited[200:])


@pytest.mark.parametrize("ranks", [1, 8, 64, 512])
def test_without_prefetch_exponential_times_add_the_harmonic_number_to_a_step(ranks):
    quantiles = (np.arange(200_000) + 0.5) / 200_000
    expected = np.sum(1 / np.arange(1, ranks + 1))
    assert mean_wait(-np.log1p(-quantiles), ranks=ranks) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("probability, ranks", [(0.01, 1), (0.01, 64), (0.001, 512)])
def test_without_prefetch_a_step_is_delayed_if_any_rank_stalls(probability, ranks):
    work_s = np.zeros(10_000)
    work_s[: round(10_000 * probability)] = 5.0
    expected = 1 - (1 - probability) ** ranks
    share = mean_wait(np.random.default_rng(0).permutation(work_s), ranks=ranks) / 5.0
    assert share == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    "work, workers, waited", [(0.9, 1, 0.0), (1.5, 1, 0.5), (3.0, 2, 0.5), (1.9, 2, 0.0), (8.0, 4, 1.0)]
)
@pytest.mark.parametrize("ranks", [1, 7])
def test_equal_batches_wait_for_what_the_workers_cannot_hide(work, workers, waited, ranks):
    found = mean_wait([work] * 50, ranks=ranks, prefetch=2 * workers, workers=workers, copies=1)
    assert found == pytest.approx(waited, abs=1e-9)


def test_one_batch_ahead_hides_a_step_and_a_deep_prefetch_all_but_the_mean():
    work_s = np.random.default_rng(0).exponential(0.8, 5000)
    assert mean_wait(work_s, prefetch=500, copies=8) < 0.02
    assert mean_wait(work_s, prefetch=1, copies=80) == pytest.approx(0.8 * np.exp(-STEP_S / 0.8), rel=0.1)
    assert mean_wait(2 * work_s, prefetch=500, copies=8) == pytest.approx(2 * work_s.mean() - STEP_S, rel=0.1)


def test_a_burst_of_slow_batches_empties_the_prefetch_where_single_ones_do_not():
    work_s = np.full(5000, 0.2)
    work_s[1000:1020] = 2.5
    in_a_row = mean_wait(work_s, prefetch=4, block=200.0)
    assert mean_wait(work_s, prefetch=4, block=1.0) == pytest.approx(0.0, abs=1e-3)
    assert in_a_row > 0.003


@pytest.mark.parametrize("ranks, prefetch, workers", [(1, 2, 1), (8, 4, 2), (4, 3, 3), (16, 8, 4)])
def test_it_agrees_with_a_simulation_event_by_event(ranks, prefetch, workers):
    rng = np.random.default_rng(0)
    slow = mean_wait_slowly(lambda: rng.lognormal(-0.3, 0.8) * workers, ranks=ranks, prefetch=prefetch, workers=workers)
    work_s = np.random.default_rng(2).lognormal(-0.3, 0.8, 100_000) * workers
    fast = mean_wait(work_s, ranks=ranks, prefetch=prefetch, workers=workers)
    assert fast == pytest.approx(slow, rel=0.1)


def test_no_more_workers_work_than_batches_are_ahead():
    work_s = np.random.default_rng(0).exponential(1.0, 5000)
    assert mean_wait(work_s, prefetch=2, workers=8) == mean_wait(work_s, prefetch=2, workers=2)


def test_steps_before_it_has_settled_are_left_out():
    found = waits(np.full((3, 30), 4.0), Job(2, 4, 1, STEP_S, 5.0), 7, 6, np.random.default_rng(0))
    assert found.shape == (3, 6, 7)
    assert settling_steps(Job(2, 4, 1, STEP_S, 5.0)) > 4
    assert np.all(found == pytest.approx(3.0))


def latencies_of(work_s, workers, prefetch):
    """How long a consumer that does nothing else waits for each batch."""
    handed, free, now, found = [0.0] * prefetch, [0.0] * workers, 0.0, []
    for batch, work in enumerate(work_s):
        worker = batch % workers
        free[worker] = max(free[worker], handed[batch]) + work
        ready = max(now, free[worker])
        found.append(ready - now)
        handed.append(ready)
        now = ready
    return np.array(found[50:])


def lognormal(rng, n):
    return rng.lognormal(-0.3, 0.6, n)


def with_slow_ones(rng, n):
    return rng.lognormal(0, 0.2, n) * np.where(rng.random(n) < 0.03, 4, 1)


@pytest.mark.parametrize("draw", [lognormal, with_slow_ones])
@pytest.mark.parametrize("workers, prefetch", [(2, 4), (4, 8), (8, 16), (4, 4)])
def test_what_workers_do_follows_from_when_their_batches_are_received(draw, workers, prefetch):
    true_s = draw(np.random.default_rng(0), 20_000) * workers
    found_s = work_of(latencies_of(true_s, workers, prefetch), workers, prefetch)
    for ranks in (1, 16):
        true, found = (
            STEP_S + mean_wait(work_s, ranks=ranks, prefetch=prefetch, workers=workers) for work_s in (true_s, found_s)
        )
        assert found == pytest.approx(true, rel=0.1)


def test_the_work_of_one_worker_is_what_is_waited_for():
    latencies_s = np.random.default_rng(0).exponential(1.0, 100)
    for workers, prefetch in ((0, 0), (1, 2), (4, 1)):
        assert np.array_equal(work_of(latencies_s, workers, prefetch), latencies_s)
    assert work_of(np.full(100, 0.5), 4, 8) == pytest.approx(np.full(92 + 1, 2.0))
