"""How long a side is observed, by kinds that have a length of their own."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch

from pytest_loaderperf.measurement import observations
from pytest_loaderperf.measurement.observations import Resources, Step

X = torch.zeros(4, 8)


@pytest.mark.parametrize(
    "step_s, ready, epoch, expected",
    [
        (0.01, 4, None, (4, 10)),  # a tenth of a second
        (0.001, 99, None, (8, 100)),
        (10.0, 1, None, (1, 4)),
        (0.01, 4, 16, (4, 7)),  # one batch begins the epoch
        (0.01, 4, 5, (4, 1)),
    ],
)
def test_the_steps_of_a_training_take_a_tenth_of_a_second_or_what_the_epoch_has(step_s, ready, epoch, expected):
    side = SimpleNamespace(warmup_batches=ready, epoch_batches=epoch)
    assert Step(step_s).steps(side) == expected


def test_the_cpu_time_of_a_long_epoch_is_that_of_all_batches_that_came_meanwhile(side, monkeypatch):
    monkeypatch.setattr(observations, "_RESOURCE_SECONDS", 0.05)

    def works():
        while True:
            began_ns = time.thread_time_ns()
            while time.thread_time_ns() < began_ns + 20_000_000:
                pass
            yield X

    record = Resources().observe(measured := side(works), 0)
    assert record.samples == 4 * (measured.taken - 1)  # without the one that begins the epoch
    assert record.cpu_ns >= 20_000_000 * (measured.taken - 1)
