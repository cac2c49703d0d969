"""What a test asks the doctor about its loader."""

from __future__ import annotations

import json

LOADER = """
import numpy as np
import pytest
import torch
from concurrent.futures import ThreadPoolExecutor
from torch.utils.data import DataLoader, Dataset

class Rows(Dataset):
    def __init__(self):
        self.rows = np.random.default_rng(0).random((64, 1024), dtype=np.float32)
    def __len__(self):
        return 64
    def __getitem__(self, index):
        return torch.from_numpy(self.rows[index] * 2)

class Pools(Rows):
    def __getitem__(self, index):
        with ThreadPoolExecutor(2) as pool:
            return torch.from_numpy(next(pool.map(np.sort, [self.rows[index]])))

def make_good():
    return DataLoader(Rows(), batch_size=8)

def make_slow():
    return DataLoader(Pools(), batch_size=8)
"""


def test_findings_and_counts(pytester):
    pytester.makepyfile(
        LOADER
        + """
def test_good(loaderperf):
    run = loaderperf(make_good)
    assert not run.findings
    assert (run.files_opened, run.executors_made, run.leaks, run.syncs_per_batch) == (0, 0, 0, 0)

def test_slow(loaderperf):
    run = loaderperf(make_slow)
    assert run.executors_made == 64
    assert not run.findings

@pytest.mark.loaderperf(silent=["executor-per-item"])
def test_silent(loaderperf):
    assert not loaderperf(make_slow).findings

def test_growth(loaderperf):
    assert loaderperf.growth(lambda n: [i for i in range(n)]).exponent > 0.5

@pytest.mark.loaderperf(silent=["no-such-rule"])
def test_unknown(loaderperf):
    loaderperf(make_good)
"""
    )
    (file,) = pytester.path.glob("test_*.py")
    line = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if "with ThreadPoolExecutor" in text)
    result = pytester.runpytest_subprocess("--loaderperf", "--loaderperf-json=result.json", timeout=120)
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.re_match_lines(
        [
            rf".*assert not \[executor-per-item at test_findings_and_counts\.py:{line}: a ThreadPoolExecutor is made.*",
            r".*the marker's silent: expected rules among executor-per-item.*got \['no-such-rule'\].*",
        ]
    )
    runs = json.loads((pytester.path / "result.json").read_text())["runs"]
    (finding,) = next(run["findings"] for run in runs if run["nodeid"].endswith("test_slow"))
    assert (finding["rule"], finding["line"], finding["gain"]["how"]) == ("executor-per-item", line, "predicted")
    assert next(run["findings"] for run in runs if run["nodeid"].endswith("test_good")) == []
