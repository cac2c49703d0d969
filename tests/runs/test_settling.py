"""How long a claim is measured, and what its FAIL must be confirmed by: rounds and a clock that a test writes."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pytest_loaderperf.judge import Outcome
from pytest_loaderperf.measurement import Refilled, Round, Steady, Work
from pytest_loaderperf.measurement.record import Effort, SteadyRecord
from pytest_loaderperf.runs import settling
from pytest_loaderperf.runs.claims import LATER, REFILLS
from pytest_loaderperf.runs.metric import Measured
from pytest_loaderperf.runs.settling import Settling

ALPHA, NEEDED, BUDGET_S = 0.001, 0.97, 10.0
EVEN = (1.0,)
SLOWER = (0.70, 0.72, 0.68)
ANYHOW = (0.5, 2.0)
FASTER = (1.5, 1.52, 1.48)


class Rounds:
    """Gives, one build after the other, rounds with these ratios in turn.

    Those of the first build take ``first_s`` each, those of the others ``then_s``, and each trial ``trials_s``.

    ``work``: the ratios of the workers' work, one build after the other, where it can be replayed; ``refills``: those
    of CPU time in turns of refills, by which the clock says the same unless it is ``by_clock``;
    ``part``: how much of the work a turn holds. ``later``: the ratios of longer rounds, one build after the other;
    then others are in slices of these ratios. After ``ends_after`` of them each side begins another epoch.
    """

    def __init__(
        self,
        *builds,
        work=(),
        refills=(),
        by_clock=None,
        part=1.0,
        first_s=0.1,
        then_s=0.1,
        trials_s=0.1,
        later=(),
        ends_after=None,
    ):
        self.sides = {name: SimpleNamespace(elsewhere=False, inline=False, starts=[]) for name in ("loader", "against")}
        self.done, self.now_s, self.pauses_s = [], 0.0, []
        self._builds, self._work, self._refills, self._later = map(list, (builds, work, refills, later))
        self.part = part
        self._by_clock, self._seconds = by_clock, [first_s, then_s]
        self._trials_ns = trials_s * 1e9
        self.built = self.longer = 0
        self._ends_after = ends_after
        self._begin()

    def _begin(self):
        scripts = {Steady(): self._builds, Work(): self._work, Refilled(): self._refills, "later": self._later}
        self._ratios = {
            kind: itertools.cycle(builds[min(self.built, len(builds) - 1)])
            for kind, builds in scripts.items()
            if builds
        }

    def watched(self):
        return nullcontext()

    def replayed(self, names):
        return bool(self._work)

    waits_for_work = replayed

    def refillable(self, names):
        return bool(self._refills)

    def rebuild(self, names):
        self.built += 1
        self._begin()

    def observe(self, keys, longer=1):
        seconds = self._seconds[self.built > 0]
        self.longer += longer > 1
        if self.longer == self._ends_after:
            for side in self.sides.values():
                side.starts.append(None)
        ratio = next(self._ratios["later" if self._later and longer > 1 else keys[0].kind])
        walls_ns = {"loader": self._trials_ns / ratio, "against": self._trials_ns}
        effort = Effort(0, 10, 1.0)
        records = {
            key: SteadyRecord((1,) * 10, round(walls_ns[key.side]), 10, 0, effort=(self._refills and effort) or None)
            for key in keys
        }
        if self._later:
            slices_ns = {"loader": (100 / ratio,) * 3, "against": (100.0,) * 3}
            records = {key: replace(record, slices_ns=slices_ns[key.side]) for key, record in records.items()}
        if isinstance(keys[0].kind, Refilled):
            records = {key: self._refilled(record, ratio, key.side) for key, record in records.items()}
        self.now_s += seconds
        self.done.append(Round(records, seconds))
        return self.done[-1]

    def _refilled(self, record, ratio, side):
        of_cpu, of_clock = (1.0, 1.0) if side == "against" else (1 / ratio, 1 / (self._by_clock or ratio))
        return replace(record, slices_ns=(of_clock,) * 3, cpu_slices_ns=(of_cpu * self.part,) * 3)

    def sleep(self, seconds):
        self.pauses_s.append(seconds)

    def kinds(self, build_rounds):
        return {key.kind for seen in build_rounds for key in seen.records}


@pytest.fixture
def settle(monkeypatch):
    def settled(rounds, max_budget_s=60.0):
        clock = SimpleNamespace(perf_counter=lambda: rounds.now_s, sleep=rounds.sleep)
        monkeypatch.setattr(settling, "time", clock)
        said = []
        left, right = Measured(None, "loader", "").throughput, NEEDED * Measured(None, "against", "").throughput
        claim = Settling(rounds, left, right, True, ALPHA, BUDGET_S, max_budget_s, said.append)
        return claim.settle(), said

    return settled


def near(said):
    return [text for text in said if "a verdict is near" in text]


def test_a_fail_is_confirmed_by_rounds_of_sides_that_were_built_anew(settle):
    rounds = Rounds(SLOWER)
    settled, said = settle(rounds)
    assert settled.ruling.outcome is Outcome.FAIL
    assert settled.ruling.estimate == pytest.approx(0.70)
    assert rounds.built == 1
    assert rounds.pauses_s == [settling._PAUSE_SECONDS]
    assert settled.seconds < BUDGET_S
    assert near(said) == []


def test_rounds_that_tell_the_opposite_are_the_verdict(settle):
    settled, _ = settle(Rounds(SLOWER, FASTER))
    assert settled.ruling.outcome is Outcome.PASS
    assert settled.ruling.estimate == pytest.approx(1.5)


def test_a_confirmation_that_leans_to_fail_when_the_budget_is_spent_goes_on(settle):
    rounds = Rounds(SLOWER, then_s=0.9)
    settled, said = settle(rounds)
    assert settled.ruling.outcome is Outcome.FAIL
    assert BUDGET_S < settled.seconds < 60
    assert near(said)
    assert "of up to 60 s" in near(said)[0]


def test_it_goes_on_to_the_maximum_at_most(settle):
    rounds = Rounds(SLOWER, then_s=0.98)
    settled, said = settle(rounds, max_budget_s=BUDGET_S + 1)
    assert settled.ruling.outcome is Outcome.INCONCLUSIVE
    assert BUDGET_S < settled.seconds <= BUDGET_S + 1
    assert near(said)


@pytest.mark.parametrize("after", [(2.0, 0.5, 2.0), EVEN])
def test_a_confirmation_that_does_not_lean_to_fail_ends_with_the_budget(settle, after):
    rounds = Rounds(SLOWER, after, then_s=0.9)
    settled, said = settle(rounds)
    assert settled.ruling.outcome is Outcome.INCONCLUSIVE
    assert settled.seconds <= BUDGET_S
    assert near(said) == []


def test_a_claim_that_leans_to_fail_when_its_budget_is_spent_goes_on_before_it_is_confirmed(settle):
    rounds = Rounds(SLOWER, first_s=0.9, then_s=0.9)
    settled, said = settle(rounds)
    assert settled.ruling.outcome is Outcome.FAIL
    assert settled.seconds > BUDGET_S
    assert near(said)


@pytest.mark.parametrize(
    "ratios, outcome",
    [
        ((0.3, 0.35, 0.25), Outcome.FAIL),
        ((0.6, 0.65, 0.55), Outcome.INCONCLUSIVE),
        ((0.3, 1.1, 0.3), Outcome.INCONCLUSIVE),
        ((3.0, 3.1, 2.9), Outcome.INCONCLUSIVE),
    ],
)
def test_a_few_short_pairs_go_on_if_all_show_a_fail_by_far(settle, ratios, outcome):
    rounds = Rounds(ratios, first_s=2.5, then_s=0.1, trials_s=0.1)
    settled, said = settle(rounds)
    assert settled.ruling.outcome is outcome
    assert (settled.seconds > BUDGET_S) == bool(near(said)) == (outcome is Outcome.FAIL)


@pytest.mark.parametrize("ratio, outcome", [(0.1, Outcome.FAIL), (0.6, Outcome.INCONCLUSIVE)])
def test_what_is_obvious_gets_its_rounds_however_long_they_take(settle, ratio, outcome):
    rounds = Rounds((ratio,), first_s=40.0, trials_s=20.0)
    settled, _ = settle(rounds)
    assert settled.ruling.outcome is outcome
    assert rounds.built == 0  # whose first batches would take as long again


def test_what_is_obvious_is_confirmed_by_new_loaders_where_they_cost_little(settle):
    rounds = Rounds((0.1,), trials_s=1.0)
    assert settle(rounds)[0].ruling.outcome is Outcome.FAIL
    assert rounds.built == 1


def test_what_is_obvious_is_not_done_again_in_turns(settle):
    rounds = Rounds((0.1,), work=[SLOWER], trials_s=1.0)
    rounds.observe([Measured(None, name, "").throughput.key for name in rounds.sides])
    assert settle(rounds)[0].ruling.outcome is Outcome.FAIL
    assert rounds.kinds(rounds.done) == {Steady()}


def test_evident_work_is_confirmed_by_work_alone_at_once(settle):
    rounds = Rounds(ANYHOW, work=[SLOWER])
    settled, _ = settle(rounds)
    assert settled.ruling.outcome is Outcome.FAIL
    assert settled.ruling.by == "work"
    assert rounds.built == 1
    assert rounds.pauses_s == []
    assert rounds.kinds(rounds.done[-3:]) == {Work()}


def test_work_that_takes_far_longer_is_confirmed_in_the_same_processes(settle):
    rounds = Rounds(ANYHOW, work=[(0.5,)])
    settled, _ = settle(rounds)
    assert (settled.ruling.outcome, settled.ruling.by) == (Outcome.FAIL, "work")
    assert rounds.built == 0


def test_sums_that_may_contradict_the_work_come_before_it(settle):
    rounds = Rounds(ANYHOW, work=[SLOWER], trials_s=0.1)
    settle(rounds)
    kinds = [next(iter(seen.records)).kind for seen in rounds.done]
    assert kinds[:5] == [Steady()] * 5
    assert kinds[5] == Work()


def test_work_that_was_slower_in_one_process_alone_settles_nothing(settle):
    settled, said = settle(Rounds(ANYHOW, work=[SLOWER, FASTER]))
    assert settled.ruling.outcome is Outcome.INCONCLUSIVE
    assert settled.seconds <= BUDGET_S
    assert near(said) == []


def test_a_confirmation_by_work_goes_on_as_well(settle):
    rounds = Rounds(ANYHOW, work=[SLOWER, (0.3,)], then_s=6.0, trials_s=1.0)
    settled, said = settle(rounds)
    assert settled.ruling.outcome is Outcome.FAIL
    assert settled.seconds > BUDGET_S
    assert near(said)


def test_refills_settle_what_trials_are_too_noisy_for_and_are_confirmed_by_refills(settle):
    rounds = Rounds(ANYHOW, refills=[SLOWER])
    settled, _ = settle(rounds)
    assert (settled.ruling.outcome, settled.ruling.by) == (Outcome.FAIL, REFILLS)
    assert settled.ruling.estimate == pytest.approx(0.70)
    assert rounds.built == 1
    assert rounds.pauses_s == []
    assert rounds.kinds(rounds.done[-5:]) == {Refilled()}


def test_a_fail_by_refills_that_new_ones_do_not_repeat_is_none(settle):
    settled, _ = settle(Rounds(ANYHOW, refills=[SLOWER, ANYHOW]))
    assert settled.ruling.outcome is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("trials, by_clock", [(ANYHOW, 1.2), (FASTER, None)], ids=["refills", "trials"])
def test_cpu_time_gives_no_fail_that_the_clock_contradicts(settle, trials, by_clock):
    settled, _ = settle(Rounds(trials, refills=[SLOWER], by_clock=by_clock))
    assert settled.ruling.outcome is not Outcome.FAIL


@pytest.mark.parametrize(
    "trials, outcome", [(FASTER, Outcome.PASS), (ANYHOW, Outcome.INCONCLUSIVE), (SLOWER, Outcome.FAIL)], ids=str
)
def test_refills_give_a_pass_only_where_trials_make_it_likely(settle, trials, outcome):
    """A slow batch now and then is in no typical turn."""
    settled, _ = settle(Rounds(trials, refills=[FASTER]))
    assert settled.ruling.outcome is outcome


@pytest.mark.parametrize(
    "part, outcome", [(1.0, Outcome.FAIL), (0.1, Outcome.INCONCLUSIVE), (3.0, Outcome.INCONCLUSIVE)]
)
def test_turns_that_do_not_hold_the_work_of_their_batches_are_no_evidence(settle, part, outcome):
    """They end while a loader waits, or lie between two bursts of its work."""
    rounds = Rounds(ANYHOW, refills=[SLOWER], part=part)
    settled, _ = settle(rounds)
    assert settled.ruling.outcome is outcome
    if outcome is Outcome.INCONCLUSIVE:
        looks = [seen for seen in rounds.done if rounds.kinds([seen]) == {Refilled()}]
        assert len(looks) == settling._REFILLS_LOOKS


def test_a_fail_by_refills_is_confirmed_by_trials_where_sides_no_longer_rest(settle):
    rounds = Rounds(SLOWER, refills=[SLOWER], then_s=0.2)
    rounds.refillable = lambda names: rounds.built == 0
    settled, _ = settle(rounds)
    assert settled.ruling.outcome is Outcome.FAIL
    assert rounds.kinds(rounds.done[-3:]) == {Steady()}


@pytest.mark.parametrize(
    "later, outcome",
    [
        ([FASTER], Outcome.PASS),
        ([SLOWER], Outcome.FAIL),
        ([SLOWER, ANYHOW], Outcome.INCONCLUSIVE),
        ([(0.6, 1.5)], Outcome.INCONCLUSIVE),
    ],
    ids=["passes", "fails", "not again", "undecided"],
)
def test_what_first_batches_pass_fails_if_later_ones_show_it_twice(settle, later, outcome):
    rounds = Rounds(FASTER, trials_s=0.002, later=later)
    settled, _ = settle(rounds)
    assert settled.ruling.outcome is outcome
    assert rounds.built == (later[0] is SLOWER)
    if outcome is Outcome.FAIL:
        assert settled.ruling.by == LATER
        assert settled.ruling.estimate == pytest.approx(0.70)
        assert settled.unconfirmed is None
    else:
        assert settled.unconfirmed is (None if outcome is Outcome.PASS else Outcome.PASS)


@pytest.mark.parametrize(
    "later, ends_after, outcome, rounds_walked",
    [
        ((1.5,), None, Outcome.PASS, 8),
        ((1.5,), 4, Outcome.PASS, 4),
        ((1.5,) * 5 + (0.05,), None, Outcome.INCONCLUSIVE, None),
    ],
    ids=["a tenth of the budget", "an epoch", "few far slower"],
)
def test_a_pass_holds_over_all_that_was_read_of_the_epoch(settle, later, ends_after, outcome, rounds_walked):
    rounds = Rounds(FASTER, trials_s=0.002, first_s=0.125, later=[later], ends_after=ends_after)
    settled, _ = settle(rounds)
    assert settled.ruling.outcome is outcome
    if rounds_walked:
        assert rounds.longer == rounds_walked


def test_a_fail_of_the_first_batches_that_later_ones_do_not_share_is_undecided(settle):
    settled, _ = settle(Rounds(SLOWER, trials_s=0.002, later=[FASTER]))
    assert (settled.ruling.outcome, settled.unconfirmed) == (Outcome.INCONCLUSIVE, Outcome.FAIL)
