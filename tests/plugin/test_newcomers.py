"""What a newcomer ran into, and should not again."""

from __future__ import annotations

import gc
import os
import threading
import time

import pytest
import torch

from pytest_loaderperf import ReferenceLoader, measure, ms
from pytest_loaderperf.errors import ClaimError
from pytest_loaderperf.judge import Outcome
from pytest_loaderperf.report import write_json

X = torch.zeros(8, 4)


class Sleepy:
    def __init__(self, seconds):
        self.seconds = seconds

    def __iter__(self):
        for _ in range(60):
            time.sleep(self.seconds)
            yield X


def test_a_slow_loader_far_from_its_threshold_is_settled_within_the_budget():
    with measure(lambda: Sleepy(0.02), against=lambda: Sleepy(0.01), budget=2) as run:
        verdict = run.throughput >= 0.9 * run.against.throughput
    assert verdict.ruling.outcome is Outcome.FAIL


def test_no_round_is_begun_that_might_outlast_the_budget():
    with measure(lambda: Sleepy(0.05), against=lambda: Sleepy(0.05), budget=0.5) as run:
        verdict = run.throughput >= 1.0 * run.against.throughput
    assert verdict.ruling.outcome is Outcome.INCONCLUSIVE
    assert 1 <= verdict.ruling.n < 14


def test_a_metric_by_itself_and_a_latency_without_percentile_claim_nothing():
    with measure(lambda: [X] * 40, budget=0.3) as run:
        with pytest.raises(ClaimError, match="by itself claims nothing"):
            assert run.throughput
        with pytest.raises(ClaimError, match="batch_latency has p50, p95 and p99"):
            assert run.batch_latency <= 5 * ms


def test_a_verdict_reads_as_its_explanation():
    with measure(lambda: [X] * 40, budget=0.3) as run:
        verdict = run.throughput >= 1
    assert repr(verdict).startswith("PASS: throughput >= 1.00 samples/s\n  needed    at least 1.00 samples/s\n")


@pytest.mark.parametrize("kind", ["pipe", "folder", "/dev/null", "/proc/x.json"])
def test_a_result_never_replaces_what_is_no_file(pytester, kind):
    pytester.makepyfile("def test_it(loaderperf): pass")
    path = kind
    if kind == "pipe":
        os.mkfifo(path := str(pytester.path / "pipe"))
    if kind == "folder":
        path = str(pytester.mkdir("folder"))
    result = pytester.runpytest_inprocess("--loaderperf", f"--loaderperf-json={path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --loaderperf-json: cannot write {path}. Expected the path of a file*"])


def test_a_link_to_a_result_goes_on_pointing_to_it(tmp_path):
    (tmp_path / "real.json").write_text("{}")
    (tmp_path / "link.json").symlink_to("real.json")
    write_json({"schema": "loaderperf/1"}, tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert "loaderperf/1" in (tmp_path / "real.json").read_text()


def test_a_loader_that_is_let_go_takes_its_threads_with_it():
    rows = torch.zeros(512, 256)
    before = threading.active_count()
    gc.disable()
    try:
        for _ in range(5):
            loader = ReferenceLoader((rows,), batch_size=32, num_workers=2)
            for _batch in loader:
                pass
            del loader, _batch
        deadline_s = time.monotonic() + 10
        while threading.active_count() > before and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert threading.active_count() == before
    finally:
        gc.enable()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_dataset_that_raises_stopiteration_ends_no_epoch_silently(num_workers):
    class Stops:
        def __len__(self):
            return 40

        def __getitem__(self, index):
            if index == 20:
                raise StopIteration
            return X

    with (
        pytest.raises(RuntimeError, match="the dataset raised StopIteration in stage fetch, for sample 20"),
        ReferenceLoader(Stops(), batch_size=4, num_workers=num_workers) as loader,
    ):
        list(loader)
