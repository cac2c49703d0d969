"""The cases, and what is right about the doctor's answer to each."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_loaderperf.report.figures import LARGE_GAIN

_MARK = re.compile(r"# fault: (\S+)")
_NEAR = 0.2  # of the true gain: a prediction within it is right
_WORTH = 1.1  # times faster: smaller gains are within the noise of a measurement


@dataclass(frozen=True)
class Case:
    """One fault: its folder, with slow.py and fixed.py, and the rule and line that slow.py marks."""

    name: str
    folder: Path
    rule: str
    line: int


@dataclass(frozen=True)
class Outcome:
    """What the doctor said: of the slow loader in each run, of its twin, and how much faster the twin truly is."""

    case: str
    rule: str
    line: int
    found: tuple[tuple[str, int, float], ...]
    on_twin: tuple[str, ...]
    same_counts: bool
    predicted: tuple[float, float, float] | None
    true_gain: float
    seconds: float
    error: str = ""

    @property
    def named(self) -> bool:
        """Whether the rule and line are right, and nothing else was found."""
        return [(rule, line) for rule, line, _ in self.found] == [(self.rule, self.line)]

    @property
    def silent(self) -> bool:
        """Whether nothing was found in the fixed twin."""
        return not self.on_twin and not self.error

    @property
    def near(self) -> bool | None:
        """Whether the gain that is told is within 20 % of the true one, where "over 50x" is right of any larger one.

        None without a prediction or a gain in time.
        """
        if self.predicted is None or self.true_gain < _WORTH:
            return None
        told, true = (min(gain, LARGE_GAIN) for gain in (self.predicted[0], self.true_gain))
        return abs(told / true - 1) <= _NEAR

    @property
    def inside(self) -> bool | None:
        """Whether the true gain lies in the interval of the prediction; None as above."""
        if self.predicted is None or self.true_gain < _WORTH:
            return None
        low, true, high = (min(gain, LARGE_GAIN) for gain in (self.predicted[1], self.true_gain, self.predicted[2]))
        return low <= true <= high

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"named": self.named, "silent": self.silent, "near": self.near, "inside": self.inside}


def cases_in(folder: Path, names: Sequence[str] = ()) -> list[Case]:
    """The cases of a folder, by name. Raises SystemExit for an unknown name or a case without one mark."""
    found = []
    for path in sorted(folder.iterdir()):
        if (path / "slow.py").exists() and (not names or path.name in names):
            lines = (path / "slow.py").read_text("utf-8").splitlines()
            marks = [(match[1], n) for n, text in enumerate(lines, 1) if (match := _MARK.search(text))]
            if len(marks) != 1:
                raise SystemExit(f"{path}/slow.py: expected one line with '# fault: RULE', got {len(marks)}.")
            found.append(Case(path.name, path, *marks[0]))
    if missing := set(names) - {case.name for case in found}:
        raise SystemExit(f"no case {', '.join(sorted(missing))} in {folder}.")
    return found


def judged(case: Case, run: Callable[[Case, str], dict[str, Any]], repeats: int) -> Outcome:
    """Run the doctor on a case and its twin, and measure both."""
    answers = [run(case, "slow") for _ in range(repeats)]
    twin, times = run(case, "fixed"), run(case, "times")
    errors = [str(part["error"]) for part in (*answers, twin, times) if "error" in part]
    counts = [[(one["rule"], one["line"], one["count"]) for one in answer.get("findings", [])] for answer in answers]
    own = [one for one in answers[0].get("findings", []) if one["rule"] == case.rule]
    gain = own[0]["gain"] if own else None
    return Outcome(
        case.name,
        case.rule,
        case.line,
        tuple(counts[0]),
        tuple(f"{one['rule']}:{one['line']}" for one in twin.get("findings", [])),
        all(count == counts[0] for count in counts),
        (gain["value"], gain["low"], gain["high"]) if gain else None,
        float(times.get("gain", 0.0)),
        float(answers[0]["seconds"]),
        "; ".join(errors),
    )
