"""The base is measured under the head's own conditions, or refused by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.plugin.test_base import FAST, LOADER, SLOW, TEST, files, git, nothing_is_left, project

__all__ = ["project"]  # a fixture of those tests

FAILED = "FAIL  throughput >= 0.9 * base.throughput"
CONFTEST = """
import pytest, sys
from pathlib import Path

HERE = Path(__file__).parent

def pytest_addoption(parser):
    parser.addoption("--pause-file", type=Path)
    parser.addoption("--mode")

@pytest.fixture(autouse=True)
def seen(request, tmp_path):
    # Both sides write what they see, each into its own folder: the checkout or the worktree.
    import json, os
    config = request.config
    seen = {
        "bytes": sys.flags.bytes_warning, "xoptions": sys._xoptions, "warnings": sys.warnoptions,
        "mode": config.getoption("--mode"), "file": str(config.getoption("--pause-file")), "folder": os.getcwd(),
        "tmp": str(tmp_path), "xml": config.getoption("xmlpath"), "coverage": os.environ.get("COVERAGE_PROCESS_START"),
    }
    (Path(os.environ["SEEN"]) / f"{os.getpid()}-{request.node.name.partition('[')[0]}").write_text(json.dumps(seen))

@pytest.fixture
def wrapped(request):
    return request.getfixturevalue("loaderperf")
"""
SIZED = """
class Loader:
    def __iter__(self):
        return iter([[0] * {size}] * 40)
"""
SIZES = """
import pytest
from sized import Loader

@pytest.mark.perf
def test_sizes(loaderperf):
    run = loaderperf(Loader)
    assert run.base.throughput.value > 0
    assert [run.rounds.sides[name].batch_samples for name in ("loader", "base")] == [2, 1]
