"""Rank 0 leads, the others do what it asks, and all leave a question with the same answer. The ranks are threads."""

from __future__ import annotations

import threading

import pytest

from pytest_loaderperf.errors import ClaimError, LoaderError, ShortEpochError
from pytest_loaderperf.ranks import RankError
from pytest_loaderperf.ranks.together import Raised, Together


class Bench:
    """Answers with its rank; ``raises`` has the errors of some verbs."""

    def __init__(self, rank, raises=None):
        self.rank, self.raises, self.closed, self.did = rank, raises or {}, 0, []

    def perform(self, verb, side, arguments, gate):
        self.did.append(verb)
        if verb in self.raises:
            raise self.raises[verb]
        if verb == "gated":
            gate()
        return threading.Lock() if verb == "odd" else (self.rank, *arguments)

    def close(self):
        self.closed += 1


def together(job, lead, *follow, raises=None):
    """What ``lead(together)`` and each ``follow(together)`` give, by rank; ``raises`` by rank."""
    benches = [Bench(rank, (raises or {}).get(rank)) for rank in range(job.size)]

    def work(link):
        rank = link.world.rank
        return (lead, *follow)[rank](Together(link, benches[rank]))

    return job.all(work), benches


def test_every_rank_gets_the_answer_that_rank_0_finds(job_of):
    def lead(ranks):
        return ranks.shared("sum", lambda: sum(rank for (rank,) in ranks.ask("rank")))

    def follow(ranks):
        return ranks.shared("sum", lambda: "never called")

    given, benches = together(job_of(3), lead, follow, follow)
    assert given == [3, 3, 3]
    assert [bench.did for bench in benches] == [["rank"]] * 3


def test_hosts_and_arguments_are_passed_and_inner_questions_are_not_told(job_of):
    def lead(ranks):
        return ranks.shared("outer", lambda: (ranks.hosts, ranks.shared("inner", lambda: ranks.ask("rank", "side", 7))))

    given, _ = together(job_of(2), lead, lambda ranks: ranks.shared("outer", None))
    assert given == [(["a", "b"], [(0, 7), (1, 7)])] * 2


def test_an_error_of_another_rank_is_raised_at_all_with_its_place(job_of):
    def ask(ranks):
        return ranks.shared("it", lambda: ranks.ask("read"))

    given, _ = together(job_of(3), ask, ask, ask, raises={2: {"read": ShortEpochError("too short")}})
    assert [type(error) for error in given] == [ShortEpochError] * 3
    assert [str(error) for error in given] == ["too short\n(at rank 2 on host c)"] * 2 + ["too short"]


def test_an_error_that_other_ranks_may_not_know_has_its_traceback(job_of):
    def ask(ranks):
        return ranks.shared("it", lambda: ranks.ask("read"))

    given, _ = together(job_of(2), ask, ask, raises={1: {"read": OSError("disk gone")}})
    assert [type(error) for error in given] == [RankError, RankError]
    assert "OSError: disk gone\n(at rank 1 on host b)" in str(given[0])


def test_each_rank_raises_its_own_error_if_all_fail_alike(job_of):
    class Skipped(BaseException):
        pass

    def ask(ranks):
        try:
            ranks.shared("it", lambda: ranks.ask("read"))
        except Skipped as skipped:
            return str(skipped)

    given, _ = together(job_of(2), ask, ask, raises={0: {"read": Skipped("here")}, 1: {"read": Skipped("there")}})
    assert given == ["here", "there"]


def test_an_error_of_rank_0_alone_reaches_the_others(job_of):
    def fail():
        raise ClaimError("no meaning")

    given, _ = together(job_of(2), lambda ranks: ranks.shared("it", fail), lambda ranks: ranks.shared("it", fail))
    assert [(type(error), str(error)) for error in given] == [(ClaimError, "no meaning")] * 2


