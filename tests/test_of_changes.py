"""Which tests belong to a changed file."""

from __future__ import annotations

import pytest

from tests.of_changes import OTHERS, ROOT, mirrored_tests

FILES = (
    "conftest.py",
    "test_units.py",
    "data/test_split.py",
    "data/formats/kinds.py",
    "data/formats/test_npy.py",
    "data/formats/test_npy_names.py",
    "data/formats/test_types.py",
    "data/stores/test_choice.py",
    "data/workloads/test_spec.py",
    "plugin/test_readme.py",
    "suites/test_mutants.py",
)
FORMATS = [name for name in FILES if name.startswith("data/formats/test_")]
DATA = sorted(name for name in FILES if name.startswith("data/") and "/test_" in name)


@pytest.fixture(scope="module")
def tests(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tests")
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    "path, near, around",
    [
        ("pytest_loaderperf/data/formats/npy.py", FORMATS[:2], FORMATS),
        ("pytest_loaderperf/data/formats/csv.py", [], FORMATS),
        ("pytest_loaderperf/data/choice.py", ["data/stores/test_choice.py"], DATA),
        ("pytest_loaderperf/data/arrow/lists.py", [], DATA),
        ("pytest_loaderperf/units.py", ["test_units.py"], []),
        ("pytest_loaderperf/defaults.py", [], []),
        ("pytest_loaderperf/choice.py", [], []),
        ("tests/data/formats/test_types.py", ["data/formats/test_types.py"], FORMATS),
        ("tests/data/formats/kinds.py", [], FORMATS),
        ("tests/data/formats/test_that_was_deleted.py", [], FORMATS),
        ("tests/test_units.py", ["test_units.py"], []),
        ("tests/units.py", ["test_units.py"], []),
        ("tests/conftest.py", [], []),
        ("suites/mutants/pool.py", [], ["suites/test_mutants.py"]),
        ("fixtures/workloads/digits.toml", [], ["data/workloads/test_spec.py"]),
        ("README.md", ["plugin/test_readme.py"], []),
        ("docs/formats.md", [], []),
        ("pyproject.toml", [], []),
    ],
)
def test_a_changed_file_has_the_tests_of_its_name_and_of_its_folder(tests, path, near, around):
    found = mirrored_tests(path, tests)
    assert [[at.relative_to(tests).as_posix() for at in files] for files in found] == [near, around]


@pytest.mark.parametrize("path, target", OTHERS.items())
def test_what_is_no_code_has_tests_that_exist(path, target):
    assert (ROOT / path).exists()
    assert (ROOT / "tests" / target).exists()
