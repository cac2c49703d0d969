from __future__ import annotations

import pickle
import threading

import pytest

from pytest_loaderperf.data.execution.turns import Turns

PATIENCE_S = 30  # far beyond what a busy machine needs; only a failure waits so long


def test_one_thread_at_a_time():
    turns, inside, overlaps = Turns(), [], []

    def work():
        for _ in range(200):
            with turns:
                inside.append(1)
                overlaps.append(len(inside) > 1)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert overlaps == [False] * 800


def test_an_exception_ends_a_turn():
    turns = Turns()
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"), turns:
            raise ValueError("broken")


def test_a_copy_is_free_even_of_one_that_is_taken():
    turns = Turns()
    with turns:
        copy = pickle.loads(pickle.dumps(turns))  # noqa: S301 made here
        entered = threading.Event()

        def enter():
            with copy:
                entered.set()

        threading.Thread(target=enter, daemon=True).start()
        assert entered.wait(PATIENCE_S)
