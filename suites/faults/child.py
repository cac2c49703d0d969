"""One question about one case, in a process of its own: what does the doctor say, or how fast are both."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from typing import Any

_ROUNDS = 5
_FEWEST = 2
_MOST_EPOCHS = 20  # in a turn
_MOST_SECONDS = 20.0


def main() -> None:
    """``slow|fixed|times FOLDER``: print the answer as a line of JSON."""
    what, folder = sys.argv[1:]
    os.chdir(folder)
    sys.path.insert(0, folder)
    answer = _times() if what == "times" else _findings(what)
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


def _findings(what: str) -> dict[str, Any]:
    from pytest_loaderperf.diagnosis import diagnose
    from pytest_loaderperf.remote.naming import resolve

    found = diagnose(resolve(f"{what}:make_loader"), name=what, seconds=6.0, tries=what == "slow").findings
    return {"findings": [finding.to_json() for finding in found]}


def _times() -> dict[str, Any]:
    """How many times faster an epoch of the fixed loader is: the median ratio of epochs in turns.

    A fast loader has several epochs in its turn, so that both turns take as long.
    """
    import fixed
    import slow

    loaders = [slow.make_loader(), fixed.make_loader()]
    ratios: list[float] = []
    began = time.perf_counter()
    while len(ratios) <= _FEWEST or (len(ratios) <= _ROUNDS and time.perf_counter() - began < _MOST_SECONDS):
        slow_seconds = _epoch(loaders[0])
        turn: list[float] = []
        while len(turn) < _MOST_EPOCHS and sum(turn) < slow_seconds:
            turn.append(_epoch(loaders[1]))
        ratios.append(slow_seconds / statistics.median(turn))
    return {"gain": statistics.median(ratios[1:])}  # the first epoch loads things


def _epoch(loader: Any) -> float:
    began = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
