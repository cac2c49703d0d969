"""A job's record: the samples of all ranks in the time of the slowest."""

from __future__ import annotations

from pytest_loaderperf.measurement.record import (
    Effort,
    EpochRecord,
    ResourceRecord,
    StartRecord,
    SteadyRecord,
    StepRecord,
)
from pytest_loaderperf.ranks.merging import merged


def test_a_trial_has_all_samples_in_the_time_of_the_slowest_and_each_batch_waits_for_its_slowest():
    trials = [SteadyRecord((1, 5), 7, 8, 80, untimed_ns=(3,)), SteadyRecord((2, 4), 6, 8, 80, untimed_ns=(1,))]
    job = merged(trials)
    assert (job.samples, job.nbytes, job.wall_ns, job.latencies_ns, job.untimed_ns) == (16, 160, 7, (2, 5), (3,))
    assert (job.ranks, job.effort) == (tuple(trials), None)


def test_the_effort_is_that_of_the_rank_with_most_and_all_must_be_busy():
    efforts = [Effort(10, 0, 1.0, 0.5), Effort(5, 20, 0.9), Effort(1, 1, 0.2)]
    assert merged([SteadyRecord((1,), 1, 1, 1, effort=effort) for effort in efforts]).effort == Effort(5, 20, 0.2)


def test_the_slowest_start_and_epoch_count():
    assert merged([StartRecord(3), StartRecord(5)]) == StartRecord(5, (StartRecord(3), StartRecord(5)))
    fast, slow = EpochRecord(1, 10, 2, 1, 4, 16, whole=True), EpochRecord(2, 9, 3, 4, 4, 15, whole=False)
    job = merged([fast, slow])
    assert (job.epoch_ns, job.samples, job.whole, job.ranks) == (15, 31, False, (fast, slow))


def test_memory_is_that_of_the_largest_rank_and_cpu_time_that_of_all():
    job = merged([ResourceRecord(100, 7, 4), ResourceRecord(90, 8, 5)])
    assert (job.peak_bytes, job.cpu_ns, job.samples) == (100, 15, 9)


def test_after_each_part_of_a_loop_all_wait_for_the_slowest():
    loops = [StepRecord(13, 43, (3, 10)), StepRecord(12, 42, (5, 7))]
    job = merged(loops)
    assert (job.wait_ns, job.total_ns, job.waits_ns) == (15, 45, (5, 10))
    assert [(rank.wait_ns, rank.total_ns) for rank in job.ranks] == [(13, 45), (12, 45)]
