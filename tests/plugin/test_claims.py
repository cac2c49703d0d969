"""Claims in tests: what passes, what fails, and what pytest, JUnit and the summary say."""

from __future__ import annotations

from textwrap import dedent
from xml.etree import ElementTree as ET

import hypothesis  # noqa: F401 else its plugin imports it anew in every inner run, a second each
import pytest

import pytest_loaderperf.plugin.hooks
import pytest_loaderperf.runs.results  # noqa: F401 torch bears to be imported only once in a process
from pytest_loaderperf.runs import settling

FAKES = dedent(
    """
    import time

    import pytest
    import torch

    from pytest_loaderperf import ms, s

    class Loader:
        def __init__(self, delay_s=0.0):
            self.delay_s = delay_s

        def __len__(self):
            return 12

        def __iter__(self):
            for _ in range(12):
                if self.delay_s:
                    time.sleep(self.delay_s)
                yield torch.zeros(4, 8)

    def fast():
        return Loader()

    def slow():
        return Loader(0.002)

    def slower():
        return Loader(0.004)
    """
)


@pytest.fixture(autouse=True)
def _a_fail_is_confirmed_at_once(monkeypatch):
    monkeypatch.setattr(settling, "_PAUSE_SECONDS", 0.0)


@pytest.fixture
def tests(pytester):
    """Write a test file that knows the fake loaders."""
    return lambda body: pytester.makepyfile(test_it=FAKES + dedent(body))


TRUE = [
    "run.throughput >= 0.9 * run.against.throughput",
    "run.throughput > 1",
    "run.batch_latency.p50 <= 10 * s",
    "10 * s >= run.batch_latency.p50",
    "run.batch_latency.p50 <= 0.5 * run.against.batch_latency.p50",
    "run.first_batch <= 10 * s",
    "run.epoch_exit <= 10 * s",
    "run.bytes_per_second >= run.against.bytes_per_second",
    "run.peak_memory <= 1 << 40",
    "run.against.throughput <= 0.5 * run.roofline.throughput",
    "run.against.data_wait(step=0.1 * ms) >= 0.5",
    "run.dataset_nbytes == 77",
]


def each_in_a_test(claims):
    """A test for each, named by its place."""
    return "".join(
        f"""
        def test_{place}(loaderperf):
            run = loaderperf(fast, against=slow, dataset_nbytes=77)
            assert {claim}
        """
        for place, claim in enumerate(claims)
    )


def test_true_claims_pass(pytester, tests):
    tests(each_in_a_test(TRUE))
    result = pytester.runpytest_inprocess("--loaderperf", "--loaderperf-alpha=0.1")
    result.assert_outcomes(passed=len(TRUE))
    assert result.ret == 0


FALSE = {
    "run.throughput >= 1e9 * run.against.throughput": ["needed    at least 1,000,000,000 x"],
    "run.throughput >= 1e15": ["needed    at least 1,000,000,000,000,000 samples/s"],
    "run.against.batch_latency.p50 <= 1 * ms": ["needed    at most 1.00 ms", "batches in"],
    "run.against.first_batch <= 1 * ms": ["needed    at most 1.00 ms", "epochs in"],
    "run.against.data_wait(step=0.1 * ms) <= 0.1": ["FAIL: against.data_wait(step=0.1 ms) <= 0.1"],
    "1 * ms >= run.against.batch_latency.p50": ["FAIL: against.batch_latency.p50 <= 1.00 ms"],
}


def test_false_claims_fail_their_tests_and_say_what_was_needed(pytester, tests):
    tests(each_in_a_test(FALSE))
    result = pytester.runpytest_inprocess("--loaderperf", "--loaderperf-alpha=0.1")
    result.assert_outcomes(failed=len(FALSE))
    assert result.ret == 1
    for place, words in enumerate(FALSE.values()):
        shown = result.stdout.str().partition(f"_ test_{place} _")[2].partition("\n____")[0]
        assert all(word in shown for word in words)


