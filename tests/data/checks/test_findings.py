from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from pytest_loaderperf.data.checks.findings import Findings, Problem, inspected_in_order


def problems(n):
    return [Problem("f", row, None, "is bad") for row in range(n)]


@pytest.mark.parametrize("workers", [1, 3, None])
def test_results_come_in_the_order_of_the_items(workers):
    def slow_first(item):
        time.sleep(0.01 if item == 0 else 0)
        return item * 2

    assert list(inspected_in_order(range(20), slow_first, workers)) == list(range(0, 40, 2))


def test_closing_begins_no_further_item():
    begun = []
    with closing(inspected_in_order(range(1000), begun.append, 2)) as results:
        for _ in range(5):
            next(results)
    assert len(begun) <= 5 + 2 * 2
    assert [thread for thread in threading.enumerate() if thread.name.startswith("loaderperf")] == []


def test_items_that_fail_give_the_results_before_and_then_the_error():
    def failing():
        yield from range(5)
        raise OSError("disk gone")

    results = inspected_in_order(failing(), str, 4)
    assert [next(results) for _ in range(5)] == list("01234")
    with pytest.raises(OSError, match="disk gone"):
        next(results)


def test_findings_keep_the_first_and_count_all():
    findings = Findings(3)
    findings.add(problems(2))
    assert not findings.full
    findings.add(problems(2), 7)
    assert (findings.found, [problem.row for problem in findings.problems]) == (9, [0, 1, 0])
    assert findings.full
