"""The suite of ranks measures what it says; nothing here asserts how fast."""

from __future__ import annotations

from suites.ranks.__main__ import costs, kills


def test_a_killed_rank_counts_once_all_others_have_named_it(capsys):
    assert kills(1)
    assert capsys.readouterr().out.startswith("killed ranks named by all others: 1 of 1; by the last after ")


def test_costs_are_times_of_a_barrier_and_of_gathering():
    found = costs(2, 5)
    assert len(found) == 4
    assert min(found) > 0
