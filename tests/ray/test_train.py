"""The waits of a training loop, without a cluster."""

from __future__ import annotations

import pytest

from pytest_loaderperf.errors import MeasureError
from pytest_loaderperf.ray.train import TrainLoop, measure_in_ray_train, summary
from pytest_loaderperf.report.ray_train import wait_lines

pytest.importorskip("ray")
MS = 1_000_000  # nanoseconds


class Clock:
    """A clock that stands still except where it is told to go on."""

    def __init__(self):
        self.now_ns = 0

    def __call__(self):
        return self.now_ns


def batches(clock, waits_ms):
    for number, wait_ms in enumerate(waits_ms):
        clock.now_ns += wait_ms * MS
        yield number


class Epochs:
    """Batches that can be iterated again, after the same waits."""

    def __init__(self, clock, waits_ms):
        self.clock, self.waits_ms = clock, waits_ms

    def __iter__(self):
        return batches(self.clock, self.waits_ms)


def loop(waits_ms, step_ms, epochs=1, rank=0, size=1):
    clock = Clock()
    waits = TrainLoop(Epochs(clock, waits_ms), rank, size, clock)
    for _ in range(epochs):
        got = []
        for batch in waits:
            got.append(batch)
            clock.now_ns += step_ms * MS
        assert got == list(range(len(waits_ms)))
    return waits


def record(rank, wait_s, steps=10, step_s=0.01):
    waits = {"mean_wait_seconds": wait_s, "mean_step_seconds": step_s, "first_batch_seconds": 1.5}
    return {"rank": rank, "host": f"host{rank}", "steps": steps, "data_wait": wait_s / (wait_s + step_s), **waits}


def test_a_wait_is_from_the_end_of_a_step_to_the_next_batch():
    found = loop([500, 2, 4], step_ms=9).record()
    assert (found["rank"], found["steps"]) == (0, 2)
    assert found["mean_wait_seconds"] == pytest.approx(0.003)
    assert found["mean_step_seconds"] == pytest.approx(0.009)
    assert found["data_wait"] == pytest.approx(3 / 12)


def test_the_first_step_of_each_epoch_is_excluded():
    found = loop([500, 2], step_ms=2, epochs=3).record()
    assert (found["steps"], found["data_wait"]) == (3, pytest.approx(0.5))
    assert found["first_batch_seconds"] == pytest.approx(0.5)


def test_a_loop_that_is_left_early_counts_the_steps_that_ended():
    clock = Clock()
    waits = TrainLoop(batches(clock, [1, 1, 1, 1]), 0, 1, clock)
    for batch in waits:
        if batch == 2:
            break
    assert waits.record()["steps"] == 1


def test_a_loop_without_batches_gives_zeros():
    found = loop([], step_ms=1).record()
    assert (found["steps"], found["data_wait"], found["mean_wait_seconds"]) == (0, 0.0, 0.0)


def test_the_slowest_worker_is_compared_with_the_median():
    found = summary([record(0, 0.002), record(1, 0.004), record(2, 0.002)])
    assert found["skew"] == pytest.approx(2.0)
    assert found["data_wait"] == pytest.approx(4 / 14)
    assert summary([record(0, 0.0), record(1, 0.0)])["skew"] is None


def test_a_worker_without_a_second_step_is_named():
    with pytest.raises(
        MeasureError, match=r"at least 2 steps in an epoch of each worker.*got fewer on rank 1 on host1"
    ):
        summary([record(0, 0.002), record(1, 0.0, steps=0)])


def test_the_table_has_a_row_for_each_worker():
    lines = wait_lines(summary([record(0, 0.002), record(1, 0.006)]), 60)
    assert [line.text for line in lines] == [
        "rank   host  steps  wait a step     step  data wait    TTFB",
        "   0  host0     10      2.00 ms  10.0 ms      16.7%  1.50 s",
        "   1  host1     10      6.00 ms  10.0 ms      37.5%  1.50 s",
        "at most 37.5% of a worker's loop is waiting for batches;",
        "rank 1 waits longest, 1.50 times as long as the median",
        "worker (skew)",
    ]


def test_one_worker_is_not_compared():
    assert wait_lines(summary([record(0, 0.01)]), 100)[-1].text == (
        "at most 50.0% of a worker's loop is waiting for batches"
    )


def test_outside_a_training_loop_it_says_where_to_call_it():
    with pytest.raises(MeasureError, match="expected to be called in the train_loop_per_worker of a Ray Train trainer"):
        measure_in_ray_train([1, 2, 3])
