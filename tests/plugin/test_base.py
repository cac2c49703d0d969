"""``run.base``: the same test at another commit, in a child process, in the same run."""

from __future__ import annotations

import json
import subprocess
from fnmatch import fnmatch

import pytest

from pytest_loaderperf.remote.worktree import BaseError, Worktree

LOADER = """
import time

PAUSE_S = {pause_s}

class Loader:
    def __iter__(self):
        for _ in range(200):
            time.sleep(PAUSE_S)
            yield [0, 1]
"""
TEST = """
from mydata import Loader

def test_speed(loaderperf):
    run = loaderperf(Loader)
    assert run.throughput >= 0.9 * run.base.throughput
"""
SLOW, FAST = 0.004, 0.001


def git(folder, *arguments):
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def project(pytester, quick_children):
    """A repository of a loader and its test, committed with files of ``base``; then ``head`` is written over them."""

    def make(base, head):
        for files in (base, head):
            for name, text in files.items():
                path = pytester.path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            if files is base:
                git(pytester.path, "init")
                git(pytester.path, "add", ".")
                git(pytester.path, "commit", "-m", "base")
        return pytester

    return make


def run(pytester, *arguments, base="HEAD"):
    named = [f"--loaderperf-base={base}"] if base is not None else []
    return pytester.runpytest_subprocess(
        "--loaderperf",
        *named,
        "--loaderperf-budget=20",
        "--loaderperf-alpha=0.1",
        "-p",
        "no:cacheprovider",
        "-rs",
        *arguments,
    )


def nothing_is_left(pytester):
    left = list((pytester.path / ".loaderperf").glob("base-*"))
    return not left and len(git(pytester.path, "worktree", "list").splitlines()) == 1


def files(pause_s, test=TEST):
    return {"mydata.py": LOADER.format(pause_s=pause_s), "test_mydata.py": test}


EPOCH = """
import time

class Batch:
    shape = (2, 8)

    @property
    def rows(self):
        time.sleep({pause_s})

class Loader:
    def __iter__(self):
        yield from [Batch() for _ in range(20)]
"""
WORK = """
class Loader:
    def __iter__(self):
        for _ in range(200):
            yield [self.make() for _ in range(8)]

    def make(self):
        total = 0
        for number in range(100):
            total += number
        return total
"""
CONFTEST = """
import sys, threading
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "src"))

@pytest.fixture
def make_loader():
    from mypkg.mydata import Loader
    import mypkg.mydata
    mypkg.mydata.PAUSE_S = {pause_s}
    return lambda times: Loader()

def trace(frame, event, arg):
    for _ in range(2_000 * ("mywork" in frame.f_code.co_filename)):
        pass
    return trace

def pytest_runtest_call(item):
    if "traced" in item.nodeid and ".loaderperf" not in __file__:
        sys.settrace(trace)
        threading.settrace(trace)

def pytest_runtest_teardown(item):
    if "traced" in item.nodeid:
        assert sys.gettrace() is (None if ".loaderperf" in __file__ else trace)
        sys.settrace(None)
        threading.settrace(None)
"""
TESTS = {
    "test_slower.py": TEST.replace("mydata", "slower"),
    "test_faster.py": TEST.replace("mydata", "faster"),
    "test_epoch.py": """
from epoch import Loader

def test_epoch(loaderperf):
    run = loaderperf(Loader, touch=lambda batch: batch.rows)
    assert run.base.epoch.value >= 20 * 0.004
    assert run.epoch_throughput >= 1.5 * run.base.epoch_throughput
""",
    "tests/test_parameters.py": """
import pytest

@pytest.mark.parametrize("times", [1, 2])
def test_speed(loaderperf, make_loader, times):
    run = loaderperf(lambda: make_loader(times))
    assert run.throughput <= 0.5 * run.base.throughput
""",
    "test_second.py": """
from second import Loader

def slow():
    import second
    second.PAUSE_S = {pause_s}
    return Loader()

def test_speed(loaderperf):
    first = loaderperf(Loader)
    assert first.throughput >= 1
    second = loaderperf(slow)
    assert second.throughput >= 2 * second.base.throughput
""",
    "test_calls.py": """
import pytest
from pytest_loaderperf import s
from same import Loader

def test_speed(loaderperf):
    run = loaderperf(Loader)
    assert run.throughput >= 0.5 * run.base.throughput
    other = loaderperf(Loader)
    assert other.throughput >= 0.5 * other.base.throughput
    with pytest.raises(Exception, match="was released when another run needed its own"):
        run.base.epoch_exit <= 5 * s
""",
    "test_order.py": """
import time
import pytest
from same import Loader

class Slow:
    def __iter__(self):
        for batch in Loader():
            time.sleep(0.01)
            yield batch

def quick():
    return Loader()

def other():
    return Loader()

def test_order(loaderperf):
    for make in [quick, Slow][::{pause_s}]:
        run = loaderperf(make)
        assert 0.3 * run.base.throughput <= run.throughput
        assert 0.3 * run.throughput <= run.base.throughput

def test_replaced(loaderperf):
    first, second = [quick, Slow if {pause_s} < 0 else other][::{pause_s}]
    assert loaderperf(first).base.throughput >= 1
    with pytest.raises(Exception, match="(?s)calls loaderperf.other. here.*its call 2 there is loaderperf.quick."):
        loaderperf(second).base
""",
    "test_caught.py": """
import pytest
from same import Loader

def test_speed(loaderperf):
    for _ in range(2):
        try:  # as subtests do
            run = loaderperf(Loader)
            assert run.throughput >= 0.5 * run.base.throughput
        except pytest.skip.Exception:
            continue
""",
    "test_numbers.py": """
import json, math
from slower import Loader

def test_speed(loaderperf):
    first = loaderperf(Loader)
    limit = 0.5 * float(first.throughput)
    print(f"{first.throughput.value:.3f} {first.throughput} {round(first.throughput.value, 2)}")
    assert int(float(first.throughput)) > 0 and math.isfinite(limit) and first.throughput.value + 1 > limit
    assert not first.verdicts
    json.dumps({"n": first.throughput.value})
    second = loaderperf(Loader)
    assert second.throughput <= 0.9 * second.base.throughput
""",
    "test_traced.py": TEST.replace("mydata", "mywork").replace("0.9", "0.5"),
    "test_untracked.py": """
from pathlib import Path
from slower import Loader

def test_speed(loaderperf):
    assert Path("data/numbers.txt").read_text() == "1"
    run = loaderperf(Loader)
    assert run.throughput >= 0.9 * run.base.throughput
""",
}


