"""Other plugins beside us, each alone or all together in one run."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from pytest_loaderperf.history import Store

NEIGHBOURS = Path(sys.prefix) / "neighbours"  # where make installs those that would take part in every run

MEASURING = """
    import torch
    BATCH = torch.zeros(4, 8)

    def test_measures(loaderperf):
        run = loaderperf(lambda: [BATCH] * 12)
        assert run.throughput >= 1

    def test_other():
        pass
"""


@pytest.mark.usefixtures("quick_children")
@pytest.mark.parametrize(
    "arguments, workers",
    [(["-n", "2"], 2), (["--dist", "load", "--tx", "2*popen"], 2)],
)
def test_more_than_one_xdist_worker_is_a_usage_error_that_says_why(pytester, arguments, workers):
    pytester.makepyfile(MEASURING)
    result = pytester.runpytest_subprocess("--loaderperf", *arguments, timeout=60)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        f"ERROR: --loaderperf measures one loader at a time, but pytest-xdist has {workers} workers: tests "
        "that run in parallel would disturb each other's timing. Measure with -n 0, in a separate run."
    )


@pytest.mark.usefixtures("quick_children")
def test_xdist_workers_are_welcome_where_nothing_is_measured(pytester):
    pytester.makepyfile(MEASURING)
    pytester.runpytest_subprocess("-n", "2", timeout=60).assert_outcomes(skipped=1, passed=1)


@pytest.mark.usefixtures("quick_children")
@pytest.mark.parametrize("workers", ["0", "1"])
def test_one_xdist_worker_or_none_measures_and_reports_once(pytester, workers):
    pytester.makepyfile(test_it=MEASURING)
    result = pytester.runpytest_subprocess("--loaderperf", "-n", workers, "--loaderperf-json=result.json", timeout=60)
    result.assert_outcomes(passed=2)
    assert result.ret == 0
    assert result.stdout.str().count("= loaderperf =") == 1
    assert result.stdout.str().count("1 claim: 1 PASS;") == 1
    document = json.loads((pytester.path / "result.json").read_text())
    assert [run["nodeid"] for run in document["runs"]] == ["test_it.py::test_measures"]
    assert document["partial"] is False
    with Store(pytester.path / ".loaderperf" / "history.sqlite3") as store:
        assert len(store.table().runs) == 1


@pytest.mark.usefixtures("quick_children")
def test_one_xdist_worker_that_measures_nothing_is_not_green(pytester):
    pytester.makepyfile("def test_other(): pass")
    assert pytester.runpytest_subprocess("--loaderperf", "-n", "1", timeout=60).ret != 0


@pytest.mark.parametrize("arguments", [["-p", "no:codspeed"], []])
def test_a_benchmark_test_and_a_loaderperf_test_work_in_one_run(pytester, arguments):
    pytester.makepyfile(MEASURING + "\n    def test_benchmark(benchmark):\n        assert benchmark(lambda: 5) == 5\n")
    result = pytester.runpytest_subprocess("--loaderperf", *arguments, timeout=60)
    result.assert_outcomes(passed=3)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["1 claim: 1 PASS; *"])


CODSPEED = ["--codspeed", "--codspeed-mode=walltime", "--codspeed-max-time=0.1", "--codspeed-warmup-time=0"]


@pytest.mark.parametrize(
    "arguments, status", [([], pytest.ExitCode.OK), (["--loaderperf"], pytest.ExitCode.USAGE_ERROR)]
)
def test_codspeed_deselects_our_tests_which_is_an_error_only_where_we_shall_measure(pytester, arguments, status):
    pytester.makepyfile(MEASURING + "\n    def test_benchmark(benchmark):\n        assert benchmark(lambda: 5) == 5\n")
    result = pytester.runpytest_subprocess(*CODSPEED, *arguments, timeout=60)
    assert result.ret == status
    if arguments:
        result.stderr.fnmatch_lines("ERROR: --loaderperf was given, but no collected test uses the loaderperf fixture*")
    else:
        result.stdout.fnmatch_lines("*1 benchmarked*")


def test_without_the_terminal_plugin_the_verdict_still_counts(pytester):
    pytester.makepyfile(MEASURING.replace(">= 1", ">= 1e15"))
    arguments = ["--loaderperf", "-p", "no:terminal", "--loaderperf-json=result.json"]
    result = pytester.runpytest_subprocess(*arguments, timeout=60)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert json.loads((pytester.path / "result.json").read_text())["runs"][0]["claims"][0]["verdict"] == "FAIL"


PACKAGE = """
    import sys

    import torch
    from torch.utils.data import DataLoader, Dataset

    traced = []

    class Rows(Dataset):
        def __len__(self):
            return 400

        def __getitem__(self, index):
            traced.append(sys.gettrace() is not None)
            return torch.zeros(8)

    def make_loader():
        return DataLoader(Rows(), batch_size=4)

    def never_called():
        return 1
