"""Other plugins beside us: pytest-xdist, pytest-benchmark, pytest-codspeed."""

from __future__ import annotations

import json

import pytest

from pytest_loaderperf.history import Store

MEASURING = """
    import torch
    BATCH = torch.zeros(4, 8)

    def test_measures(loaderperf):
        run = loaderperf(lambda: [BATCH] * 12)
        assert run.throughput >= 1

    def test_other():
        pass
"""


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


def test_xdist_workers_are_welcome_where_nothing_is_measured(pytester):
    pytester.makepyfile(MEASURING)
    pytester.runpytest_subprocess("-n", "2", timeout=60).assert_outcomes(skipped=1, passed=1)


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
