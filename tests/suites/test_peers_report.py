"""The peers' harness where it only computes: no peer is installed for these tests."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from pytest_loaderperf.engines.record import LONGEST_TRIAL_NS, TRIAL_NS, Row, Trial, calibrated, cpu_s_per_1k
from suites.peers import report
from suites.peers.harness import EXTRA, schedule
from suites.peers.loaders import IN_PROCESS, LIMIT, OURS, PEERS, WORKERS, is_peer

BATCH_SIZE = 32


def row(name, seconds, *, regime="vectors", cpu_s=0.5, first_ms=(1.0,), pss_mb=100, base_mb=90):
    """A row whose trials of 1,000 batches took ``seconds``, one a turn."""
    return Row(
        name,
        regime,
        how="somehow",
        batch_size=BATCH_SIZE,
        epoch_batches=1_000,
        trials=[Trial(turn, int(s * 1e9), 1_000, 1_250, cpu_s) for turn, s in enumerate(seconds)],
        first_ns=[int(ms * 1e6) for ms in first_ms],
        base_nbytes=base_mb * 10**6,
        pss_nbytes=[pss_mb * 10**6] * len(seconds),
    )


def test_a_trial_is_whole_epochs_however_short_they_are():
    assert calibrated(epoch_batches=100, batch_ns=TRIAL_NS / 1_000) == 1_000
    assert calibrated(epoch_batches=100, batch_ns=TRIAL_NS / 70) == 100


def test_a_trial_is_cut_short_where_an_epoch_takes_too_long():
    assert calibrated(epoch_batches=100, batch_ns=LONGEST_TRIAL_NS / 20) == 20
    assert calibrated(epoch_batches=100, batch_ns=LONGEST_TRIAL_NS * 5) == 1


def test_throughput_is_the_median_of_the_trials():
    assert report.samples_per_s(row(OURS, [1.0, 2.0, 10.0])) == 16_000


def test_ratio_is_taken_within_a_turn_and_then_the_median():
    """The machine is ten times slower in the second turn; the ratio of medians would say 1.5 or 20."""
    ours, other = row(OURS, [1.0, 10.0, 1.0]), row(IN_PROCESS, [2.0, 20.0, 30.0])
    assert report.ratio(ours, other) == 2.0


def test_ratio_leaves_out_turns_that_only_one_took_part_in():
    ours, other = row(OURS, [1.0, 1.0, 1.0]), row(IN_PROCESS, [9.0, 3.0, 9.0])
    other.trials = other.trials[1:2]
    assert report.ratio(ours, other) == 3.0


def test_cpu_seconds_count_the_untimed_batches_too():
    assert cpu_s_per_1k(row(OURS, [1.0, 1.0], cpu_s=0.5)) == pytest.approx(1e3 * 0.5 / (1_250 * BATCH_SIZE))


def test_table_sorts_by_speed_and_ends_with_those_that_have_no_figures():
    slow, fast = row(IN_PROCESS, [4.0, 4.0], first_ms=(2.0, 4.0, 3.0)), row(OURS, [0.5, 1.0])
    absent = Row("SPDL", "vectors", problem="not installed: no module spdl", unable=True)
    assert report.table("in memory", [slow, absent, fast]).splitlines() == [
        "in memory",
        "loader                      used as                           samples/s x torch TTFB ms CPU s/k   MB",
        "----------------------------------------------------------------------------------------------------",
        "ReferenceLoader             somehow                              48,000    6.00     1.0  0.0125  100",
        "torch DataLoader            somehow                               8,000    1.00     3.0  0.0125  100",
        "SPDL                        not installed: no module spdl",
    ]


def test_table_says_who_was_busy_while_others_were_measured():
    busy = row("Ray Data", [1.0])
    busy.idle_cpu_s, busy.idle_s = 3.0, 10.0
    assert report.table("", [busy]).splitlines()[-1] == "  Ray Data used 30% of a core while others were measured"


def test_a_loader_that_failed_midway_has_no_figures():
    broken = row(OURS, [1.0])
    broken.problem = "died: Killed"
    assert report.by_name([broken]) == {}
    assert "died: Killed" in report.table("", [broken])


def test_of_several_variants_the_fastest_counts():
    slow, fast = row("SPDL", [3.0]), row("SPDL", [2.0])
    assert report.by_name([fast, slow])["SPDL"] is fast


def test_the_best_peer_is_neither_the_limit_nor_our_own():
    rows = [row(LIMIT, [0.1]), row(OURS, [0.2]), row("SPDL", [2.0]), row(IN_PROCESS, [1.0])]
    best = report.best_peer(rows)
    assert best is not None
    assert best.name == IN_PROCESS
    assert not is_peer(OURS)


def figures_of(**results):
    return [str(figure) for figure in report.figures(results)]


def test_figures_in_memory():
    rows = [row(LIMIT, [0.9]), row(OURS, [1.0]), row(IN_PROCESS, [11.0]), row("tensordict", [3.0])]
    assert figures_of(vectors=rows) == [
        "met           vectors: ReferenceLoader / torch DataLoader >= 10: 11",
        "MISSED        vectors: ReferenceLoader / best peer (tensordict) >= 4: 3",
        "met           vectors: ReferenceLoader / copy limit >= 0.9: 0.9",
    ]


def test_figures_of_decoding():
    """Decoding one batch takes 8 ms: the first batch comes 1 ms later here, and 30 ms later there."""
    rows = [
        row(LIMIT, [1.0], first_ms=(8.0,)),
        row(OURS, [1.0], first_ms=(9.0,), pss_mb=110, base_mb=100),
        row(WORKERS, [2.0], first_ms=(38.0,), pss_mb=200, base_mb=100),
    ]
    assert figures_of(decode=rows) == [
        "met           decode: ReferenceLoader / bare decoding on as many threads >= 0.95: 1",
        "met           decode: ReferenceLoader / best peer (torch DataLoader, workers) >= 1.2: 2",
        "met           decode: TTFB beyond decoding, torch workers / ReferenceLoader >= 20: 30",
        "MISSED        decode: PSS, ReferenceLoader / torch workers (10 and 100 MB beyond imports, data) <= 0.5: 0.55",
    ]


def test_a_first_batch_sooner_than_decoding_it_is_not_divided_by_less_than_nothing():
    rows = [row(LIMIT, [1.0], first_ms=(8.0,)), row(OURS, [1.0], first_ms=(7.0,)), row(WORKERS, [1.0], first_ms=(9.0,))]
    (first,) = [figure for figure in report.figures({"decode": rows}) if "TTFB" in figure.text]
    assert first.value == pytest.approx(10.0)
    assert first.missed


def test_a_figure_without_both_sides_is_not_measured_and_not_missed():
    (first, *_) = report.figures({"vectors": [row(OURS, [1.0])]})
    assert not first.missed
    assert str(first) == (
        "not measured  vectors: ReferenceLoader / torch DataLoader >= 10: one of the two has no figures"
    )


def test_every_round_holds_all_loaders_once_and_the_compared_ones_more_often():
    turns = schedule(["a", "b", "c"], ["a"], rounds=4, rng=random.Random(1))  # noqa: S311 an order
    assert Counter(name for turn in turns for name in turn) == {"a": 4 * (1 + EXTRA), "b": 4, "c": 4}
    assert all(sorted(turn) in (["a", "b", "c"], ["a"]) for turn in turns)
    assert len({tuple(turn) for turn in turns if len(turn) > 1}) > 1


def test_every_peer_of_the_registry_is_told_apart():
    assert LIMIT in PEERS
    assert [name for name in PEERS if not is_peer(name)] == [LIMIT, OURS]
