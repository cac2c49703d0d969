from __future__ import annotations

from pathlib import Path

import pytest

from pytest_loaderperf.data.checks.findings import CheckResult, Problem
from pytest_loaderperf.data.workloads.make import Known, Listed, Made
from pytest_loaderperf.report import check_lines, format_lines, made_line, workload_lines


def result(**changes):
    fields = {
        "path": "data",
        "kind": "images",
        "total": 8,
        "checked": 8,
        "found": 0,
        "problems": (),
        "stopped_early": False,
        "shape": None,
        "dtype": None,
    }
    return CheckResult(**fields | changes)


@pytest.mark.parametrize(
    "changes, last",
    [
        ({}, "data: 8 images checked, no problems"),
        ({"kind": "parquet", "found": 1}, "data: 8 rows checked, 1 problem"),
        ({"shape": (4, 4), "dtype": "uint8"}, "data: 8 images of (4, 4) uint8 checked, no problems"),
        (
            {"checked": 3, "found": 2, "stopped_early": True},
            "data: 3 of 8 images checked, 2 problems; stopped there (--max-errors)",
        ),
    ],
)
def test_the_last_line_of_a_check_tells_what_was_checked(changes, last):
    assert check_lines(result(**changes))[-1] == last


def test_problems_are_lines_and_what_was_not_kept_is_counted():
    problems = (Problem("a.parquet", 5, "label", "is 12"), Problem("b.tif", None, None, "is empty (0 bytes)"))
    assert check_lines(result(found=1002, problems=problems))[:3] == [
        "a.parquet, row 5, label: is 12",
        "b.tif: is empty (0 bytes)",
        "and 1,000 more",
    ]


def test_workloads_are_a_table():
    assert workload_lines([Listed("images", "images", 1000, "(100, 100)", "uint16", 20_008_000)]) == [
        "workload  kind    samples  shape       dtype      bytes",
        "images    images    1,000  (100, 100)  uint16  19.1 MiB",
    ]


def test_formats_are_a_table_with_the_way_to_have_them():
    assert format_lines([Known("parquet", ".parquet", None), Known("lance", ".lance", "pip install pylance")]) == [
        "format   suffix    installed",
        "parquet  .parquet  yes",
        "lance    .lance    no: pip install pylance",
    ]


def test_what_was_made_is_told_with_its_place_and_size():
    made = Made(Path("t.parquet"), "parquet", 1000, 20_000_000)
    assert made_line(made) == "1,000 samples written to t.parquet: parquet, 19.1 MiB on disk"
