"""Workers keep off the consumer's core, where the system lets them."""

from __future__ import annotations

import os
import threading

import pytest

from pytest_loaderperf.data import PersistentExecutor
from pytest_loaderperf.data.execution.placement import Placement, _current_cpu
from pytest_loaderperf.data.execution.worth import Worth
from pytest_loaderperf.loader.prefetch import Prefetcher

pytestmark = pytest.mark.skipif(_current_cpu is None, reason="this system cannot place threads")
CORES = os.sched_getaffinity(0)


def in_a_thread(function):
    """What ``function`` returns in a thread of its own, whose affinity ends with it."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.skipif(len(CORES) < 2, reason="needs two cores")
def test_a_worker_may_run_anywhere_but_on_the_consumers_core_and_is_set_free_afterwards():
    placement = Placement()
    placement.note_consumer()

    def work():
        avoided = placement.avoid_consumer(-1)
        during = os.sched_getaffinity(0)
        placement.leave()
        return avoided, during, os.sched_getaffinity(0)

    avoided, during, after = in_a_thread(work)
    assert during == CORES - {avoided}
    assert after == CORES


def test_on_one_core_a_worker_shares_it():
    def work():
        os.sched_setaffinity(0, {min(CORES)})
        placement = Placement()
        placement.note_consumer()
        placement.avoid_consumer(-1)
        placement.leave()
        return os.sched_getaffinity(0)

    assert in_a_thread(work) == {min(CORES)}


def test_the_threads_of_an_executor_are_free_again_after_an_iteration():
    with PersistentExecutor(1) as executor:
        fetched = Prefetcher(iter([lambda: 1] * 20), executor, workers=1, ahead=lambda: 2, worth=Worth())
        assert list(fetched) == [1] * 20
        fetched.close()
        assert executor.submit(os.sched_getaffinity, 0).result() == CORES
    assert os.sched_getaffinity(0) == CORES