@pytest.fixture
def session(project, kept):
    """Of all these tests: what it printed, its result, the commit, and whether it left nothing behind."""
    if "session" not in kept:
        changed = {
            "slower.py": (LOADER, FAST, SLOW),
            "faster.py": (LOADER, SLOW, FAST),
            "epoch.py": (EPOCH, SLOW, FAST),
            "test_second.py": (TESTS["test_second.py"], 5 * SLOW, FAST),
            "test_order.py": (TESTS["test_order.py"], -1, 1),
        }
        base = {name: text.format(pause_s=before) for name, (text, before, _) in changed.items()}
        head = {name: text.format(pause_s=after) for name, (text, _, after) in changed.items()}
        same = {
            "same.py": LOADER.format(pause_s=FAST),
            "second.py": LOADER.format(pause_s=FAST),
            "mywork.py": WORK,
            "src/mypkg/__init__.py": "",
            "src/mypkg/mydata.py": LOADER.format(pause_s=0),
            ".gitignore": "data/\n",
            "conftest.py": CONFTEST.replace("{pause_s}", str(FAST)),
        }
        head |= {
            "conftest.py": CONFTEST.replace("{pause_s}", str(SLOW)),
            "data/numbers.txt": "1",
            "test_slower.py": TESTS["test_slower.py"] + TESTS["test_slower.py"].replace("test_speed", "test_other"),
            "test_new.py": TESTS["test_slower.py"],
        }
        pytester = project(TESTS | same | base, head)
        result = run(pytester, "-v", "--loaderperf-json=result.json")
        document = json.loads((pytester.path / "result.json").read_text())
        kept["session"] = result, document, git(pytester.path, "rev-parse", "HEAD"), nothing_is_left(pytester)
    return kept["session"]


