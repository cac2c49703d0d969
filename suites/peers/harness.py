"""Runs the children of one regime in turns."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from pathlib import Path

from pytest_loaderperf.engines.record import Row
from pytest_loaderperf.engines.turns import Child
from suites.peers.loaders import IN_PROCESS, LIMIT, OURS

EXTRA = 2  # more trials a round for the rows that the figures compare
COMPARED = (LIMIT, OURS, IN_PROCESS)

# No library may use the network. One intra-op thread: more make gathers of this size slower, on a busy machine many
# times.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LITDATA_DISABLE_VERSION_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "PYTHONWARNINGS": "ignore",
}


def _child(name: str, regime: str, chosen: int, cores: int, shared: Path) -> Child:
    folder = shared / f"{regime}-{name.replace(' ', '_')}-{chosen}"
    folder.mkdir()
    command = [sys.executable, "-m", "suites.peers.child", name, regime, str(chosen), str(cores)]
    return Child(
        Row(name, regime),
        [*command, str(shared), str(folder)],
        folder,
        cores=cores,
        environment={**ENVIRONMENT, "HF_HOME": str(folder)},
    )


def schedule(names: Sequence[str], compared: Sequence[str], rounds: int, rng: random.Random) -> list[list[str]]:
    """The order of the trials, one list for each turn: a round is all, then EXTRA times the compared ones."""
    return [rng.sample(list(chosen), len(chosen)) for _ in range(rounds) for chosen in (names, *[compared] * EXTRA)]


def _started(regime: str, names: Sequence[str], cores: int, shared: Path, *, all_variants: bool) -> list[Child]:
    """A child for each name, and one for each further variant if they are wanted; some may have failed already."""
    children = [_child(name, regime, 0, cores, shared) for name in names]
    try:
        for child in children:
            child.attempt(child.started)
        for child in children[:] if all_variants else ():
            more = [_child(child.row.name, regime, i, cores, shared) for i in range(1, child.facts.get("variants", 1))]
            children += more
            for other in more:
                other.attempt(other.started)
        for child in children:
            child.attempt(child.checked)
            child.attempt(child.prepared)
    except BaseException:
        for child in children:
            child.end()
        raise
    return children


def run(
    regime: str, names: Sequence[str], *, rounds: int, cores: int, shared: Path, all_variants: bool = False
) -> list[Row]:
    """Measure the loaders ``names`` in turns; a row for each, also if it failed."""
    children = _started(regime, names, cores, shared, all_variants=all_variants)
    try:
        able = {str(number): child for number, child in enumerate(children) if child.row.problem is None}
        compared = [key for key, child in able.items() if child.row.name in COMPARED]
        for turn, keys in enumerate(schedule(list(able), compared, rounds, random.Random(0))):  # noqa: S311 an order
            for key in keys:
                able[key].turn(turn, times_first=turn % (1 + EXTRA) == 0)
    finally:
        for child in children:
            child.end()
    return [child.row for child in children]
