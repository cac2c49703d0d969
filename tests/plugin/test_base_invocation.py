"""How the child's pytest is called, which tests count as missing, and what stands for a run there."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_loaderperf.plugin.base_child import Anything, _argument
from pytest_loaderperf.plugin.base_missing import why_missing
from pytest_loaderperf.plugin.base_modules import untracked
from pytest_loaderperf.remote.invocation import Invocation, Places, environment, interpreter_options, neutral


@pytest.fixture
def places(tmp_path):
    """A checkout with its worktree, each with a file ``both``, and one with a file that the other lacks."""
    top, there = tmp_path / "repo", tmp_path / "repo" / ".loaderperf" / "base"
    there.mkdir(parents=True)
    for path in (top / "both", there / "both", top / "head"):
        path.touch()
    (tmp_path / "linked").symlink_to(top)
    return Places(top, there, [tmp_path / "linked" / "tests"])


class TestPlaces:
    def test_a_path_in_the_checkout_has_its_place_in_the_worktree_by_whatever_name_and_with_its_links(self, places):
        (places.top / "tests").symlink_to("elsewhere")
        assert places.path(places.top / "tests" / "a.py") == places.there / "tests" / "a.py"
        assert places.path(places.top.parent / "linked" / "a.py") == places.there / "a.py"
        assert places.path(places.top.parent / "a.py") is None

    @pytest.mark.parametrize(
        "text, moved",
        [
            ("{top}/both", "{there}/both"),
            ("--file={top}/both", "{there}/both"),
            ("a={top}/both,b={top}/neither;c", "b={there}/neither;c"),
            ("{top}/both::test_it[1]", "{there}/both::test_it[1]"),
            ("{top}", "{there}"),
        ],
    )
    def test_text_with_the_checkouts_paths_leads_into_the_worktree(self, places, text, moved):
        assert places.text(text.format(top=places.top)).endswith(moved.format(there=places.there))

    @pytest.mark.parametrize("text", ["{top}/head", "{top}2/both", "/x{top}/both", "perf and not slow", "both"])
    def test_all_else_stays_as_does_what_the_commit_lacks(self, places, text):
        assert places.text(text.format(top=places.top)) == text.format(top=places.top)

    def test_ids_do_not_tell_the_checkout_from_the_worktree(self, places):
        here = [neutral(f"test[{folder}/a.txt]", places.spelled) for folder in (places.top, places.there)]
        assert here == ["test[<checkout>/a.txt]"] * 2


def config_of(places, arguments, **options):
    options = {"importmode": "importlib", "inifilename": None, "capture": "fd", "inipath": None, **options}
    return SimpleNamespace(
        invocation_params=SimpleNamespace(args=arguments, plugins=("myplugin", object()), dir=places.top),
        rootpath=places.top,
        inipath=options.pop("inipath"),
        getoption=options.__getitem__,
        pluginmanager=SimpleNamespace(has_plugin=lambda name: True),
    )


def test_the_childs_command_is_that_of_the_run(places, tmp_path):
    given = [
        "-m",
        "perf",
        f"--data={places.top}/both",
        "--debug",
        "--debug=x.log",
        "--benchmark-json=x",
        places.top / "both",
        "--",
        "a.py",
    ]
    command = Invocation.of(config_of(places, given), {}, device="cpu", timeout_seconds=5.0).command(places, tmp_path)
    options = command[command.index("pytest_loaderperf.plugin.base_child") + 1 :]
    assert options[:5] == ["-pmyplugin", "-m", "perf", f"--data={places.there}/both", str(places.there / "both")]
    assert options[-2:] == ["--", "a.py"]
    own = {"--loaderperf", "--import-mode=importlib", "--loaderperf-device=cpu", f"--rootdir={places.there}"}
    assert own < set(options[5:-2])
    assert f"--override-ini=cache_dir={tmp_path}/cache" in options
    assert not [option for option in options if "debug" in option or "benchmark" in option]


def test_an_ini_file_that_the_commit_lacks_is_brought_there(places, tmp_path):
    (places.top / "bench.ini").write_text("[pytest]")
    made = Invocation.of(config_of(places, [], inifilename="bench.ini"), {}, device="cpu", timeout_seconds=5.0)
    command = made.command(places, tmp_path)
    assert command[-3:] == ["-c", str(places.there / "bench.ini"), f"--confcutdir={places.there}"]
    assert (places.there / "bench.ini").read_text() == "[pytest]"


@pytest.mark.parametrize(
    "there, given, cut",
    [
        ({}, [], True),
        ({"pyproject.toml": "[project]", "setup.cfg": "[metadata]", "tox.ini": "[testenv]"}, [], True),
        ({}, ["--confcutdir=tests"], False),
    ],
)
def test_the_checkouts_ini_file_is_not_that_of_a_commit_without_one(places, tmp_path, there, given, cut):
    for name, text in there.items():
        (places.there / name).write_text(text)
    config = config_of(places, given, inipath=places.top / "pytest.ini")
    command = Invocation.of(config, {}, device="cpu", timeout_seconds=5.0).command(places, tmp_path)
    empty = tmp_path / "pytest.ini"
    assert command[command.index("-c") + 1] == str(empty)
    assert empty.read_text() == "[pytest]\n"
    assert (f"--confcutdir={places.there}" in command) == cut


@pytest.mark.parametrize(
    "name, text, given",
    [
        ("pytest.ini", "", []),
        ("pyproject.toml", "[tool.pytest.ini_options]", []),
        ("tox.ini", "[pytest]", []),
        ("setup.cfg", "[tool:pytest]", []),
        ("deep/tests/pytest.ini", "", ["-q", "deep/tests/test_a.py::test_it"]),
    ],
)
def test_a_commits_own_ini_file_is_found_by_pytest(places, tmp_path, name, text, given):
    (places.there / name).parent.mkdir(parents=True, exist_ok=True)
    (places.there / name).write_text(text)
    config = config_of(places, given, inipath=places.top / "pytest.ini")
    command = Invocation.of(config, {}, device="cpu", timeout_seconds=5.0).command(places, tmp_path)
    assert not [option for option in command if option == "-c" or "confcutdir" in option]


@pytest.mark.parametrize("given", ["found", "named"])
def test_with_an_ini_file_above_the_checkout_no_conftest_of_the_checkout_is_the_commits(places, tmp_path, given):
    outer = places.top.parent / "tox.ini"
    outer.write_text("[pytest]")
    config = config_of(places, [], inipath=outer, inifilename=str(outer) if given == "named" else None)
    command = Invocation.of(config, {}, device="cpu", timeout_seconds=5.0).command(places, tmp_path)
    assert f"--confcutdir={places.there}" in command
    assert ("-c" in command) == (given == "named")


def test_options_of_the_interpreter_are_told_as_it_takes_them(monkeypatch):
    flags = dict.fromkeys(("debug", "dont_write_bytecode", "no_user_site", "no_site", "verbose", "bytes_warning"), 0)
    monkeypatch.setattr(sys, "flags", SimpleNamespace(**{**flags, "optimize": 2, "dont_write_bytecode": 1}))
    monkeypatch.setattr(sys, "_xoptions", {"dev": True, "pycache_prefix": "/x"})
    monkeypatch.setattr(sys, "warnoptions", ["error::ImportWarning"])
    assert interpreter_options() == ["-OO", "-B", "-Xdev", "-Xpycache_prefix=/x", "-Werror::ImportWarning"]


def test_the_childs_environment_starts_no_coverage_and_names_no_report(places, monkeypatch):
    given = {"COV_CORE_SOURCE": "x", "GITHUB_STEP_SUMMARY": "x", "PYTEST_ADDOPTS": f"-q {places.top}/both", "MINE": "1"}
    made = environment(given, places, ["a", "b"])
    assert "COV_CORE_SOURCE" not in made
    assert "GITHUB_STEP_SUMMARY" not in made
    assert (made["PYTEST_ADDOPTS"], made["MINE"], made["PYTHONPATH"]) == (f"-q {places.there}/both", "1", "a:b")


SOURCE = """
import pytest
from helpers import test_imported
if pytest:
    def test_defined(): pass