def outcome(session, nodeid):
    """Of a test, and the verdicts of its claims that name the base."""
    lines = [line.split() for line in session[0].outlines if line.startswith(f"{nodeid} ")]
    (word,) = [line[1] for line in lines if line[1].isupper()]
    claims = [claim for run in session[1]["runs"] if run["nodeid"].startswith(nodeid) for claim in run["claims"]]
    return word, [claim["verdict"] for claim in claims if "base." in claim["claim"]]


@pytest.mark.parametrize(
    "name, word, outcome_word", [("slower", "FAIL", "FAILED"), ("faster", "PASS", "PASSED")], ids=["slower", "faster"]
)
def test_uncommitted_changes_are_held_against_the_commit(session, name, word, outcome_word):
    result, document, commit, left_nothing = session
    assert outcome(session, f"test_{name}.py::test_speed") == (outcome_word, [word])
    result.stdout.fnmatch_lines([f"*{word}  throughput >= 0.9 * base.throughput*"])
    assert result.ret == 1
    assert document["base_commit"] == commit
    result.stdout.no_fnmatch_line("*both sides are the same code")
    (measured,) = [run for run in document["runs"] if run["nodeid"] == f"test_{name}.py::test_speed"]
    assert (measured["metrics"]["base_ratio"]["value"] < 1) == (word == "FAIL")
    assert left_nothing


def test_whole_epochs_are_held_against_the_commit_and_touch_reads_batches_there_too(session):
    assert outcome(session, "test_epoch.py::test_epoch") == ("PASSED", ["PASS"])


def test_a_test_or_a_file_that_the_commit_lacks_is_new_and_no_failure(session):
    for nodeid in ("test_slower.py::test_other", "test_new.py::test_speed"):
        assert outcome(session, nodeid) == ("SKIPPED", [])
        session[0].stdout.fnmatch_lines([f"*new: no base: HEAD (*) has no test {nodeid}"])


@pytest.mark.parametrize("times", [1, 2])
def test_fixtures_parameters_and_a_source_folder_are_those_of_the_commit(session, times):
    assert outcome(session, f"tests/test_parameters.py::test_speed[{times}]") == ("PASSED", ["PASS"])


def test_the_second_call_of_a_test_is_paired_with_the_second(session):
    assert outcome(session, "test_second.py::test_speed") == ("PASSED", ["PASS"])


def test_each_call_of_a_test_has_its_base(session):
    assert outcome(session, "test_calls.py::test_speed") == ("PASSED", ["PASS", "PASS"])


def test_calls_in_another_order_are_paired_by_their_factories_and_never_with_another_one(session):
    assert outcome(session, "test_order.py::test_order") == ("PASSED", ["PASS"] * 4)
    assert outcome(session, "test_order.py::test_replaced")[0] == "PASSED"


def test_a_test_that_goes_on_after_its_call_at_the_commit_is_measured_as_any_other(session):
    assert outcome(session, "test_caught.py::test_speed") == ("PASSED", ["PASS", "PASS"])


def test_values_of_earlier_calls_can_be_used_as_numbers(session):
    assert outcome(session, "test_numbers.py::test_speed") == ("PASSED", ["PASS"])


def test_a_tracer_of_this_process_alone_strikes_neither_side(session):
    assert outcome(session, "test_traced.py::test_speed") == ("PASSED", ["PASS"])


def test_data_that_git_does_not_track_are_found(session):
    assert outcome(session, "test_untracked.py::test_speed") == ("FAILED", ["FAIL"])


def test_without_a_commit_to_pair_with_or_with_one_that_is_not_there_nothing_is_compared(project):
    marked = TEST.replace("def test_speed", "import pytest\n\n@pytest.mark.loaderperf(base='no-such')\ndef test_marked")
    result = run(project(files(FAST, TEST + marked), {}), base=None)
    result.stdout.fnmatch_lines(["*run.base needs a commit to compare with: --loaderperf-base=REF"])
    result.stdout.fnmatch_lines(
        ["*--loaderperf-base: expected a commit, branch or tag, got 'no-such', which is none here.*"]
    )
    result.assert_outcomes(skipped=1, failed=1)


def test_a_base_that_is_what_is_checked_out_is_told(project):
    pytester = project(files(FAST, TEST.replace(">= 0.9", ">= 0.1")), {"untracked.txt": ""})
    result = run(pytester)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["no tracked file differs from the base, HEAD (*): both sides are the same code"])