def test_a_loader_twice_as_slow_fails_its_item_and_junit_explains_it(pytester, tests):
    tests(
        """
        def test_no_regression(loaderperf):
            run = loaderperf(slower, against=slow)
            assert run.throughput >= 0.97 * run.against.throughput

        def test_next(loaderperf):
            assert loaderperf(fast, against=slow).throughput >= 1
        """
    )
    result = pytester.runpytest_subprocess("--loaderperf", "--junitxml=junit.xml")
    assert result.ret == 1
    result.assert_outcomes(failed=1, passed=1)
    suite = ET.parse(pytester.path / "junit.xml").getroot().find("testsuite")  # noqa: S314 our own file
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("2", "1", "0")
    [failure] = suite.findall(".//failure")
    result.stdout.re_match_lines(
        [
            r"E +(AssertionError: )?assert FAIL: throughput >= 0.97 \* against.throughput",
            r"E +needed +at least 0.97 x",
            r"E +measured +0\.\d+ x, 95% interval 0\.\d+ to \d\.?\d*",
            r"E +figures +[\d,]+ samples/s against [\d,]+ samples/s",
            r"E +evidence +\d+ pairs in .*false-alarm share 0.0005.*",
            r"  FAIL  throughput >= 0.97 \* against.throughput.* pairs.*",
            r"2 claims: 1 PASS, 1 FAIL; .* spent measuring",
        ]
    )
    result.stdout.re_match_lines([r"E .*would have caught [\d.]+%"])
    for words in ("needed", "95% interval", "samples/s against", "pairs in"):
        assert words in failure.get("message") + failure.text


def test_the_stage_that_costs_most_is_named_for_a_dataloader(pytester, tests):
    tests(
        """
        from torch.utils.data import DataLoader, Dataset

        class Samples(Dataset):
            def __len__(self):
                return 24
            def __getitem__(self, i):
                time.sleep(0.002)
                return torch.zeros(8)

        def test_it(loaderperf):
            run = loaderperf(lambda: DataLoader(Samples(), 2))
            assert run.throughput >= 1e12
        """
    )
    result = pytester.runpytest_inprocess("--loaderperf")
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines([r"E +stages +fetch \d+%, \w+ \d+%, \w+ \d+% of a batch"])


def test_what_is_not_settled_in_the_budget_passes_and_is_counted(pytester, tests):
    tests(
        """
        @pytest.mark.loaderperf(budget=0.05, max_budget=0.05)
        def test_too_little_time(loaderperf):
            run = loaderperf(lambda: Loader(0.005), against=lambda: Loader(0.005))
            assert run.throughput >= run.against.throughput
            assert run.first_batch <= 10 * s
        """
    )
    result = pytester.runpytest_inprocess("--loaderperf", "--junitxml=junit.xml", "-rP")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*- Captured loaderperf call -*",
            "INCONCLUSIVE: throughput >= against.throughput",
            "  settling  *",
            "  INCONCLUSIVE  throughput >= against.throughput*",
            "        * x, interval * to *",
            "2 claims: *",
            "* of 2 claims undecided: nothing protects *",
            "  --loaderperf-inconclusive=leaning fails those beyond the threshold so far",
        ]
    )
    case = ET.parse(pytester.path / "junit.xml").getroot().find(".//testcase")  # noqa: S314 our own file
    assert case.find("failure") is None
    told = [entry.get("value") for entry in case.findall("properties/property[@name='loaderperf']")]
    words = "INCONCLUSIVE: throughput >= against.throughput; needed at least 1; measured "
    assert told[0].startswith(words)


UNDECIDED = """
    {marker}
    def test_undecided(loaderperf):
        run = loaderperf(lambda: Loader(0.005), against=lambda: Loader(0.005))
        assert run.throughput >= run.against.throughput
"""


@pytest.mark.parametrize(
    "arguments, marker",
    [(["--loaderperf-inconclusive=fail"], ""), ([], "@pytest.mark.loaderperf(inconclusive='fail')")],
)
def test_an_undecided_claim_fails_its_test_where_it_counts_as_a_failure(pytester, tests, arguments, marker):
    tests(UNDECIDED.format(marker=marker))
    result = pytester.runpytest_inprocess(
        "--loaderperf", "--loaderperf-budget=0.05", "--loaderperf-max-budget=0.05", *arguments, "--junitxml=junit.xml"
    )
    assert result.ret == 1
    result.assert_outcomes(failed=1)
    result.stdout.re_match_lines(
        [
            r"E +(AssertionError: )?assert INCONCLUSIVE: throughput >= against.throughput",
            r"E +verdict +INCONCLUSIVE, counted as a failure: loaderperf_inconclusive = fail",
            r"E +needed +at least 1 x",
            r"E +settling +\w+.*",
            r"1 of 1 claim undecided, counted as a failure",
        ]
    )
    result.stdout.no_fnmatch_line("*nothing protects*")
    [failure] = ET.parse(pytester.path / "junit.xml").getroot().findall(".//failure")  # noqa: S314 our own file
    assert "INCONCLUSIVE, counted as a failure" in failure.get("message") + failure.text