def test_what_cannot_be_sent_is_an_error_and_nobody_waits(job_of):
    def ask(ranks):
        return ranks.shared("it", lambda: ranks.ask("odd"))

    given, _ = together(job_of(2), ask, ask)
    assert all(isinstance(error, RankError) and "cannot pickle" in str(error) for error in given)
    given, _ = together(job_of(2), *[lambda ranks: ranks.shared("it", threading.Lock)] * 2)
    assert given[0].acquire()
    assert "rank 0 cannot tell the others: cannot pickle" in str(given[1])


def test_a_passing_answer_may_be_ignored(job_of):
    def lead(ranks):
        ranks.shared("a value", lambda: ranks.ask("rank"), passing=True)
        return ranks.shared("claim", lambda: "PASS")

    given, benches = together(job_of(2), lead, lambda ranks: ranks.shared("claim", None))
    assert given == ["PASS", "PASS"]
    assert benches[1].did == ["rank"]


def test_ranks_that_ask_for_something_else_are_told_so_and_can_close(job_of):
    def lead(ranks):
        ranks.shared("claim one", lambda: "PASS")
        ranks.close(lambda: None)

    def follow(ranks):
        with pytest.raises(RankError) as caught:
            ranks.shared("claim two", None)
        ranks.close(lambda: None)
        return str(caught.value)

    given, benches = together(job_of(2), lead, follow)
    assert given[1].startswith("rank 1 is at 'claim two', but rank 0 at 'claim one'. Expected all ranks to make the")
    assert [bench.closed for bench in benches] == [1, 1]


def test_a_rank_that_has_left_the_test_still_does_its_part_until_rank_0_closes(job_of):
    def lead(ranks):
        found = ranks.shared("claim", lambda: ranks.ask("rank"))
        ranks.close(lambda: None)
        return found

    given, _ = together(job_of(2), lead, lambda ranks: ranks.close(lambda: None))
    assert given == [[(0,), (1,)], None]


def test_a_rank_that_waits_for_a_claim_is_told_that_rank_0_has_left(job_of):
    def follow(ranks):
        with pytest.raises(RankError, match="but rank 0 at 'closing the run'"):
            ranks.shared("claim", None)
        ranks.close(lambda: None)
        return "closed"

    given, _ = together(job_of(2), lambda ranks: ranks.close(lambda: None), follow)
    assert given == [None, "closed"]


def test_closing_closes_the_sides_even_if_a_rank_is_lost(job_of):
    def lost():
        raise RankError("rank 1 is lost")

    given, benches = together(job_of(2), *[lambda ranks: ranks.close(lost)] * 2)
    assert given == [None, None]
    assert [bench.closed for bench in benches] == [1, 1]


def test_every_rank_passes_the_barriers_of_a_command_also_one_that_failed(job_of):
    def ask(ranks):
        with pytest.raises(LoaderError, match="broken"):
            ranks.shared("it", lambda: ranks.ask("gated", gates=3))
        return ranks.shared("again", lambda: ranks.ask("rank"))

    given, _ = together(job_of(2), ask, ask, raises={0: {"gated": LoaderError("broken")}})
    assert given == [[(0,), (1,)]] * 2


def test_the_cost_of_an_exchange_and_of_a_barrier_is_measured_with_all_ranks(job_of):
    def lead(ranks):
        return ranks.shared("costs", lambda: ranks.costs_s)

    given, benches = together(job_of(2), lead, lambda ranks: ranks.shared("costs", None))
    exchange_s, gate_s = given[0]
    assert exchange_s > 0
    assert gate_s >= 0
    assert set(benches[1].did) == {"ping"}


def test_an_error_of_another_library_begins_with_what_it_says():
    try:
        raise ZeroDivisionError("sample is broken")
    except ZeroDivisionError as error:
        said = Raised.of(error).text.splitlines()
    assert said[0] == "ZeroDivisionError: sample is broken"
    assert said[1] == "Traceback (most recent call last):"
