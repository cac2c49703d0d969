"""Ratio claims from rounds in slices: the slices are quick, the sums are what is claimed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_loaderperf.errors import MeasureError
from pytest_loaderperf.judge import Outcome, PairTest, RatioTest

ALPHA = 0.001
ENOUGH = 20  # rounds that all point the same way


def settled(rounds, needed=0.97, *, at_least=True, alpha=ALPHA):
    test = RatioTest(needed, at_least)
    for of_sums, of_slices in rounds:
        test.add(of_sums, of_slices)
    return test.outcome(alpha), test.ruling(alpha, 0)


def noisy(ratio, seed=0, rounds=ENOUGH):
    """Ratios of sums that lean to the side of ``ratio`` and prove nothing."""
    return ratio * np.exp(np.random.default_rng(seed).normal(0, 0.2, 4 * rounds))[:rounds]


@pytest.mark.parametrize("at_least", [True, False])
@pytest.mark.parametrize("ratio, word", [(0.94, Outcome.FAIL), (1.0, Outcome.PASS)])
def test_slices_settle_a_claim_where_the_sums_point_the_same_way(ratio, word, at_least):
    if not at_least:
        word = Outcome.PASS if word is Outcome.FAIL else Outcome.FAIL
    sums = [0.96 * ratio, 1.01 * ratio, ratio, 1.04 * ratio, 0.99 * ratio]
    rounds = [(sums[i % len(sums)] * (1.06 if i % 7 == 0 else 1), ratio) for i in range(ENOUGH)]
    assert settled([(of_sums, None) for of_sums, _ in rounds[:-6]], at_least=at_least)[0] is Outcome.INCONCLUSIVE
    outcome, ruling = settled(rounds[:-6], at_least=at_least)
    assert outcome is ruling.outcome is word
    assert (ruling.estimate, ruling.n, ruling.by) == (pytest.approx(ratio), ENOUGH - 6, "slices")


def test_slices_settle_nothing_where_the_sums_point_the_other_way():
    rounds = [(0.7 if i % 5 else 1.3, 1.0) for i in range(8)]
    outcome, ruling = settled(rounds, alpha=0.2)
    assert outcome is Outcome.INCONCLUSIVE
    assert (ruling.estimate, ruling.by) == (pytest.approx(0.7), "sums")  # what is claimed, and what must settle it


@pytest.mark.parametrize("of_sums, word", [(0.7, Outcome.FAIL), (1.3, Outcome.PASS)])
def test_evident_sums_overrule_the_slices(of_sums, word):
    """A loader whose every tenth batch alone became slower, or quicker."""
    outcome, ruling = settled([(of_sums, 0.98 if of_sums < 0.97 else 0.9)] * ENOUGH)
    assert outcome is word
    assert (ruling.estimate, ruling.by) == (pytest.approx(of_sums), "sums")


def evidence_for(ratio, n):
    test = PairTest(0.97, at_least=True)
    for _ in range(n):
        test.add(ratio)
    return test.log_evidence(Outcome.FAIL)


def test_each_kind_of_evidence_has_its_share_of_alpha():
    alphas = [np.exp(-evidence_for(0.9, n)) for n in (8, 9)]
    just_enough, half_more = alphas[0] * 1.01, alphas[0] * 1.99
    sums, sliced, worked = ([(0.9, slices)] * 8 for slices in (None, 0.9, None))
    assert settled(sums, alpha=just_enough)[0] is Outcome.FAIL
    assert settled(sliced, alpha=half_more)[0] is Outcome.INCONCLUSIVE
    assert settled(sliced, alpha=alphas[0] * 2.02)[0] is Outcome.FAIL
    for test in (with_work(worked, [0.9] * 8), with_work(worked, [1.3])):
        assert test.outcome(half_more) is Outcome.INCONCLUSIVE
        assert test.outcome(alphas[0] * 2.02) is Outcome.FAIL
    three = with_work(sliced, [0.9] * 8)
    assert three.outcome(alphas[0] * 2.98) is Outcome.INCONCLUSIVE
    assert three.outcome(alphas[0] * 3.03) is Outcome.FAIL


@pytest.mark.parametrize("seed", range(20))
def test_sums_without_other_evidence_are_a_pair_test(seed):
    single, outcomes = PairTest(0.97, at_least=True), []
    test = RatioTest(0.97, at_least=True)
    for ratio in noisy(0.9, seed, rounds=60):
        single.add(float(ratio))
        test.add(float(ratio))
        outcomes.append((single.outcome(0.05), test.outcome(0.05)))
    assert all(one is other for one, other in outcomes)
    assert test.ruling(0.05, 100) == replace(single.ruling(0.05, 100), by="sums")


def with_work(rounds, work, *, at_least=True):
    """Rounds first, then work: the order is free."""
    test = RatioTest(0.97, at_least)
    for of_sums, of_slices in rounds:
        test.add(of_sums, of_slices)
    for ratio in work:
        test.add_work(ratio)
    return test


def test_work_that_is_expected_has_its_share_before_it_is_there():
    alpha = np.exp(-evidence_for(0.9, 8))
    test = RatioTest(0.97, at_least=True, expects_work=True)
    assert test.ruling(0.05, 0).by == "sums"
    for _ in range(8):
        test.add(0.9)
    assert test.outcome(alpha * 1.99) is Outcome.INCONCLUSIVE
    assert test.outcome(alpha * 2.02) is Outcome.FAIL
    assert test.ruling(alpha * 1.99, 10).by == "sums"


EVEN = [(ratio, None) for ratio in (1.02, 0.97, 0.93, 1.06, 1.0, 0.98, 1.08, 0.94, 1.03, 0.99)] * 4
SLOWER = [(0.965 * ratio, None) for ratio, _ in EVEN]


def test_work_settles_pass_where_the_sums_rule_out_a_slow_hand_over():
    assert settled(EVEN)[0] is Outcome.INCONCLUSIVE
    ruling = with_work(EVEN, [1.0] * 20).ruling(ALPHA, 400)
    assert (ruling.outcome, ruling.by, ruling.n) == (Outcome.PASS, "work", 20)
    assert ruling.estimate == pytest.approx(1.0)


@pytest.mark.parametrize("rounds", [[], EVEN[:5], [(0.85 * ratio, None) for ratio, _ in EVEN]])
def test_work_alone_passes_nothing(rounds):
    """Too few rounds, or a slow hand-over."""
    assert with_work(rounds, [1.0] * 200).outcome(0.05) is not Outcome.PASS


def test_work_passes_nothing_while_the_sums_lean_to_a_fail():
    test = with_work(SLOWER, [1.0] * 200)
    assert test.sums.against(0.97 * 0.9).outcome(ALPHA / 2) is Outcome.PASS
    ruling = test.ruling(ALPHA, 40)
    assert (ruling.outcome, ruling.by, ruling.n) == (Outcome.INCONCLUSIVE, "sums", len(SLOWER))


@pytest.mark.parametrize("rounds, word", [(EVEN[:4], "INCONCLUSIVE"), (EVEN[:5], "FAIL"), (SLOWER, "FAIL")])
def test_work_settles_fail_where_a_few_sums_do_not_contradict_it(rounds, word):
    ruling = with_work(rounds, [0.9] * 20).ruling(ALPHA, 40)
    assert ruling.outcome is Outcome(word)
    if word == "FAIL":
        assert (ruling.by, ruling.estimate) == ("work", pytest.approx(0.9))


def test_work_does_not_fail_what_the_sums_make_likely_to_hold():
    assert with_work(EVEN, [0.9] * 20).outcome(ALPHA) is Outcome.INCONCLUSIVE


def test_evident_sums_need_no_work():
    for ratio, word in [(0.6, Outcome.FAIL), (1.5, Outcome.PASS)]:
        ruling = with_work([(ratio, None)] * ENOUGH, [1.0, 0.94]).ruling(ALPHA, 40)
        assert (ruling.outcome, ruling.by) == (word, "sums")


def test_the_order_of_work_and_rounds_does_not_matter():
    rng = np.random.default_rng(6)
    work = np.exp(rng.normal(0, 0.03, 40)).tolist()
    one = with_work(EVEN, work)
    other = RatioTest(0.97, at_least=True)
    for ratio, (of_sums, _) in zip(work, EVEN, strict=True):
        other.add_work(ratio)
        other.add(of_sums)
    for alpha in (0.5, 0.05, 0.01, ALPHA, ALPHA / 10):
        assert one.outcome(alpha) is other.outcome(alpha)
    assert one.ruling(ALPHA, 50) == other.ruling(ALPHA, 50)


def test_what_is_affordable_is_counted_in_rounds_at_the_pace_of_the_work():
    work = [0.96, 0.985, 0.965, 0.972, 0.972] * 8
    few, many = (with_work(EVEN[:20], work).ruling(ALPHA, n) for n in (20, 200))
    assert few.by == many.by == "work"
    assert many.mde < few.mde


@pytest.mark.parametrize("values", [(0.0, 1.0), (1.0, float("nan")), (float("inf"), None)])
def test_a_ratio_that_is_none_is_refused(values):
    with pytest.raises(MeasureError, match="expected a positive, finite measured value"):
        RatioTest(1.0, at_least=True).add(*values)


@pytest.mark.parametrize(
    "work, margin, outcome", [(0.95, 0.0, "FAIL"), (0.95, 0.03, "INCONCLUSIVE"), (0.9, 0.03, "FAIL")]
)
@pytest.mark.parametrize("at_least", [True, False])
def test_with_a_margin_work_fails_only_what_lies_beyond_it(work, margin, outcome, at_least):
    """Equal loaders in two processes may differ by the margin for good."""
    test = RatioTest(0.97 if at_least else 1 / 0.97, at_least, expects_work=True, work_margin=margin)
    for number in range(40):
        noise = 1.004 if number % 2 else 0.996
        ratio = work * noise if at_least else 1 / (work * noise)
        test.add(ratio * (1.2 if number % 4 < 2 else 0.8))
        test.add_work(ratio)
    assert str(test.work_outcome(0.0005)) == outcome
    assert str(test.outcome(0.001)) == outcome