@pytest.mark.parametrize(
    "claim, policy, fails",
    [
        ("run.against.throughput >= run.throughput", "leaning", True),
        ("run.throughput >= run.against.throughput", "leaning", False),
        ("run.against.throughput >= run.throughput", "pass", False),
    ],
)
def test_a_claim_that_leans_to_a_breach_fails_where_that_counts_as_a_failure(pytester, tests, claim, policy, fails):
    tests(
        f"""
        def test_it(loaderperf):
            run = loaderperf(fast, against=slow)
            assert {claim}
        """
    )
    # At such a false-alarm budget a thousand pairs would not settle it, though all of them point the same way.
    most = ["--loaderperf-alpha=1e-300", "--loaderperf-budget=0.4", "--loaderperf-max-budget=0.4"]
    result = pytester.runpytest_inprocess("--loaderperf", f"--loaderperf-inconclusive={policy}", *most)
    result.assert_outcomes(failed=int(fails), passed=int(not fails))
    why = "*verdict   INCONCLUSIVE, counted as a failure: loaderperf_inconclusive = leaning, and the 95 % interval *"
    if fails:
        result.stdout.fnmatch_lines([why, "1 of 1 claim undecided, counted as a failure"])
    else:
        result.stdout.fnmatch_lines("1 of 1 claim undecided: nothing protects it")


def test_the_stages_of_an_undecided_claim_are_told_and_those_of_one_that_passes_are_not(pytester, tests):
    tests(
        """
        from torch.utils.data import DataLoader, TensorDataset

        def make_loader():
            return DataLoader(TensorDataset(torch.zeros(48, 8)), 4)

        @pytest.mark.loaderperf(budget=0.001, max_budget=0.001)
        def test_undecided(loaderperf):
            run = loaderperf(make_loader, against=lambda: make_loader())
            verdict = run.throughput >= run.against.throughput
            assert repr(verdict).startswith("INCONCLUSIVE: ")
            assert set(run.stages) == {"sampler", "fetch", "collate"}
            assert "\\n  stages    " in repr(verdict)

        def test_passes(loaderperf):
            run = loaderperf(make_loader)
            verdict = run.first_batch <= 1000 * s
            assert repr(verdict).startswith("PASS: ")
            assert (run.stages, "stages" in repr(verdict)) == ({}, False)
        """
    )
    pytester.runpytest_inprocess("--loaderperf").assert_outcomes(passed=2)


NO_BASE = """
    from pytest_loaderperf.plugin.completeness import Unpaired
    from pytest_loaderperf.plugin.session import session_of

    def pytest_collection_finish(session):
        without = Unpaired("test_it.py::test_it", "the base did not collect it", {is_new})
        session_of(session.config).unpaired.append(without)
"""


@pytest.mark.parametrize("is_new", [True, False])
@pytest.mark.parametrize("policy, measured", [("pass", True), ("leaning", True), ("fail", True), ("fail", False)])
def test_a_test_without_its_base_is_counted_and_may_fail_the_run(pytester, tests, is_new, policy, measured):
    pytester.makeconftest(dedent(NO_BASE.format(is_new=is_new)))
    tests(
        f"""
        def test_it(loaderperf):
            if not {measured}:
                pytest.skip("no base")
            assert loaderperf(fast).throughput >= 1
        """
    )
    result = pytester.runpytest_inprocess("--loaderperf", f"--loaderperf-inconclusive={policy}")
    told = "1 test has no base to compare with: nothing protects it"
    if is_new:
        result.stdout.no_fnmatch_line(told)
    else:
        result.stdout.fnmatch_lines([told, "  test_it.py::test_it: the base did not collect it"])
    if measured:
        assert result.ret == (1 if policy == "fail" and not is_new else 0)
    else:
        assert result.ret == pytest.ExitCode.USAGE_ERROR  # nothing was measured at all


