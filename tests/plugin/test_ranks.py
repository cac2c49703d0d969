"""What a rank that does not report says at its end."""

from __future__ import annotations

from types import SimpleNamespace

from pytest_loaderperf.plugin.ranks import Ranks
from pytest_loaderperf.ranks.world import World


def said_at_the_end(rank, without_lead, capfd):
    ranks = Ranks(World(rank, 2, rank, "node-b"), None)
    ranks._link, ranks._agreed = SimpleNamespace(without_lead=without_lead), True
    ranks._muted.write("1 passed")
    ranks.pytest_unconfigure()
    return capfd.readouterr().err


def test_where_rank_0_is_lost_another_says_so(capfd):
    lost = "rank 0 on host node-a (process 7) ended."
    assert said_at_the_end(1, lost, capfd) == f"loaderperf: rank 1 on host node-b: {lost}\n"


def test_nothing_is_said_while_rank_0_can_say_it(capfd):
    assert said_at_the_end(1, "", capfd) == ""
