"""The table of docs/reference-loader.md names every test of this folder, and no other."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parents[2] / "docs" / "reference-loader.md"


def named():
    for line in DOCS.read_text("utf-8").splitlines():
        file = ""
        for found, test in re.findall(r"`(\w*)::(\w+)`", line):
            file = found or file  # `::test` is of the file named before it
            yield file, test


def test_the_table_names_the_tests_of_this_folder():
    tests = {
        (path.stem.removeprefix("test_"), name)
        for path in HERE.glob("test_*.py")
        for name in re.findall(r"^def test_(\w+)", path.read_text("utf-8"), re.MULTILINE)
        if path != Path(__file__)
    }
    assert set(named()) == tests
