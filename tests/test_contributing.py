"""CONTRIBUTING.md names what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
FOLDERS = ("", "pytest_loaderperf/data/formats", "tests/data/formats")  # where a name without a folder may lie


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w./-]+(?:\.(?:py|md|toml|txt)|/))`", TEXT))))
def test_a_file_that_it_names_exists(name):
    assert any((ROOT / folder / name).exists() for folder in FOLDERS)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([\w-]+)", TEXT))))
def test_a_target_that_it_names_exists(target):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