BROKEN = {  # the loader and the test at the commit (None: whole ones), and what is said of it
    "does_not_import": ("import no_such_module\n", None, "*test_does_not_import.py cannot be collected there.*"),
    "fails_before_its_loader": (
        None,
        TEST.replace("    run =", "    raise ValueError('once broken')\n    run ="),
        "*ended without calling loaderperf(...) at all.*",
    ),
    "has_a_factory_that_raises": (
        "def Loader():\n    raise ValueError('once broken')\n",
        None,
        "*factory Loader() raised ValueError: once broken*",
    ),
    "hangs": (
        "import time\ndef Loader():\n    time.sleep(600)\n",
        None,
        "*the loader hangs: got nothing for 2 s in stage 'base: building the loader'*",
    ),
    "gives_one_batch": (
        "class Loader:\n    def __iter__(self):\n        yield [0, 1]\n",
        None,
        "*the base loader at HEAD (*) gives 1 batch an epoch*",
    ),
    "dies_while_it_is_imported": ("import os\nos._exit(7)\n", None, "*its process ended (status 7) before*"),
    "has_modules_of_the_checkout": (
        None,
        "import sys\nsys.path.insert(0, {top!r})\nsys.modules.pop('mydata', None)" + TEST,
        "*1 modules do not come from the other commit's files*has_modules_of_the_checkout from*",
    ),
    "skips_itself": (
        None,
        TEST.replace("    run =", "    __import__('pytest').skip('no such data')\n    run ="),
        "*It was skipped there: *no such data*",
    ),
    "prints_garbage_and_dies": (
        "import os\nos.write(1, bytes(range(256)))\ndef Loader():\n    os._exit(8)\n",
        None,
        "*its process ended (status 8) before*",
    ),
}
DEADLY = ["dies_while_it_is_imported", "has_modules_of_the_checkout"]  # for others that the same child has collected


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(["does_not_import", "gives_one_batch"], id="some"),
        pytest.param(DEADLY, id="dies", marks=pytest.mark.slow),
        pytest.param([name for name in BROKEN if name not in DEADLY], id="others", marks=pytest.mark.slow),
    ],
)
def test_each_test_that_is_broken_at_the_commit_is_an_error_that_names_it_and_the_others_go_on(
    project, pytester, broken
):
    whole = LOADER.format(pause_s=FAST)
    base, head = {"pytest.ini": "[pytest]\nloaderperf_timeout = 2\n"}, {}
    broken = {name: BROKEN[name] for name in broken}
    for name, (loader, test, _) in {**broken, "other": (LOADER.format(pause_s=SLOW), None, "")}.items():
        base[f"{name}.py"], base[f"test_{name}.py"] = loader or whole, (test or TEST).replace("mydata", name)
        base[f"test_{name}.py"] = base[f"test_{name}.py"].replace("{top!r}", repr(str(pytester.path)))
        head[f"{name}.py"], head[f"test_{name}.py"] = whole, TEST.replace("mydata", name)
    pytester = project(base, head)
    result = run(pytester)
    for _, _, words in broken.values():
        result.stdout.fnmatch_lines([words])
    assert result.stdout.str().count("HEAD (") >= len(broken)
    result.assert_outcomes(failed=len(broken), passed=1)
    assert nothing_is_left(pytester)


@pytest.mark.parametrize(
    "ref, words",
    [
        (
            "no-such",
            "--loaderperf-base: expected a commit, branch or tag, got 'no-such', which is none here. See `git branch*",
        ),
        ("origin/main", "*Fetch it first: `git fetch origin main`."),
        ("--upload-pack=x", "*got '--upload-pack=x', which is none here*"),
        ("", "*got '', which is none here. Is a variable empty that should name it?"),
    ],
)
def test_a_commit_that_is_not_there_is_an_error_that_says_what_to_do(project, ref, words):
    with pytest.raises(BaseError) as caught:
        Worktree(ref, project(files(FAST), {}).path)
    assert fnmatch(str(caught.value), f"*{words}*")