"""
BESIDE_ALL = """
    import random
    import sys
    import time

    import pytest
    import torch
    from mypkg import make_loader, traced

    tries = []

    def test_is_measured_untraced(loaderperf):
        tracer = sys.gettrace()
        assert tracer is not None, "coverage is on"
        traced.clear()
        run = loaderperf(make_loader, against=make_loader)
        assert run.throughput >= 0.01 * run.against.throughput
        assert len(traced) >= 400
        assert not any(traced)
        assert sys.gettrace() is tracer

    def test_fails_once(loaderperf):
        tries.append(1)
        run = loaderperf(make_loader)
        assert run.throughput >= len(tries)
        assert len(tries) > 1

    @pytest.mark.timeout(2)
    @pytest.mark.flaky(reruns=0)
    def test_hangs(loaderperf):
        def slow():
            for index in range(100):
                if index == 60:
                    time.sleep(100)
                yield torch.zeros(4, 8)

        run = loaderperf(slow, against=make_loader)
        assert run.throughput >= 0.9 * run.against.throughput

    @pytest.mark.limit_memory("1 GB")
    def test_is_sound_after_a_hang(loaderperf):
        assert loaderperf(make_loader).throughput >= 1

    def test_benchmark(benchmark):
        assert benchmark.pedantic(lambda: 5) == 5

    def test_draws():
        print("drawn", random.random())
"""


@pytest.mark.slow
@pytest.mark.own_interpreter  # whose path has the plugins
@pytest.mark.skipif(not NEIGHBOURS.is_dir(), reason="make installs requirements/neighbours.txt there")
def test_all_neighbours_in_one_run(pytester, monkeypatch):
    pytester.makepyfile(mypkg=PACKAGE, test_it=BESIDE_ALL)
    path = [str(NEIGHBOURS), str(pytester.path), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    for name in [name for name in os.environ if name.startswith("PYTEST_XDIST")]:
        monkeypatch.delenv(name)  # pytest-benchmark measures nothing beside other workers
    arguments = ["--loaderperf", "--loaderperf-budget=1", "--loaderperf-json=result.json", "-rA"]
    arguments += ["--cov=mypkg", "--cov-report=term-missing", "--reruns=1", "--timeout=60", "--memray"]
    result = pytester.runpytest_subprocess(*arguments, "-p", "randomly", "-p", "no:cacheprovider", timeout=100)
    assert result.parseoutcomes() == {"passed": 5, "failed": 1, "rerun": 1}
    result.stdout.fnmatch_lines_random(
        [
            "plugins: *",
            "Using --randomly-seed=*",
            "*Failed: Timeout (>2.0s) from pytest-timeout.",
            "mypkg.py *",
            "drawn 0.*",
            "*MEMRAY REPORT*",
            "*1 tests*",  # pytest-benchmark's table
        ]
    )
    names = ("benchmark", "codspeed", "cov", "memray", "randomly", "rerunfailures", "timeout", "xdist")
    plugins = next(line for line in result.outlines if line.startswith("plugins: "))
    assert [name for name in names if f"{name}-" not in plugins] == []
    document = json.loads((pytester.path / "result.json").read_text())
    verdicts = {run["nodeid"]: [claim["verdict"] for claim in run["claims"]] for run in document["runs"]}
    assert verdicts == {
        "test_it.py::test_is_measured_untraced": ["PASS"],
        "test_it.py::test_fails_once": ["PASS"],
        "test_it.py::test_fails_once (rerun 1)": ["PASS"],
        "test_it.py::test_is_sound_after_a_hang": ["PASS"],
    }
    assert len(document["runs"]) == len(verdicts)
    assert document["partial"] is False
    (covered,) = [line for line in result.outlines if line.startswith("mypkg.py")]
    assert covered.endswith("13-14, 17, 20"), "what is measured is not traced, so it does not count as covered"


def test_a_test_that_runs_again_keeps_its_first_verdict(pytester):
    """As pytest-rerunfailures does it, without that plugin."""
    pytester.makeconftest(
        """
        from _pytest.runner import runtestprotocol

        def pytest_runtest_protocol(item, nextitem):
            for last in (False, True):
                reports = runtestprotocol(item, nextitem=None, log=False)
                if last:
                    [item.ihook.pytest_runtest_logreport(report=report) for report in reports]
            return True
        """
    )
    pytester.makepyfile(
        test_it="""
        BATCHES = [[0, 1]] * 12

        def test_two_loaders(loaderperf):
            assert loaderperf(lambda: BATCHES, count=len).throughput >= 1
            assert loaderperf(lambda: BATCHES, count=len).throughput >= 2
        """
    )
    pytester.runpytest_subprocess("--loaderperf", "--loaderperf-json=result.json", timeout=60).assert_outcomes(passed=1)
    document = json.loads((pytester.path / "result.json").read_text())
    assert [run["nodeid"] for run in document["runs"]] == [
        "test_it.py::test_two_loaders",
        "test_it.py::test_two_loaders #2",
        "test_it.py::test_two_loaders (rerun 1)",
        "test_it.py::test_two_loaders (rerun 1) #2",
    ]
