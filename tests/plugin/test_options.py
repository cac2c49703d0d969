"""Options, ini keys and marker keywords: what they do, and what a bad value is answered with."""

from __future__ import annotations

import json

import hypothesis  # noqa: F401 else its plugin imports it anew in every inner run, a second each
import pytest
import torch

import pytest_loaderperf.plugin.hooks
import pytest_loaderperf.runs.results  # noqa: F401 torch bears to be imported only once in a process
from pytest_loaderperf import measure, s
from pytest_loaderperf.errors import ClaimError
from pytest_loaderperf.plugin.settings import SETTINGS

SECONDS = "expected a positive number of seconds such as 10, got {!r}"
CHANCE = "expected a probability between 0 and 1, such as 0.001, got {!r}"
DEVICE = "expected one of cpu, cuda, auto, got {!r}"
POLICY = "expected one of pass, fail, leaning, got {!r}"
KEYWORDS = "base, budget, device, inconclusive, max_budget, silent, timeout"
BAD = [
    *(("max-budget", value, SECONDS) for value in ("abc", "0", "inf")),
    *(("inconclusive", value, POLICY) for value in ("maybe", "FAIL", "skip")),
    *(("budget", value, SECONDS) for value in ("abc", "0", "-1", "nan", "inf", "1e999", "10s")),
    *(("alpha", value, CHANCE) for value in ("0", "1", "2", "-0.1", "x", "nan")),
    *(("device", value, DEVICE) for value in ("tpu", "CPU", "cuda:0")),
]
MEASURING = """
    import pytest
    import torch
    BATCH = torch.zeros(4, 8)
    {marker}
    def test_it(loaderperf):
        run = loaderperf(lambda: [BATCH] * 12)
        assert run.throughput >= 1
"""


@pytest.fixture
def measuring(pytester):
    return lambda marker="": pytester.makepyfile(MEASURING.format(marker=marker))