class TestIt:
    def test_inside(self): pass
test_made = lambda: None
"""


class TestMissing:
    @pytest.mark.parametrize(
        "inside, words",
        [
            ("test_defined", "its file there defines it"),
            ("test_imported", "its file there defines it"),
            ("test_made[1]", "its file there defines it"),
            ("TestIt::test_inside", "its file there defines it"),
            ("test_cases[3]", "it has other cases there, test_cases[1], test_cases[2]. A new case of an old test"),
            ("test_marked[1]", "it was deselected there"),
            ("test_added", ""),
            ("TestIt::test_added", ""),
            ("TestOther::test_added", ""),
        ],
    )
    def test_what_exists_is_told_from_what_is_new(self, tmp_path, inside, words):
        file = tmp_path / "test_some.py"
        file.write_text(SOURCE)
        why = why_missing(file, inside, ["test_cases[2]", "test_cases[1]"], ["test_marked[1]"])
        assert why.startswith(words)
        assert bool(why) == bool(words)

    @pytest.mark.parametrize("source", ["from helpers import *\n", "def broken(:\n"])
    def test_what_cannot_be_told_is_not_new(self, tmp_path, source):
        (tmp_path / "test_some.py").write_text(source)
        assert why_missing(tmp_path / "test_some.py", "test_it", [], [])

    def test_a_module_that_was_imported_knows_what_it_inherits(self, tmp_path, monkeypatch):
        file = tmp_path / "test_some_imported.py"
        file.write_text("from helpers import *\nclass TestIt(Base): pass\n")
        base = type("Base", (), {"test_inherited": None.__init__})
        module = SimpleNamespace(__file__=str(file), TestIt=type("TestIt", (base,), {}))
        monkeypatch.setitem(sys.modules, "test_some_imported", module)
        assert why_missing(file, "TestIt::test_inherited", [], [])
        assert not why_missing(file, "TestIt::test_added", [], [])


@pytest.mark.parametrize(
    "error, words",
    [
        (
            "No module named 'mypkg._fast'",
            "has mypkg._fast (src/mypkg/_fast.so), the commit has not: code that git does",
        ),
        ("cannot import name '_version' from 'mypkg' (/x)", "has mypkg._version (src/mypkg/_version.py), the commit"),
        ("No module named 'mypkg.made'", "has mypkg.made (src/mypkg/made/a.py), the commit"),
        ("No module named 'mypkg.data'", ""),
        ("No module named 'no_such'", ""),
    ],
)
def test_a_module_that_only_the_checkout_has_is_named(tmp_path, monkeypatch, error, words):
    there = tmp_path / ".loaderperf" / "base"
    for name in ("_fast.so", "_version.py", "made/a.py", "data/a.bin"):
        file = tmp_path / "src" / "mypkg" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    monkeypatch.setattr(sys, "path", [str(there / "src"), str(tmp_path / "elsewhere")])
    said = untracked(f"E   ImportError: {error}", tmp_path, there)
    assert words in said
    assert bool(said) == bool(words)


@pytest.mark.parametrize(
    "file, argument",
    [("/my [repo]/tests/test_a.py", "tests/test_a.py"), ("/elsewhere/test_a.py", "/elsewhere/test_a.py")],
)
def test_files_are_named_from_where_the_child_starts(file, argument):
    """pytest takes a bracket in any folder for the beginning of a parameter."""
    assert _argument(Path(file), Path("/my [repo]")) == argument


def test_a_run_that_is_not_served_gives_numbers_and_holds_every_claim():
    run = Anything(1.0)
    assert run.throughput >= 1e9
    assert run.batch_latency.p99 <= 0
    assert 0.9 * run.base.throughput <= run.against["x"].throughput
    assert (float(run.throughput), int(run.throughput.value), math.floor(run.throughput)) == (1.0, 1, 1)
    assert [10, 20][run.throughput] == 20
    assert f"{run.throughput:.2f} {run.throughput} {round(run.throughput.value, 2)}" == "1.00 1.0 1.0"
    assert json.loads(json.dumps({"n": run.throughput.value})) == {"n": 1.0}
    assert not run.findings
    assert not run.leaks
    assert run.files_opened == 1
    assert not run.diagnosis.executors_made
    assert list(run.verdicts) == []
    assert not hasattr(run, "__array__")
    with run as same:
        assert same is run
