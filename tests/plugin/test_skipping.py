"""Without --loaderperf nothing is measured and next to nothing is imported."""

from __future__ import annotations

import hypothesis  # noqa: F401 else its plugin imports it anew in every inner run, a second each
import pytest

import pytest_loaderperf.plugin.hooks  # noqa: F401 one copy of each module for all inner runs

MEASURING = """
    def test_measures(loaderperf):
        raise AssertionError("ran")
    def test_other():
        pass
"""


def test_tests_that_measure_are_skipped_with_the_reason(pytester):
    pytester.makepyfile(MEASURING)
    result = pytester.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=1, passed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines("SKIPPED * measures a loader: run with --loaderperf")
    result.stdout.no_fnmatch_line("*= loaderperf =*")


def test_a_fixture_that_asks_for_it_at_run_time_is_skipped_too(pytester):
    pytester.makepyfile("def test_late(request): request.getfixturevalue('loaderperf')")
    result = pytester.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines("SKIPPED * measures a loader: run with --loaderperf")


@pytest.mark.parametrize("arguments", [[], ["--markers"], ["--fixtures"], ["--help"]])
@pytest.mark.own_interpreter
def test_a_run_that_does_not_measure_imports_no_heavy_library(pytester, arguments):
    pytester.makepyfile(MEASURING)
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            heavy = {"torch", "numpy", "pyarrow", "scipy", "psutil"} & set(sys.modules)
            print("heavy:", sorted(heavy))
        """
    )
    # pytest-benchmark and its like may import what they want.
    others = [f"-pno:{name}" for name in ("benchmark", "codspeed", "xdist", "zarr")]
    result = pytester.runpytest_subprocess(*others, *arguments)
    assert result.ret == 0
    result.stdout.fnmatch_lines("heavy: []")


def test_help_and_markers_name_every_option(pytester):
    result = pytester.runpytest_inprocess("--help")
    names = ["", "-budget=SECONDS", "-max-budget=SECONDS", "-alpha=P", "-base=REF", "-json=FILE"]
    names.append("-inconclusive=pass|fail|leaning")
    result.stdout.fnmatch_lines_random([f"*--loaderperf{name}*" for name in names])
    result.stdout.fnmatch_lines_random(["*loaderperf_timeout *"])
    markers = pytester.runpytest_inprocess("--markers")
    keywords = "base=ref, budget=seconds, device=name, inconclusive=pass|fail|leaning, max_budget=seconds, "
    keywords += "timeout=seconds"
    markers.stdout.fnmatch_lines(f"@pytest.mark.loaderperf({keywords}): *")
