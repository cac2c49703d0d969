"""A loader that is slower in a rare batch alone must not pass, though the typical batch is as quick."""

from __future__ import annotations

import time

import pytest
import torch

from pytest_loaderperf import measure, s
from pytest_loaderperf.judge import Outcome

X = torch.zeros(4, 8)
TYPICAL_S, EVERY = 0.0002, 40


class RarelySlow:
    """Every fortieth batch takes ``rare_s``."""

    def __init__(self, rare_s):
        self.rare_s = rare_s

    def __iter__(self):
        for number in range(1, 2001):
            time.sleep(TYPICAL_S if number % EVERY else self.rare_s)
            yield X


@pytest.mark.parametrize("rare_s, slower", [(0.004, False), (0.2, True)])
def test_what_is_slow_farther_into_an_epoch_is_not_passed(rare_s, slower):
    with measure(lambda: RarelySlow(rare_s), lambda: RarelySlow(0.004), budget=3 * s) as run:
        assert run.rounds.sliced(["loader", "against"])
        verdict = run.throughput >= 0.7 * run.against.throughput
    outcome = verdict.ruling.outcome
    assert outcome is not Outcome.PASS if slower else outcome is not Outcome.FAIL
    if verdict.unconfirmed is not None:
        assert outcome is Outcome.INCONCLUSIVE
        assert f"{verdict.unconfirmed} from the first batches, but not later" in repr(verdict)