@pytest.mark.parametrize("name, value, words", [*BAD, ("budget", "", SECONDS)])
def test_a_bad_option_is_a_usage_error_that_says_what_was_expected(pytester, measuring, name, value, words):
    measuring()
    result = pytester.runpytest_inprocess(f"--loaderperf-{name}={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"argument --loaderperf-{name}: {words.format(value)}" in result.stderr.str()


@pytest.mark.parametrize("name, value, words", [*BAD, ("timeout", "-1", SECONDS), ("timeout", "soon", SECONDS)])
def test_a_bad_ini_value_is_a_usage_error_that_names_the_key(pytester, measuring, name, value, words):
    measuring()
    key = f"loaderperf_{name.replace('-', '_')}"
    pytester.makeini(f"[pytest]\n{key} = {value}")
    result = pytester.runpytest_inprocess("--loaderperf")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"ini key {key}: {words.format(value)}" in result.stderr.str()


@pytest.mark.parametrize(
    "arguments, ini, most",
    [
        ([], "", 60),
        (["--loaderperf-budget=90"], "", 90),
        (["--loaderperf-max-budget=20"], "", 20),
        (["--loaderperf-max-budget=10"], "", 10),
        ([], "loaderperf_max_budget = 30", 30),
        (["--loaderperf-max-budget=40"], "loaderperf_max_budget = 30", 40),
        ([], "loaderperf_budget = 70", 70),
        (["--loaderperf-budget=5"], "loaderperf_budget = 70", 60),
    ],
)
def test_the_largest_budget_follows_the_budget_unless_it_is_given(pytester, arguments, ini, most):
    pytester.makeini(f"[pytest]\n{ini}")
    config = pytester.parseconfigure(*arguments)
    assert config.stash[SETTINGS].max_budget_seconds == most


@pytest.mark.parametrize(
    "arguments, ini, words",
    [
        (["--loaderperf-max-budget=9"], "", "expected at least the budget of 10 s, got 9 s"),
        (
            ["--loaderperf-budget=61", "--loaderperf-max-budget=60"],
            "",
            "expected at least the budget of 61 s, got 60 s",
        ),
        (["--loaderperf-budget=7.5"], "loaderperf_max_budget = 5", "expected at least the budget of 7.5 s, got 5 s"),
    ],
)
def test_a_largest_budget_below_the_budget_is_a_usage_error(pytester, measuring, arguments, ini, words):
    measuring()
    pytester.makeini(f"[pytest]\n{ini}")
    result = pytester.runpytest_inprocess("--loaderperf", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    named = "--loaderperf-max-budget (ini key loaderperf_max_budget)"
    assert f"{named}: {words}. Raise it, or lower --loaderperf-budget." in result.stderr.str()


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU that is not there")
@pytest.mark.parametrize("ini", ["", "[pytest]\nloaderperf_device = cuda"])
def test_a_gpu_that_is_not_there_is_a_usage_error(pytester, measuring, ini):
    measuring()
    pytester.makeini(ini)
    result = pytester.runpytest_inprocess("--loaderperf", *([] if ini else ["--loaderperf-device=cuda"]))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    words = "--loaderperf-device: device 'cuda' was requested, but torch finds no CUDA device. Use cpu or auto."
    assert words in result.stderr.str()


def test_the_command_line_wins_over_the_ini_file(pytester, measuring):
    measuring()
    pytester.makeini("[pytest]\nloaderperf_alpha = 0.5\nloaderperf_budget = 7")
    for arguments, alpha in ([], 0.5), (["--loaderperf-alpha=0.01"], 0.01):
        result = pytester.runpytest_inprocess("--loaderperf", "--loaderperf-json=out/result.json", *arguments)
        assert result.ret == 0
        assert json.loads((pytester.path / "out" / "result.json").read_text())["alpha"] == alpha


@pytest.mark.parametrize("option", ["--loaderperf-json", "--loaderperf-html"])
@pytest.mark.parametrize("path", ["folder", "file/result.json"])
def test_a_result_file_that_cannot_be_written_is_refused_before_measuring(pytester, measuring, path, option):
    measuring()
    pytester.mkdir("folder")
    (pytester.path / "file").write_text("")
    result = pytester.runpytest_inprocess("--loaderperf", f"{option}={path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.re_match_lines([rf".*{option}: cannot (write|make the folder of) .*"])
    result.stdout.no_fnmatch_line("*test_it*")


def test_a_page_does_not_replace_a_test_that_follows_its_option(pytester, measuring):
    test = measuring()
    before = test.read_text()
    result = pytester.runpytest_inprocess("--loaderperf", "--loaderperf-html", test.name)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"*--loaderperf-html: *{test.name} was not written by loaderperf, so it is not replaced.*"]
    )
    assert test.read_text() == before


@pytest.mark.parametrize(
    "marker, words",
    [
        ("bugdet=1", f"takes the keywords {KEYWORDS}, got bugdet."),
        ("against=1", f"takes the keywords {KEYWORDS}, got against."),
        ("1, budget=2, x=3", f"takes the keywords {KEYWORDS}, got 1, x."),
        ("'cpu'", f"takes the keywords {KEYWORDS}, got 'cpu'."),
        ("budget=-1", "the marker's budget: expected a positive time, got -1. Write 10 or 10 * s."),
        ("budget='1'", "the marker's budget: expected a positive time, got '1'. Write 10 or 10 * s."),
        ("budget=True", "the marker's budget: expected a positive time, got True. Write 10 or 10 * s."),
        ("timeout=0", "the marker's timeout: expected a positive time, got 0. Write 10 or 10 * s."),
        ("timeout=float('nan')", "the marker's timeout: expected a positive time, got nan. Write 10 or 10 * s."),
        ("max_budget=0", "the marker's max_budget: expected a positive time, got 0. Write 10 or 10 * s."),
        (
            "max_budget=9",
            "the marker's max_budget: expected at least the budget of 10 s, got 9 s. Raise it, or lower the budget.",
        ),
        (
            "budget=20, max_budget=19",
            "the marker's max_budget: expected at least the budget of 20 s, got 19 s. Raise it, or lower the budget.",
        ),
        ("inconclusive='maybe'", "inconclusive: expected one of pass, fail, leaning, got 'maybe'."),
        ("inconclusive=True", "inconclusive: expected one of pass, fail, leaning, got 'True'."),
        ("device='tpu'", "unknown device 'tpu'. Expected one of: cpu, cuda, auto."),
    ],
)
def test_a_bad_marker_fails_its_test_and_says_why(pytester, measuring, marker, words):
    measuring(f"@pytest.mark.loaderperf({marker})")
    result = pytester.runpytest_inprocess("--loaderperf", "--strict-markers")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert words in result.stdout.str()


def test_the_closest_marker_wins_and_takes_quantities(pytester):
    pytester.makepyfile(
        """
        import pytest
        from pytest_loaderperf import ms, s
        pytestmark = pytest.mark.loaderperf(budget=100, device="auto", inconclusive="fail", timeout=50)

        @pytest.mark.loaderperf(budget=500 * ms)
        def test_it(loaderperf):
            run = loaderperf(lambda: [[0]] * 12)
            assert (run.options.budget_seconds, run.options.timeout_seconds) == (0.5, 50)
            assert (run.options.device, run.options.inconclusive) == ("auto", "fail")
            assert run.options.max_budget_seconds == 70

        @pytest.mark.loaderperf(max_budget=200 * s, inconclusive="leaning")
        def test_more(loaderperf):
            run = loaderperf(lambda: [[0]] * 12)
            assert (run.options.budget_seconds, run.options.max_budget_seconds) == (100, 200)
            assert run.options.inconclusive == "leaning"

        def test_max_budget_follows_the_budget(loaderperf):
            assert loaderperf(lambda: [[0]] * 12).options.max_budget_seconds == 100
        """
    )
    arguments = ["--loaderperf-max-budget=70", "--loaderperf-inconclusive=pass"]
    pytester.runpytest_inprocess("--loaderperf", *arguments).assert_outcomes(passed=3)


def test_a_script_sets_budgets_and_what_an_undecided_claim_counts_as():
    loader = [[0]] * 12
    with measure(loader, max_budget=20 * s, inconclusive="leaning") as run:
        assert (run.options.budget_seconds, run.options.max_budget_seconds) == (10, 20)
        assert run.options.inconclusive == "leaning"
    with measure(loader, budget=90) as run:
        assert (run.options.max_budget_seconds, run.options.inconclusive) == (90, "pass")
    with pytest.raises(ClaimError, match=r"^max_budget: expected at least the budget of 10 s, got 5 s\. Raise it, or "):
        measure(loader, max_budget=5 * s)
    with pytest.raises(ClaimError, match=r"^inconclusive: expected one of pass, fail, leaning, got 'no'\.$"):
        measure(loader, inconclusive="no")
