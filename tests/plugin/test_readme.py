"""The README's first test passes as it is written."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_first_example_passes_as_written(pytester):
    (example,) = re.findall(r"```python\n# test_data\.py\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    pytester.makepyfile(test_data=example)
    result = pytester.runpytest_subprocess("--loaderperf", "--loaderperf-alpha=0.1", timeout=120)
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines("*2 claims: 2 PASS*")