"""
MARKED = TEST.replace("def test_speed", "import pytest\n\n@pytest.mark.perf\ndef test_speed")
PATHS = SIZES.replace(
    "def test_sizes(loaderperf)",
    '@pytest.mark.parametrize("path", [str(__import__("pathlib").Path(__file__).parent / "a.txt")])\n'
    "def test_path(loaderperf, path)",
)
WRAPPED = SIZES.replace("def test_sizes(loaderperf)", "def test_wrapped(wrapped)").replace(
    "run = loaderperf", "run = wrapped"
)
INI = '[pytest]\naddopts = -m "not perf"\nmarkers = perf: slow\n'


OPTIONS = ("--loaderperf", "--loaderperf-base=HEAD", "--loaderperf-budget=20", "--loaderperf-alpha=0.1", "-rs")


def run(pytester, *arguments):
    return pytester.runpytest_subprocess(*OPTIONS, *arguments)


@pytest.mark.slow
def test_options_of_the_command_line_reach_the_child_and_what_is_the_parents_does_not(project, tmp_path, monkeypatch):
    base = {
        **files(FAST, MARKED),
        "conftest.py": CONFTEST,
        "pytest.ini": INI,
        "test_path.py": PATHS,
        "test_wrapped.py": WRAPPED,
        "real/test_linked.py": SIZES.replace("test_sizes", "test_linked"),
        "sized.py": SIZED.format(size=1),
    }
    pytester = project(base, {})
    (pytester.path / "tests").symlink_to("real")
    git(pytester.path, "add", "tests")
    git(pytester.path, "commit", "-m", "a linked folder")
    (pytester.path / "mydata.py").write_text(LOADER.format(pause_s=SLOW))
    (pytester.path / "sized.py").write_text(SIZED.format(size=2))
    seen, kept = tmp_path / "seen", tmp_path / "kept"
    seen.mkdir()
    for name, value in {
        "SEEN": str(seen),
        "PYTEST_ADDOPTS": f"--basetemp={kept}",
        "COVERAGE_PROCESS_START": "no.cfg",
    }.items():
        monkeypatch.setenv(name, value)
    result = pytester.run(  # as the user does it, from a shell
        sys.executable,
        *("-b", "-Xno_debug_ranges", "-Wignore::ImportWarning", "-m", "pytest", *OPTIONS),
        *("-m", "perf", "--mode=fast", f"--pause-file={pytester.path / 'mydata.py'}", "--junitxml=report.xml"),
        *("--durations=3", "-x", "--maxfail=9", "--lf", "test_mydata.py", "test_path.py", "test_wrapped.py", "tests"),
    )
    result.stdout.fnmatch_lines([f"*{FAILED}*"])
    result.assert_outcomes(failed=1, passed=3)
    assert nothing_is_left(pytester)
    pages = {}
    for path in seen.iterdir():
        process, _, test = path.name.partition("-")
        pages.setdefault(test, []).append(json.loads(path.read_text()) | {"process": process})
    assert sorted(pages) == ["test_linked", "test_path", "test_speed", "test_wrapped"]
    for both in pages.values():
        here, there = sorted(both, key=lambda page: ".loaderperf" in page["folder"])
        for name in ("bytes", "xoptions", "warnings", "mode"):
            assert here[name] == there[name], name
        assert here["bytes"] == 1
        assert (here["folder"], here["file"]) == (str(pytester.path), str(pytester.path / "mydata.py"))
        assert Path(there["file"]).parent == Path(there["folder"])
        assert here["tmp"].startswith(str(kept))
        assert not there["tmp"].startswith(str(kept))
        assert not Path(there["tmp"]).exists()
        assert (here["xml"], there["xml"]) == ("report.xml", None)
        assert there["coverage"] is None
    assert len({page["process"] for both in pages.values() for page in both}) == 3  # a new child for the wrapped one
    assert kept.exists()
    assert 'failures="1"' in (pytester.path / "report.xml").read_text()


@pytest.mark.slow
def test_an_ini_file_of_the_command_line_holds_for_the_child(project):
    base = {"sized.py": SIZED.format(size=1), "test_sized.py": SIZES.replace("test_sizes", "perf_sizes")}
    pytester = project(
        base, {"sized.py": SIZED.format(size=2), "bench/bench.ini": "[pytest]\npython_functions = perf_*\n"}
    )
    (pytester.path / "bench" / "here").mkdir()
    run(pytester, "-c", "bench/bench.ini", "--rootdir=.", "test_sized.py").assert_outcomes(passed=1)


@pytest.mark.slow
def test_configuration_that_is_new_does_not_hold_for_the_commit(project):
    base = {"lib/sized.py": SIZED.format(size=1), "tests/test_sized.py": SIZES, "pyproject.toml": "[project]\n"}
    head = {
        "lib/sized.py": SIZED.format(size=2),
        "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["lib"]\ntestpaths = ["tests"]\n',
        "conftest.py": "import sized\n\nassert sized.__file__.startswith(__file__.removesuffix('conftest.py'))\n",
    }
    run(project(base, head)).assert_outcomes(passed=1)


@pytest.mark.slow
def test_pytest_may_be_called_from_outside_of_the_checkout(project, monkeypatch):
    base = {"sized.py": SIZED.format(size=1), "test_sized.py": SIZES, "pytest.ini": "[pytest]\n"}
    pytester = project(base, {"sized.py": SIZED.format(size=2)})
    monkeypatch.chdir(pytester.path.parent)
    run(pytester, f"{pytester.path.name}/test_sized.py").assert_outcomes(passed=1)


CHANGES_ENVIRONMENT = """
import os

if {size}:
    os.environ["SIZE"] = "{size}"

class Loader:
    def __iter__(self):
        return iter([[0] * int(os.environ.get("SIZE", "1"))] * 40)