class TestWorktree:
    def test_a_shallow_clone_is_told_how_to_fetch(self, project, tmp_path):
        source = project(files(FAST), files(SLOW)).path
        git(source, "commit", "-am", "more")
        git(tmp_path, "clone", "--depth=1", f"file://{source}", "clone")
        for ref in ("HEAD~1", "0123456789abcdef0123456789abcdef01234567", "origin/other"):
            with pytest.raises(BaseError, match=r"this clone is shallow and has no '.*': fetch .*--unshallow`"):
                Worktree(ref, tmp_path / "clone")

    def test_outside_a_repository_there_is_nothing_to_compare_with(self, tmp_path):
        with pytest.raises(BaseError, match=r"needs the checkout of a git repository, but git finds none"):
            Worktree("HEAD", tmp_path)

    def test_a_checkout_of_another_user_is_told_how_to_trust_it(self, project, monkeypatch):
        top = project(files(FAST), {}).path
        monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own tests use it
        with pytest.raises(BaseError) as caught:
            Worktree("HEAD", top)
        assert str(caught.value) == (
            f"comparing with 'HEAD': git refuses the checkout around {top}, because another user owns it. "
            f"Trust it, `git config --global --add safe.directory {top}`, or run as its owner."
        )

    def test_without_git_it_says_so(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(BaseError, match=r"needs git, but there is none on the PATH\. Install git\."):
            Worktree("HEAD", tmp_path)

    def test_it_may_be_closed_twice_and_leaves_nothing(self, project):
        path = project(files(FAST), {}).path
        made = Worktree("HEAD", path)
        assert made.path.exists()
        made.close()
        made.close()
        assert not made.path.exists()
        assert git(path, "status", "--porcelain") == ""

    def test_a_checkout_that_cannot_be_written_is_an_error(self, project):
        path = project(files(FAST), {}).path
        (path / ".loaderperf").write_text("in the way")
        with pytest.raises(BaseError, match=r"which cannot be written \(.*\)\. Run in a checkout"):
            Worktree("HEAD", path)

    def test_a_locked_index_does_not_matter(self, project):
        path = project(files(FAST), {}).path
        (path / ".git" / "index.lock").write_text("")
        made = Worktree("HEAD", path)
        assert (made.path / "mydata.py").exists()
        made.close()

    def test_a_repository_without_commits_says_so(self, tmp_path):
        git(tmp_path, "init")
        with pytest.raises(BaseError, match=r"'HEAD', which is none here\. This repository has no commits yet"):
            Worktree("HEAD", tmp_path)

    def test_two_of_one_commit_do_not_meet(self, project):
        path = project(files(FAST), {}).path
        first, second = Worktree("HEAD", path), Worktree("HEAD", path)
        second.close()
        assert (first.path / "mydata.py").exists()
        first.close()

    def test_worktrees_of_the_user_that_cannot_be_seen_now_are_not_forgotten(self, project, tmp_path):
        path = project(files(FAST), {}).path
        git(path, "worktree", "add", "--detach", str(tmp_path / "theirs"), "HEAD")
        (tmp_path / "theirs").rename(tmp_path / "unmounted")
        Worktree("HEAD", path).close()
        assert "theirs" in git(path, "worktree", "list")

    def test_hooks_of_the_user_are_not_run(self, project):
        path = project(files(FAST), {}).path
        hook = path / ".git" / "hooks" / "post-checkout"
        hook.parent.mkdir(exist_ok=True)
        hook.write_text("#!/bin/sh\nexit 1\n")
        hook.chmod(0o755)
        made = Worktree("HEAD", path)
        assert (made.path / "mydata.py").exists()
        made.close()

    def test_a_submodule_is_that_of_the_commit(self, project, tmp_path):
        allowed = ["-c", "protocol.file.allow=always"]
        path = project(files(FAST), {}).path
        git(tmp_path, "init", "part")
        (tmp_path / "part" / "age.txt").write_text("old")
        git(tmp_path / "part", "add", ".")
        git(tmp_path / "part", "commit", "-m", "old")
        git(path, *allowed, "submodule", "add", str(tmp_path / "part"), "part")
        git(path, "commit", "-m", "a submodule")
        (path / "part" / "age.txt").write_text("new")
        git(path / "part", "commit", "-am", "new")
        made = Worktree("HEAD", path)
        assert (made.path / "part" / "age.txt").read_text() == "old"
        made.close()
        assert not made.path.exists()
        assert len(git(path / "part", "worktree", "list").splitlines()) == 1
