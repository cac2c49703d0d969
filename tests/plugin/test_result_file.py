"""The result file: complete or absent, with the keys that programs read."""

from __future__ import annotations

import json

import hypothesis  # noqa: F401 else its plugin imports it anew in every inner run, a second each
import pytest

import pytest_loaderperf.plugin.hooks
import pytest_loaderperf.runs.results  # noqa: F401 torch bears to be imported only once in a process

MEASURING = """
    import pytest
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    from pytest_loaderperf import ms

    DATA = TensorDataset(torch.zeros(48, 8))

    def make_loader():
        return DataLoader(DATA, batch_size=4)

    def test_it(loaderperf):
        run = loaderperf(make_loader, against=lambda: make_loader())
        assert run.throughput >= 0.001 * run.against.throughput
        assert run.data_wait(step=1 * ms) <= 0.999
        assert run.peak_memory <= 1 << 40
        assert run.epoch_exit <= 10**6 * ms
        assert run.cpu_seconds_per_1k <= 10**6 * ms

    def test_fails(loaderperf):
        assert loaderperf(make_loader).throughput >= 1e15

    def test_shared_object(loaderperf):
        loaderperf([{"x": torch.zeros(4, 2)}] * 12)
"""
TOP = {"schema", "machine", "commit", "base_commit", "alpha", "runs"}
RUN = {
    "nodeid",
    "loader",
    "batch_size",
    "device",
    "metrics",
    "stages",
    "claims",
    "findings",
    "disturbed",
    "inconclusive",
}
CLAIM = {"claim", "verdict", "estimate", "low", "high", "needed", "pairs", "seconds", "mde", "alpha"}
CLAIM |= {"by", "failed", "leaning", "settles_in_seconds", "unconfirmed", "at_least", "course"}
MACHINE = {"cpu", "cores", "torch", "numpy", "pyarrow", "python", "gpu", "driver", "start_method", "container_limits"}
UNITS = {
    "throughput": "samples/s",
    "batch_latency_p50": "s",
    "batch_latency_p95": "s",
    "batch_latency_p99": "s",
    "first_batch": "s",
    "epoch_exit": "s",
    "data_wait": "1",
    "bytes_per_second": "B/s",
    "cpu_seconds_per_1k": "s",
    "peak_memory": "B",
    "roofline_fraction": "1",
    "against_ratio": "1",
}


def test_the_result_holds_every_key_of_the_schema(pytester):
    pytester.makepyfile(test_it=MEASURING)
    # In a process of its own, where no other test has left threads that are never idle; and all must be settled.
    arguments = ["--loaderperf", "--loaderperf-budget=60", "--loaderperf-json=a/b/result.json"]
    result = pytester.runpytest_subprocess(*arguments, "--loaderperf-html=a/b/page.html")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["result written to *a/b/result.json", "page written to *a/b/page.html"])
    document = json.loads((pytester.path / "a/b/result.json").read_text())
    assert set(document) >= TOP
    assert (document["schema"], document["partial"], document["alpha"]) == ("loaderperf/1", False, 0.001)
    assert set(document["machine"]) >= MACHINE
    assert document["machine"]["steal_seconds"] >= 0
    first, failed, shared = document["runs"]
    for run in document["runs"]:
        assert set(run) >= RUN
        assert set(run["disturbance"]) >= {"stolen_seconds", "other_cpu_seconds", "quota_seconds"}
        assert (run["disturbed"] is None) == (run["disturbed_by"] == {})
        assert run["disturbed"] is None or 0 <= run["disturbed"] <= 1
        assert all(set(claim) >= CLAIM for claim in run["claims"])
        assert all(
            set(entry) - {"samples"} == {"value", "unit", "low", "high", "n"} for entry in run["metrics"].values()
        )
    assert {name: first["metrics"][name]["unit"] for name in UNITS} == UNITS
    for side in (side for run in document["runs"] for side in run["sides"]):
        assert len(side["metrics"]["throughput"]["samples"]) == min(100, side["metrics"]["throughput"]["n"])
    assert (first["nodeid"], first["batch_size"], first["device"]) == ("test_it.py::test_it", 4, "cpu")
    assert first["loader"].startswith("DataLoader(TensorDataset, batch_size=4, num_workers=0")
    assert [claim["verdict"] for claim in first["claims"]] == ["PASS"] * 5
    assert [claim["verdict"] for claim in failed["claims"]] == ["FAIL"]
    assert set(failed["stages"]) == {"sampler", "fetch", "collate"}
    assert sum(failed["stages"].values()) == pytest.approx(1)
    assert shared["notes"] == ["loader was given as a loader, not a factory: it was not rebuilt"]
    assert {path.name for path in (pytester.path / "a/b").iterdir()} == {"result.json", "page.html"}
    loader, other, roofline = first["sides"]
    for side in (loader, other):
        assert side["batches"]["count"] == sum(side["batches"]["histogram"]["counts"]) > 0
        assert side["batches"]["count"] == side["metrics"]["batch_latency_p50"]["n"]
        assert side["batches"]["timeline"]["starts"][-1] > 0
    assert min(side["batches"]["timeline"]["starts"][0] for side in (loader, other)) == 0
    assert roofline["batches"] is None
    paired, *_, peak, _, _ = first["claims"]
    assert paired["course"]["evidence_pass"][-1] >= paired["course"]["enough"]
    assert (len(paired["course"]["values"]), paired["course"]["each"], peak["course"]) == (paired["pairs"], 1, None)
    text = (pytester.path / "a/b/page.html").read_text()
    assert "1 claim fails, 5 pass" in text
    assert all(claim["claim"].replace(">", "&gt;").replace("<", "&lt;") in text for claim in first["claims"])


def test_the_claims_of_a_run_share_its_false_alarm_budget(pytester):
    pytester.makepyfile(test_it=MEASURING)
    arguments = ["--loaderperf", "--loaderperf-json=result.json", "--loaderperf-alpha=0.01", "--loaderperf-budget=0.1"]
    pytester.runpytest_inprocess(*arguments, "--loaderperf-max-budget=0.1")
    document = json.loads((pytester.path / "result.json").read_text())
    given = [claim["alpha"] for run in document["runs"] for claim in run["claims"]]
    assert given == pytest.approx([0.01 / (i * (i + 1)) for i in range(1, 7)])