"""
SETS_ENVIRONMENT = SIZES.replace(
    "def test_sizes(loaderperf):",
    '@pytest.mark.parametrize("sizes", [[3, 3], [2, 1]])\n'
    "def test_sizes(loaderperf, monkeypatch, sizes):\n"
    '    if sizes == [3, 3]:\n        monkeypatch.setenv("SIZE", "3")',
).replace("== [2, 1]", "== sizes")


@pytest.mark.slow
def test_what_the_checkout_does_to_the_environment_does_not_reach_the_commit(project):
    base = {"sized.py": CHANGES_ENVIRONMENT.format(size=0), "test_sized.py": SETS_ENVIRONMENT}
    run(project(base, {"sized.py": CHANGES_ENVIRONMENT.format(size=2)})).assert_outcomes(passed=2)


LEAVES_OUT = """
def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if "ignored" not in item.nodeid]
"""


def test_what_exists_there_and_was_not_collected_is_an_error_and_only_what_does_not_exist_is_new(project):
    cases = TEST.replace(
        "def test_speed(loaderperf)", '@pytest.mark.parametrize("n", {cases})\ndef test_speed(loaderperf, n)'
    ).replace("from mydata", "import pytest\nfrom mydata")
    skipped = 'import pytest\npytest.importorskip("no_such_module")\n'
    base = {
        "mydata.py": LOADER.format(pause_s=FAST),
        "pytest.ini": "[pytest]\npython_functions = test_*\n",
        "test_cases.py": cases.format(cases=["old"]),
        "test_ignored.py": TEST,
        "conftest.py": LEAVES_OUT,
        "test_renamed.py": TEST.replace("def test_speed", "def check_speed"),
        "test_skipped.py": skipped + TEST,
        "test_new.py": "",
    }
    head = {
        "pytest.ini": "[pytest]\npython_functions = test_* check_*\n",
        "test_cases.py": cases.format(cases=["new"]),
        "conftest.py": "",
        "test_skipped.py": TEST,
        "test_new.py": TEST,
    }
    pytester = project(base, head)
    result = run(pytester, "--loaderperf-json=result.json")
    text = result.stdout.str()
    without = json.loads((pytester.path / "result.json").read_text())["without_base"]
    assert sorted(test["is_new"] for test in without) == [False] * 4 + [True]
    assert "test_skipped.py cannot be collected there." in [test["reason"] for test in without]
    for words in (
        "*test_cases.py::test_speed[[]new] exists there but was not collected: it has other*there, test_speed[[]old]*",
        "*test_ignored.py::test_speed exists there but was not collected: its file there defines it*",
        "*test_renamed.py::check_speed exists there but was not collected: its file there defines it*",
        "*test_skipped.py cannot be collected there.",
        "*It was skipped there: *could not import 'no_such_module'*",
        "*SKIPPED*new: no base: HEAD (*) has no test test_new.py::test_speed",
        "1 test has no base: new, the base commit does not have it",
        "4 tests have no base to compare with: nothing protects them*",
    ):
        result.stdout.fnmatch_lines([words])
    assert "pytest_loaderperf/base" not in text, "no traceback of ours"
    result.assert_outcomes(failed=4, skipped=1)


CLAIM = "while True: base.first_batch <= 1e-9 * s"
INTERRUPTED = """
import signal
import pytest
from pytest_loaderperf import s
from mydata import Loader

def strike(*_):
    raise {error}

def test_interrupted(loaderperf):
    signal.signal(signal.SIGALRM, strike)
    run = loaderperf(Loader)
    base = run.base
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    {claim}

def test_next(loaderperf):
    run = loaderperf(Loader)
    assert run.throughput >= 0.5 * run.base.throughput
    assert run.throughput <= 2 * run.base.throughput

def test_slower(loaderperf, slow):
    run = loaderperf(slow)
    assert run.throughput >= 0.5 * run.base.throughput
"""


INTERRUPTS = {
    "time_out": ("pytest.fail.Exception('Timeout >1s')", CLAIM),
    "ctrl_c": ("KeyboardInterrupt", f"with pytest.raises(KeyboardInterrupt):\n        {CLAIM}"),
}


@pytest.mark.slow
def test_an_interrupt_in_mid_claim_leaves_the_next_test_sound(project):
    fixture = """
import pytest
from mydata import Loader

@pytest.fixture
def slow():
    import mydata
    mydata.PAUSE_S = {pause_s}
    yield Loader
    mydata.PAUSE_S = 0.001
"""
    base = {"mydata.py": LOADER.format(pause_s=FAST), "conftest.py": fixture.format(pause_s=FAST)}
    for name, (error, claim) in INTERRUPTS.items():
        base[f"test_{name}.py"] = INTERRUPTED.format(error=error, claim=claim)
    result = run(project(base, {"conftest.py": fixture.format(pause_s=10 * FAST)}), "-v")
    for name, interrupted in {"time_out": "FAILED", "ctrl_c": "PASSED"}.items():
        for test, word in {"interrupted": interrupted, "next": "PASSED", "slower": "FAILED"}.items():
            result.stdout.fnmatch_lines([f"test_{name}.py::test_{test} {word}*"])
    result.assert_outcomes(failed=3, passed=3)


def test_the_error_of_a_shallow_clone_is_one_sentence(project, tmp_path):
    pytester = project(files(FAST), files(SLOW))
    git(pytester.path, "commit", "-am", "more")
    git(pytester.path, "clone", "--depth=1", f"file://{pytester.path}", str(tmp_path / "clone"))
    clone = tmp_path / "clone"
    result = run(pytester, "--loaderperf-base=HEAD~1", str(clone), f"--rootdir={clone}")
    error = result.stdout.get_lines_after("*_ test_speed _*")[0]
    assert error.startswith(
        "--loaderperf-base: expected a commit, branch or tag, but this clone is shallow and has no 'HEAD~1'"
    )
    assert "Traceback" not in result.stdout.str()
    assert "worktree.py" not in result.stdout.str()
    result.assert_outcomes(failed=1)
