"""Why tests fail: the doctor is asked about the loader of a claim that failed its test."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_loaderperf.report.why import Why
    from pytest_loaderperf.runs.run import Run

MOST_SECONDS = 60.0  # of one session: many tests may fail from one cause


class Reasons:
    """What the doctor says of the test that runs, in passes of ``seconds`` at most; 0: it is not asked."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._spent_seconds = 0.0
        self._found: list[Why] = []

    def ask(self, run: Run, sides: Sequence[str]) -> None:
        """Ask about the loader of a claim on ``sides`` that has failed, if there is time left."""
        from pytest_loaderperf.report import Why, why_section
        from pytest_loaderperf.runs.sides import LOADER, ROOFLINE

        if not self._seconds or LOADER not in sides:
            return
        if self._spent_seconds > MOST_SECONDS:
            said = f"it has taken more than {MOST_SECONDS:.0f} s in this run; run this test alone"
            self._found.append(Why("doctor: not asked", [said]))
            return
        other = next((side for side in sides if side not in (LOADER, ROOFLINE)), "")
        began = time.monotonic()
        try:
            found = run.why(self._seconds, other)
        finally:
            self._spent_seconds += time.monotonic() - began
        self._found.append(why_section(found.findings, found.comparison, found.unseen, other))

    def take(self) -> list[Why]:
        """What it said of the test that has just ended."""
        said, self._found = self._found, []
        return said
