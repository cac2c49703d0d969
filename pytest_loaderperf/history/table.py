"""Values of many metrics over many runs, as they are read from a store or from asv's results."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from pytest_loaderperf.units import BYTES_PER_SECOND, ONE, SAMPLES_PER_SECOND

_HARDWARE = ("cpu", "cores", "usable_cores", "system", "gpu", "container_limits")  # what makes another machine
_MORE_IS_BETTER = {SAMPLES_PER_SECOND, BYTES_PER_SECOND}
MOST_VALUE = 1e100  # of a metric, in any unit: larger ones cannot be computed with, and nothing measures so much
_MOST_TIME_S = 253_402_300_800.0  # the year 10,000: what programs take for a date ends there
_RATIOS = ("_ratio", "_fraction")  # ends of names: of speeds, so more is better


class Metric(NamedTuple):
    """A metric of a test. ``asv``: of asv, where less is always better."""

    test: str
    name: str
    unit: str
    asv: bool = False

    @property
    def more_is_better(self) -> bool:
        """Whether larger values are better for the user."""
        ratio = self.unit == ONE and self.name.endswith(_RATIOS)
        return not self.asv and (self.unit in _MORE_IS_BETTER or ratio)


class Facts(NamedTuple):
    """What is known about one run. Times are in seconds since 1970; None: not known.

    ``commit_time_s`` is the run's own time outside git. ``machine`` is a fingerprint of the hardware. ``packages`` are
    what else an environment of asv consists of, in words.
    """

    commit: str | None
    commit_time_s: float
    time_s: float
    machine: str
    torch: str | None
    driver: str | None
    dirty: bool | None = None
    packages: str = ""

    @classmethod
    def of_machine(cls, machine: Mapping[str, Any]) -> Self:
        """The facts about a result's ``machine``, without commit and times."""
        hardware = {key: machine.get(key) for key in _HARDWARE}
        return cls(None, 0.0, 0.0, fingerprint(hardware), machine.get("torch"), machine.get("driver"))

    @property
    def is_sound(self) -> bool:
        """Whether these are facts of a run, of the types and in the range that such facts have."""
        texts = (self.commit, self.torch, self.driver)
        times = (self.commit_time_s, self.time_s)
        return (
            isinstance(self.machine, str)
            and all(text is None or isinstance(text, str) for text in texts)
            and all(isinstance(time_s, int | float) and 0 <= time_s < _MOST_TIME_S for time_s in times)
        )

    @property
    def environment(self) -> tuple[str, str | None, str | None, str]:
        """What may change a metric besides the code."""
        return (self.machine, self.torch, self.driver, self.packages)


@dataclass(frozen=True, slots=True)
class Table:
    """Facts of each run, and for each metric its value by the number of the run; ``remarks`` on what was left out."""

    runs: list[Facts]
    values: dict[Metric, dict[int, float]]
    remarks: tuple[str, ...] = ()


def fingerprint(facts: Mapping[str, Any]) -> str:
    """A short name for these facts about a machine."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
