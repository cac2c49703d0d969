"""What the tool itself costs: a settled claim, and a pytest run that does not measure."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
import timeit
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.utils.data import DataLoader

from pytest_loaderperf.judge import quantile_interval
from pytest_loaderperf.ranks.job import own_world

pytestmark = pytest.mark.skipif(
    own_world() is not None, reason="the tool's own costs are those of one process, and this is one of several ranks"
)
SETTLES_WITHIN_SECONDS = 2.0
PLUGIN_COSTS_MS = 10.0
STARTS = 13
EXECUTOR_RATIO, ROUNDS, REACHES, POOLS = 1000, 21, 10_000, 20


def test_a_claim_five_percent_away_settles_in_two_seconds(loaderperf, workload):
    """The same loader twice: its ratio, 1, is 5 % away from both thresholds.

    On busy cores a claim may stay undecided, and waits for a core; the CPU time that it takes stays the same.
    """
    vectors = workload("vectors")
    dataset, batch_size = vectors.dataset(), vectors.spec.batch_size

    def make_loader():
        return DataLoader(dataset, batch_size, shuffle=True)

    run = loaderperf(make_loader, against=make_loader)
    began_s = time.process_time()
    slower = run.throughput >= 0.95 * run.against.throughput
    faster = run.throughput <= 1.05 * run.against.throughput
    took_s = time.process_time() - began_s
    outcomes = {slower.ruling.outcome, faster.ruling.outcome}
    assert "FAIL" not in outcomes
    assert took_s < SETTLES_WITHIN_SECONDS or "INCONCLUSIVE" in outcomes


def test_plugin_costs_nothing_where_it_does_not_measure(tmp_path, capsys):
    (tmp_path / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    base = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:benchmark", "-p", "no:codspeed"]
    commands = {"with": base, "without": [*base, "-p", "no:loaderperf"]}
    # As installed: bytecode is cached. Otherwise every start would time the compiler.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    took_ms = {name: [] for name in commands}
    for _ in range(STARTS):
        for name, command in commands.items():
            began_s = time.perf_counter()
            subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)  # noqa: S603 our own command
            took_ms[name].append((time.perf_counter() - began_s) * 1e3)
    differences_ms = [a - b for a, b in zip(took_ms["with"], took_ms["without"], strict=True)]
    extra_ms = statistics.median(differences_ms)
    surely_ms, _ = quantile_interval(differences_ms, 0.5)  # starts take 300 ms, give or take 30
    with capsys.disabled():
        print(f"\nplugin installed, not measuring: {extra_ms:+.1f} ms a pytest run, median of {STARTS} pairs ", end="")  # noqa: T201
    assert surely_ms < PLUGIN_COSTS_MS


def test_the_executor_is_reached_a_thousand_times_faster_than_a_new_pool(executor, capsys):
    def new_pool():
        with ThreadPoolExecutor(executor.max_workers) as pool:
            pool.submit(int).result()

    executor.submit(int).result()
    ratios = []
    for _ in range(ROUNDS):
        new_s = timeit.timeit(new_pool, number=POOLS) / POOLS
        ratios.append(new_s / (timeit.timeit(lambda: executor.pool, number=REACHES) / REACHES))
    with capsys.disabled():
        print(f"\nexecutor: reached {statistics.median(ratios):,.0f} times faster than a new pool ", end="")  # noqa: T201
    assert max(ratios) >= EXECUTOR_RATIO  # other work on the machine halves it in some rounds, or in most
