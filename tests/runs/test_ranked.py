"""What a run knows of the ranks of its job."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from pytest_loaderperf import measure
from pytest_loaderperf.errors import ClaimError
from pytest_loaderperf.judge import Outcome, SkewTest
from pytest_loaderperf.measurement.record import Effort, SteadyRecord
from pytest_loaderperf.runs.claims import Evidence
from pytest_loaderperf.runs.metric import Metric
from pytest_loaderperf.runs.ranked import SKEW, for_rank, notes_on, rank_times, skew_of, skews_of

METRIC = Metric(object(), "loader", "", SKEW)


def trial(*walls_ns, delayed=0.0):
    ranks = [SteadyRecord((ns,), ns, 4, 0, effort=Effort(1, 0, 1.0, delayed) if delayed else None) for ns in walls_ns]
    return replace(ranks[0], ranks=tuple(ranks))


def test_a_rank_that_waits_for_a_cpu_is_not_slow():
    job = trial(100, 100)
    waited = replace(job.ranks[0], wall_ns=150, effort=Effort(100, 0, 1.0, 1 / 3))
    assert rank_times(replace(job, ranks=(waited, job.ranks[1]))) == pytest.approx([100, 100])


def test_the_skew_is_the_largest_median_over_trials():
    found = skew_of([trial(100, 120, 100), trial(130, 120, 100), trial(100, 125, 100)])
    assert (found.value, found.n) == (pytest.approx(1.2), 3)
    assert math.isnan(skew_of([]).value)


def test_each_rank_has_its_own_ratio_to_the_others_and_the_largest_is_the_skew():
    trials = [trial(100, 120, 100), trial(130, 120, 100), trial(100, 125, 100)]
    found = skews_of(trials)
    assert [one.value for one in found] == pytest.approx([1 / 1.1, 1.2, 100 / 112.5])
    assert max(one.value for one in found) == skew_of(trials).value
    assert {one.n for one in found} == {3}


def test_a_claim_on_the_skew_has_its_own_test_which_rounds_feed():
    evidence = Evidence(2 * METRIC, (2 * METRIC).comparable(2.2), at_least=False)
    assert isinstance(evidence.test, SkewTest)
    assert evidence.test.needed == pytest.approx(1.1)
    for _ in range(30):
        evidence.add({METRIC.key: trial(100, 130, 100)})
    assert evidence.test.outcome(0.001) is Outcome.FAIL
    assert evidence.ruling(0.001, 0).estimate == pytest.approx(1.3)


def test_a_process_alone_has_no_ranks_and_says_how_to_start_several():
    with measure(lambda: [[1.0] * 4] * 40, budget=0.1) as run:
        assert run.ranks == []
        with pytest.raises(
            ClaimError, match=r"^run\.skew needs several ranks. Start them together: torchrun --nproc-per"
        ):
            _ = run.skew


RANK_2 = {"RANK": "2", "WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.mark.parametrize("environment, given", [({}, (0, 1)), (RANK_2, (2, 4))])
def test_a_factory_that_takes_rank_and_world_size_gets_them(environment, given, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def make_loader(rank, world_size=1):
        return [rank, world_size]

    made = for_rank(make_loader)
    assert (tuple(made()), made.__name__) == (given, "make_loader")
    assert for_rank(lambda rank: rank)() == given[0]


def test_other_sources_are_unchanged():
    def make():
        return []

    for source in (make, [1], len, range(3)):
        assert for_rank(source) is source


def fact(cpus=(0, 1), whole=None, begin=None):
    return {"cpus": list(cpus), "whole": whole, "begin": begin}


def test_ranks_that_share_cores_are_named_by_host():
    facts = [fact(), fact(), fact([1]), fact([4])]
    assert notes_on(facts, ["a", "a", "a", "b"]) == [
        "3 ranks share 2 cores of a: throughputs and latencies include their waiting for a core, skew does not"
    ]
    assert notes_on([fact(), fact()], ["a", "a"]) == notes_on([fact([]), fact([])], ["a", "a"]) == []


def test_a_stream_that_begins_alike_at_all_ranks_is_named():
    hosts = ["a", "b"]
    (note,) = notes_on([fact(begin="digest")] * 2, hosts)
    assert note.startswith("each of 2 ranks begins with the same batch: expected other samples at each. Split the stre")
    for other in (None, "another"):
        assert notes_on([fact(begin="digest"), fact(begin=other)], hosts) == []


def test_a_dataset_that_all_ranks_deliver_whole_is_named():
    whole = [fact(whole=(10_000, "digest"))] * 4
    (note,) = notes_on(whole, ["a", "b", "c", "d"])
    assert note.startswith("each of 4 ranks delivers all 10,000 samples: expected a part of them each. Give a Data")
    for other in (None, (10_000, "another"), (9_999, "digest")):
        assert notes_on([*whole[1:], fact(whole=other)], ["a", "b", "c", "d"]) == []