def test_each_parameter_and_each_run_of_a_test_has_a_name_of_its_own(pytester, tests):
    tests(
        """
        @pytest.mark.parametrize("delay_s", [0.0, 0.001])
        def test_two(loaderperf, delay_s):
            first = loaderperf(lambda: Loader(delay_s))
            second = loaderperf(lambda: Loader(delay_s))
            assert first.throughput >= 1
            assert second.throughput >= 1
        """
    )
    result = pytester.runpytest_inprocess("--loaderperf")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "*::test_two[[]0.0[]]  (*",
            "*::test_two[[]0.0[]] #2  (*",
            "*::test_two[[]0.001[]]  (*",
            "*::test_two[[]0.001[]] #2  (*",
            "4 claims: 4 PASS; *",
        ]
    )


def test_a_failed_claim_that_is_not_asserted_is_told_and_others_are_not(pytester, tests):
    tests(
        """
        import pytest

        def test_forgotten(loaderperf):
            run = loaderperf(slow, against=fast)
            run.throughput >= 0.9 * run.against.throughput

        def test_asserted(loaderperf):
            run = loaderperf(slow, against=fast)
            assert run.throughput >= 0.9 * run.against.throughput

        @pytest.mark.xfail
        def test_expected(loaderperf):
            run = loaderperf(slow, against=fast)
            assert run.throughput >= 0.9 * run.against.throughput

        @pytest.fixture
        def checked(loaderperf):
            yield
            test_asserted(loaderperf)

        def test_ended(checked):
            pass
        """
    )
    result = pytester.runpytest_inprocess("--loaderperf")
    result.assert_outcomes(passed=2, failed=1, xfailed=1, errors=1)
    result.stdout.fnmatch_lines(["1 test passes though a claim there failed: nothing protects it"])
    after = [line for line in result.outlines if line.startswith("  test_")]
    assert after == [line for line in after if "test_forgotten" in line]
    assert len(after) == 1


def test_an_assert_that_is_no_claim_is_explained_by_pytest_alone(pytester, tests):
    tests(
        """
        def test_nothing(loaderperf):
            run = loaderperf(fast)
            assert run.throughput is None
        """
    )
    result = pytester.runpytest_inprocess("--loaderperf")
    result.stdout.fnmatch_lines(["E       assert <throughput: * samples/s> is None"])
    result.stdout.no_fnmatch_line("*ClaimError*")


def test_a_test_that_claims_nothing_still_shows_its_figures(pytester, tests):
    tests("def test_figures(loaderperf): loaderperf(fast)")
    result = pytester.runpytest_inprocess("--loaderperf")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["loader * samples/s *", "loader: Loader *", "roofline *", "no claims; *"])


def test_a_class_fixture_and_an_indirect_use_of_the_fixture_measure_too(pytester, tests):
    tests(
        """
        @pytest.fixture
        def run(loaderperf):
            return loaderperf(fast)

        class TestLoader:
            def test_it(self, run):
                assert run.throughput >= 1
        """
    )
    pytester.runpytest_inprocess("--loaderperf").assert_outcomes(passed=1)


def test_a_run_used_after_its_test_says_that_it_is_closed(pytester, tests):
    tests(
        """
        kept = []

        def test_keeps(loaderperf):
            kept.append(loaderperf(fast))

        def test_uses_it_later(loaderperf):
            loaderperf(fast)
            assert kept[0].throughput >= 1
        """
    )
    result = pytester.runpytest_inprocess("--loaderperf")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        "*ClaimError: this run is closed: its loaders are released. Compare before the test or `with` ends."
    )


def test_the_reference_loader_and_the_workload_serve_the_example_of_the_design(pytester, tests):
    tests(
        """
        from torch.utils.data import DataLoader

        def test_keeps_up(loaderperf, reference_loader, workload, executor, device):
            assert device == "cpu"
            vectors = workload("vectors")
            run = loaderperf(
                lambda: reference_loader(vectors.arrays, batch_size=32, shuffle=True),
                against=lambda: DataLoader(vectors.dataset(), batch_size=32, shuffle=True),
            )
            assert run.throughput >= 0.8 * run.against.throughput
            assert run.throughput >= 1e-6 * run.roofline.throughput
            assert run.batch_latency.p99 <= 5 * s
            assert run.first_batch <= 20 * s
            assert run.data_wait(step=10 * ms) <= 0.99
            assert run.peak_memory <= 100 * run.dataset_nbytes
        """
    )
    result = pytester.runpytest_inprocess("--loaderperf", "--loaderperf-budget=3")
    result.assert_outcomes(passed=1)
