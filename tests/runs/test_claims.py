"""Which test settles which comparison, and what a round adds to it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pytest_loaderperf import ms, s
from pytest_loaderperf.errors import MeasureError
from pytest_loaderperf.judge import ExactTest, Outcome, PairTest, PercentileTest, RatioTest, SignTest
from pytest_loaderperf.measurement import Key, Refilled, Work
from pytest_loaderperf.measurement.record import Effort, EpochRecord, ResourceRecord, StartRecord, SteadyRecord
from pytest_loaderperf.runs.claims import CPU, Evidence
from pytest_loaderperf.runs.metric import Measured

RUN = object()
LOADER, OTHER = Measured(RUN, "loader", ""), Measured(RUN, "against", "against.")
THROUGHPUT, LATENCY, MEMORY = LOADER.throughput, LOADER.batch_latency.p99, LOADER.peak_memory


def settling_test(left, right, *, at_least):
    evidence = Evidence(left, right, at_least=at_least)
    return evidence.test, evidence.add


def trial(samples, wall_ns=1_000_000_000, latencies_ns=(1_000_000,)):
    return SteadyRecord(latencies_ns, wall_ns, samples, samples * 8)


def memory(peak_bytes):
    return ResourceRecord(peak_bytes, 1, 1)


@pytest.mark.parametrize(
    "left, right, kind, needed",
    [
        (THROUGHPUT, OTHER.throughput, RatioTest, 1.0),
        (THROUGHPUT, 0.8 * OTHER.throughput, RatioTest, 0.8),
        (2 * THROUGHPUT, OTHER.throughput, RatioTest, 0.5),
        (LATENCY, 2 * OTHER.batch_latency.p99, PairTest, 2.0),
        (THROUGHPUT, 5000, SignTest, 5000),
        (2 * THROUGHPUT, 5000, SignTest, 2500),
        (LOADER.first_batch, 2 * s, SignTest, 2.0),
        (LATENCY, 5 * ms, PercentileTest, 0.005),
        (2 * LATENCY, 5 * ms, PercentileTest, 0.0025),
        (MEMORY, 1000, ExactTest, 1000),
        (MEMORY, 2 * OTHER.peak_memory, ExactTest, 2.0),
    ],
)
@pytest.mark.parametrize("at_least", [True, False])
def test_each_comparison_has_its_test(left, right, kind, needed, at_least):
    test, _ = settling_test(left, left.comparable(right), at_least=at_least)
    assert type(test) is kind
    assert (test.needed, test.at_least, test.n) == (pytest.approx(needed), at_least, 0)


def test_a_pair_adds_the_ratio_of_its_two_values():
    test, add = settling_test(0.5 * THROUGHPUT, 2 * OTHER.throughput, at_least=True)
    add({THROUGHPUT.key: trial(900), OTHER.throughput.key: trial(300)})
    ruling = test.ruling(0.05, 0)
    assert (ruling.estimate, ruling.needed, ruling.n) == (pytest.approx(3.0), 4.0, 1)


def test_slices_settle_what_their_sums_are_too_noisy_for():
    test, add = settling_test(THROUGHPUT, OTHER.throughput, at_least=True)
    for spoiled in ((3, 1, 1), (1, 4, 1), (1, 1, 1), (1, 1, 5)) * 6:
        mine = replace(trial(3, wall_ns=10 * sum(spoiled)), slices_ns=tuple(map(float, spoiled)))
        add({THROUGHPUT.key: mine, OTHER.throughput.key: replace(trial(3, wall_ns=27), slices_ns=(0.9, 0.9, 0.9))})
    assert test.outcome(0.001) is Outcome.FAIL
    assert test.ruling(0.001, 0).estimate == pytest.approx(0.9)


def test_two_slices_are_as_good_as_their_sum():
    test, add = settling_test(THROUGHPUT, OTHER.throughput, at_least=True)
    mine, theirs = (
        replace(trial(2, wall_ns=30), slices_ns=(10.0, 20.0)),
        replace(trial(2, wall_ns=60), slices_ns=(30.0, 30.0)),
    )
    add({THROUGHPUT.key: mine, OTHER.throughput.key: theirs})
    assert test.ruling(0.05, 0).estimate == pytest.approx(2.0)


def test_a_single_metric_adds_its_value_without_the_factor():
    test, add = settling_test(2 * THROUGHPUT, (2 * THROUGHPUT).comparable(1000), at_least=True)
    add({THROUGHPUT.key: trial(900)})
    assert test.ruling(0.05, 0).estimate == pytest.approx(900)


def test_a_percentile_adds_every_batch():
    test, add = settling_test(LATENCY, LATENCY.comparable(5 * ms), at_least=False)
    add({LATENCY.key: trial(8, latencies_ns=(1_000_000, 6_000_000, 2_000_000))})
    assert test.n == 3
    assert test.ruling(0.05, 0).estimate == pytest.approx(0.006)


@pytest.mark.parametrize("peaks, outcome", [((900, 1000), "PASS"), ((900, 1001, 900), "FAIL")])
def test_memory_is_judged_by_the_largest_peak(peaks, outcome):
    test, add = settling_test(MEMORY, MEMORY.comparable(1000), at_least=False)
    for peak in peaks:
        add({MEMORY.key: memory(peak)})
    assert test.outcome(0.001) is Outcome(outcome)


@pytest.mark.parametrize(
    "mine, theirs, outcome",
    [(100, 100, "PASS"), (101, 100, "FAIL"), (0, 100, "PASS"), (100, 0, "FAIL"), (0, 0, "PASS")],
)
def test_memory_against_memory_holds_as_the_numbers_do(mine, theirs, outcome):
    test, add = settling_test(MEMORY, OTHER.peak_memory, at_least=False)
    add({MEMORY.key: memory(mine), OTHER.peak_memory.key: memory(theirs)})
    assert test.outcome(0.001) is Outcome(outcome)


@pytest.mark.parametrize("mine, theirs, came", [(0, 5, "0.0"), (5, 0, "inf")])
def test_a_duration_of_zero_is_refused(mine, theirs, came):
    test, add = settling_test(LOADER.first_batch, OTHER.first_batch, at_least=False)
    with pytest.raises(MeasureError, match=f"^expected a positive, finite measured value, got {came}. "):
        add({LOADER.first_batch.key: StartRecord(mine), OTHER.first_batch.key: StartRecord(theirs)})
    assert test.n == 0


def busy(cpu_ns, busiest=1.0, samples=100, wall_ns=1_000_000_000):
    return replace(trial(samples, wall_ns), effort=Effort(cpu_ns // 4, cpu_ns - cpu_ns // 4, busiest))


def throughputs(**how):
    return Evidence(THROUGHPUT, OTHER.throughput, at_least=True, **how)


def noisy(number):
    """Nanoseconds of a pair by the clock: a third slower or a tenth faster, a tenth slower in all."""
    return (round(1.35e9), 10**9) if number % 2 else (round(1.1e9), round(1.22e9))


@pytest.mark.parametrize("busiest, outcome, by", [(1.0, "FAIL", CPU), (0.5, "INCONCLUSIVE", "sums")])
def test_cpu_time_settles_what_the_clock_is_too_noisy_for_where_a_process_is_always_busy(busiest, outcome, by):
    evidence = throughputs()
    for number in range(100):
        mine, theirs = noisy(number)
        evidence.add(
            {
                THROUGHPUT.key: busy(1_250_000_000, busiest, wall_ns=mine),
                OTHER.throughput.key: busy(10**9, wall_ns=theirs),
            }
        )
    ruling = evidence.ruling(0.001, 0)
    assert (str(ruling.outcome), ruling.by) == (outcome, by)
    if by == CPU:
        assert ruling.estimate == pytest.approx(0.8)


def worked_round(mine_ns, theirs_ns):
    def record(ns):
        return replace(trial(3, wall_ns=round(3 * ns)), slices_ns=(ns, ns, ns))

    return {Key("loader", Work()): record(mine_ns), Key("against", Work()): record(theirs_ns)}


@pytest.mark.parametrize("worked, outcome", [(True, "FAIL"), (False, "INCONCLUSIVE")])
def test_the_work_of_workers_settles_a_claim_where_it_counts(worked, outcome):
    evidence = throughputs(aside=Work() if worked else None)
    for number in range(40):
        evidence.add(worked_round(1.2, 1.0 + number % 2 / 100))
        mine, theirs = noisy(number)
        evidence.add({THROUGHPUT.key: trial(100, mine), OTHER.throughput.key: trial(100, theirs)})
    assert str(evidence.ruling(0.001, 0).outcome) == outcome


def test_of_rounds_that_walk_far_the_sums_count_for_the_work():
    record = replace(trial(3, wall_ns=30), slices_ns=(1.0, 1.0, 28.0))
    rounds = {Key("loader", Work()): record, Key("against", Work()): replace(trial(3, wall_ns=3), slices_ns=(1.0,) * 3)}
    typical, walking = throughputs(aside=Work()), throughputs(aside=Work(), walks=True)
    for evidence in (typical, walking):
        evidence.add(rounds)
    assert typical.test.work.ruling(0.05, 0).estimate == pytest.approx(1.0)
    assert walking.test.work.ruling(0.05, 0).estimate == pytest.approx(0.1)


def refilled(mine, theirs, busiest=1.0, trials_ns=10):
    """Evidence of three trials and a round of refills."""
    evidence = throughputs(aside=Refilled())
    effort = Effort(0, 100 * trials_ns, busiest)
    for _ in range(3):
        evidence.add({key: replace(trial(100), effort=effort) for key in evidence.keys})
    records = [replace(trial(9), slices_ns=ns, cpu_slices_ns=ns) for ns in (mine, theirs)]
    evidence.add(dict(zip(evidence.aside_keys, records, strict=True)))
    return evidence


@pytest.mark.parametrize(
    "mine, theirs, ratio",
    [
        ((5.0, 10.0, 20.0), (10.0, 10.0, 10.0), 1.0),
        ((math.nan, 10.0, 0.0), (20.0, 15.0, 20.0), 1.5),  # the first batches were empty
    ],
)
def test_a_typical_turn_of_refills_counts_and_empty_batches_do_not(mine, theirs, ratio):
    evidence = refilled(mine, theirs)
    assert evidence.refills == 1
    assert evidence.test._slices.ruling(0.05, 0).estimate == pytest.approx(ratio)


@pytest.mark.parametrize(
    "mine, busiest, trials_ns",
    [
        ((10.0,) * 3, 0.5, 10),  # it waits for something else
        ((math.nan,) * 3, 1.0, 10),
        ((10.0,) * 3, 1.0, 25),  # most of the work is in other turns
        ((10.0,) * 3, 1.0, 4),
    ],
)
def test_turns_that_do_not_hold_the_work_of_their_batches_do_not_count(mine, busiest, trials_ns):
    evidence = refilled(mine, (10.0,) * 3, busiest, trials_ns)
    assert (evidence.refills, evidence.test._slices.n) == (0, 0)


def test_a_round_that_holds_nothing_of_a_claim_adds_nothing():
    evidence = throughputs(aside=Work())
    evidence.add({})
    evidence.add({THROUGHPUT.key: trial(900)})
    assert (evidence.test.n, evidence.test.work.n) == (0, 0)


@pytest.mark.parametrize("epoch_s, outcome", [(1.0, Outcome.FAIL), (0.1, Outcome.INCONCLUSIVE)])
@pytest.mark.parametrize("metric", ["epoch", "epoch_throughput"])
def test_whole_epochs_of_half_a_second_are_long_trials(metric, epoch_s, outcome):
    left, right = getattr(LOADER, metric), getattr(OTHER, metric)
    test, add = settling_test(
        left, left.comparable(1.1 * right if metric == "epoch" else 0.9 * right), at_least=metric != "epoch"
    )
    for _ in range(4):  # three times as slow
        records = {
            metric_of.key: EpochRecord(0, round(epoch_s * 1e9 * factor), 0, 0, 10, 100, whole=True)
            for metric_of, factor in ((left, 3.0), (right, 1.0))
        }
        add(records)
    assert test.outcome(0.0005) is outcome


def test_the_exit_of_an_epoch_is_no_long_trial():
    test, add = settling_test(LOADER.epoch_exit, LOADER.epoch_exit.comparable(1.1 * OTHER.epoch_exit), at_least=False)
    for _ in range(4):
        add(
            {
                m.key: EpochRecord(0, 10**9, 0, ns, 10, 100)
                for m, ns in ((LOADER.epoch_exit, 3000), (OTHER.epoch_exit, 1000))
            }
        )
    assert test.outcome(0.0005) is Outcome.INCONCLUSIVE
