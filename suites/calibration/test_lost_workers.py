"""A commit that loses ``persistent_workers`` fails a claim on whole epochs; steady state does not see it."""

from __future__ import annotations

import os

import pytest

from suites.calibration.repository import make_repository, measure_repository

TIMES = int(os.environ.get("DEMO_TIMES", "1"))
WITHIN_SECONDS, LONGEST_SECONDS = 40, 300  # the first is 30 s for the claim, and 10 s to start pytest and torch twice

DATASETS = """
import numpy as np
import torch

PERSISTS = {persists}


class Images:
    def __init__(self):
        self.images = np.random.default_rng(0).integers(0, 256, (2_000, 32, 32, 3), dtype=np.uint8)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index, ::-1].astype(np.float32) / 255
        return torch.from_numpy((image - image.mean()) / image.std()), index
"""
TESTS = """
import pytest
from torch.utils.data import DataLoader

from mypkg.datasets import PERSISTS, Images


@pytest.mark.loaderperf(budget=25)
def test_images(loaderperf):
    run = loaderperf(lambda: DataLoader(Images(), 32, shuffle=True, num_workers=2, persistent_workers=PERSISTS))
    assert run.epoch_throughput >= 0.9 * run.base.epoch_throughput
"""


@pytest.mark.parametrize("turn", range(TIMES))
@pytest.mark.parametrize(("persists", "failing"), [(False, True), (True, False)], ids=["lost", "kept"])
def test_only_lost_workers_fail(tmp_path, persists, failing, turn):  # noqa: ARG001 one run a turn
    make_repository(tmp_path, TESTS, [DATASETS.format(persists=kept) for kept in (True, persists)])
    outcome = measure_repository(tmp_path, LONGEST_SECONDS)
    print(outcome.output)  # noqa: T201 shown where this fails
    assert (outcome.verdicts["test_images"] == ["FAIL"]) is failing
    assert outcome.status == failing
    if failing:
        assert outcome.seconds < WITHIN_SECONDS
