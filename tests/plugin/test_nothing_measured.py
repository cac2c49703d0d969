"""A run that asked for measurement and measured nothing is never green."""

from __future__ import annotations

import hypothesis  # noqa: F401 else its plugin imports it anew in every inner run, a second each
import pytest

import pytest_loaderperf.plugin.hooks
import pytest_loaderperf.runs.results  # noqa: F401 torch bears to be imported only once in a process

MEASURING = "def test_measures(loaderperf): loaderperf(lambda: [[0]] * 12)"


@pytest.mark.parametrize(
    "source, arguments",
    [
        ("def test_other(): pass", []),
        ("", []),
        (MEASURING, ["-k", "no_such_name"]),
        (MEASURING, ["--deselect", "test_it.py::test_measures"]),
        (f"{MEASURING}\ndef test_other(): pass", ["-k", "other"]),
    ],
)
def test_no_collected_test_that_measures_is_a_usage_error(pytester, source, arguments):
    pytester.makepyfile(test_it=source)
    result = pytester.runpytest_inprocess("--loaderperf", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        "ERROR: --loaderperf was given, but no collected test uses the loaderperf fixture: nothing would be measured. "
        "Name the folder or file with such tests, or leave --loaderperf out."
    )


@pytest.mark.parametrize(
    "body",
    [
        "@pytest.mark.skip(reason='flaky')\ndef test_it(loaderperf): pass",
        "def test_it(loaderperf): pytest.skip('not today')",
        "@pytest.mark.xfail(run=False)\ndef test_it(loaderperf): pass",
        "def test_it(loaderperf): 'asks for the fixture and never calls it'",
    ],
)
def test_tests_that_measure_nothing_are_not_green(pytester, body):
    pytester.makepyfile(f"import pytest\n{body}\ndef test_other(): pass")
    result = pytester.runpytest_inprocess("--loaderperf", "--loaderperf-json=result.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        "--loaderperf was given, but nothing was measured: no test called loaderperf(...) to its end."
    )
    assert not (pytester.path / "result.json").exists()


@pytest.mark.parametrize("asks, status", [(True, pytest.ExitCode.OK), (False, pytest.ExitCode.USAGE_ERROR)])
def test_a_fixture_may_ask_for_ours_by_its_name(pytester, asks, status):
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.fixture
        def wrapped(request):
            return request.getfixturevalue("loaderperf") if {asks} else print

        def test_it(wrapped): wrapped(lambda: [[0]] * 12)
        """
    )
    assert pytester.runpytest_inprocess("--loaderperf").ret == status


def test_a_failing_test_that_measured_nothing_keeps_its_own_exit_status(pytester):
    pytester.makepyfile("def test_it(loaderperf): raise ValueError")
    assert pytester.runpytest_inprocess("--loaderperf").ret == pytest.ExitCode.TESTS_FAILED


def test_collecting_only_is_no_error(pytester):
    pytester.makepyfile(MEASURING)
    result = pytester.runpytest_inprocess("--loaderperf", "--collect-only")
    assert result.ret == 0
    result.stdout.fnmatch_lines("*test_measures*")
