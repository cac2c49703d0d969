"""What differs between ranks, in words."""

from __future__ import annotations

from pytest_loaderperf.ranks.agreement import differences

WHERE = ["rank 0 on host a", "rank 1 on host a", "rank 2 on host b"]


def differing(*given):
    lines = differences(given, WHERE[: len(given)]).splitlines()
    assert lines[0] == "expected the same on all ranks, got differences from rank 0 on host a:"
    assert lines[-1] == "Start all ranks with the same command, files and packages."
    return lines[1:-1]


def test_ranks_that_agree_have_no_differences():
    assert differences([{"torch": "2.13.0", "tests": ["a", "b"]}] * 3, WHERE) == ""


def test_each_difference_has_its_name_and_rank():
    first = {"torch": "2.13.0", "Python": "3.11"}
    assert differing(first, first | {"Python": "3.12"}, {"torch": "2.6.0"}) == [
        "Python: expected 3.11, got 3.12 on rank 1 on host a",
        "torch: expected 2.13.0, got 2.6.0 on rank 2 on host b",
        "Python: expected 3.11, got nothing on rank 2 on host b",
    ]


def test_of_lists_the_entries_that_differ_are_named():
    assert differing({"tests": ["a", "b", "c", "d", "e"]}, {"tests": ["a", "f"]}) == [
        "tests: expected 5, got 2: without b, c, d, ...; with also f on rank 1 on host a"
    ]
    assert differing({"tests": ["a", "b"]}, {"tests": ["b", "a"]}) == [
        "tests: expected 2, got 2: in another order on rank 1 on host a"
    ]
