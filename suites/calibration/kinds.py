"""``python -m suites.calibration.kinds``: loaders as projects use them, with the same code and 15 % slower.

The claim is throughput >= 0.90 x of the other's. Each kind has its own process, with the interpreter of
``make peers`` if that is installed, else this one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from pytest_loaderperf import measure
from pytest_loaderperf.measurement import machine_facts
from pytest_loaderperf.runs.calibration import noise_load
from suites.calibration.wild import BATCH_SIZE, KINDS, Setting, samples_of

THRESHOLD = 0.90
SLOWER = 1.15  # times as long a batch takes
LOOPED_BATCHES, LOOPS = 200, 5  # of a plain loop, and how often each of two loaders is looped over, in turns
SAME, SLOW = "same code", "15 % slower"
RIGHT = {SAME: "PASS", SLOW: "FAIL"}
NOT_INSTALLED = "not installed"
PEERS_PYTHON = Path(".venv-peers/bin/python")
STARTS_S = 120.0  # torch and a library, its files or its cluster
MORE = 6  # budgets that a claim may take, with confirmation and extra time
Claims = dict[str, list[tuple[str, float]]]  # by the true ratio: the outcomes and the seconds


def judged(name: str, factor: float, options: argparse.Namespace, folder: Path) -> tuple[str, float]:
    """The outcome of one claim on a loader whose samples take ``factor`` times as long, and the seconds it took."""
    make, other = (_maker(name, times, options, folder) for times in (factor, 1.0))
    began_s = time.perf_counter()
    with measure(make, other, budget=options.budget, count=samples_of(name)) as run:
        claim: Any = run.throughput >= THRESHOLD * run.against.throughput
        return str(claim.ruling.outcome), time.perf_counter() - began_s


def factor_slower(name: str, options: argparse.Namespace, folder: Path) -> float:
    """How many times as long samples must take for batches to take ``SLOWER`` times as long, from plain loops.

    A worker does more for a batch than its busy wait, and other workers wait at the same time.
    """
    seconds: dict[float, list[float]] = {1.0: [], 2.0: []}
    for _ in range(LOOPS):
        for factor, found in seconds.items():
            batches = iter(_maker(name, factor, options, folder)())
            deque(islice(batches, LOOPED_BATCHES // 4), maxlen=0)  # start-up, and batches that are ready by then
            began_s = time.perf_counter()
            deque(islice(batches, LOOPED_BATCHES), maxlen=0)
            found.append(time.perf_counter() - began_s)
    once_s, twice_s = map(statistics.median, seconds.values())
    return 1 + (SLOWER - 1) * once_s / max(twice_s - once_s, once_s / 10)


def _maker(name: str, factor: float, options: argparse.Namespace, folder: Path) -> Callable[[], Any]:
    return partial(KINDS[name], Setting(options.batch_ms * 1e-3 / BATCH_SIZE * factor, folder))


def claims_on(name: str, options: argparse.Namespace) -> Claims:
    """All claims on one kind, in this process."""
    found: Claims = {SAME: [], SLOW: []}
    with tempfile.TemporaryDirectory() as folder:
        slower = factor_slower(name, options, Path(folder))
        for _ in range(options.times):
            for what, factor in ((SAME, 1.0), (SLOW, slower)):
                found[what].append(judged(name, factor, options, Path(folder)))
    return found


def claims_there(name: str, options: argparse.Namespace, python: str) -> Claims | str:
    """The same in another process; or the reason why there are none, as text."""
    told = ["--times", str(options.times), "--budget", str(options.budget), "--batch-ms", str(options.batch_ms)]
    longest_s = STARTS_S + 2 * options.times * MORE * options.budget
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "claims.json"
        command = [python, "-m", "suites.calibration.kinds", "--here", name, "--json", str(file), *told]
        path = os.pathsep.join([os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])])  # noqa: PTH109 a text
        try:
            ended = subprocess.run(  # noqa: S603 our own
                command,
                check=False,
                capture_output=True,
                text=True,
                timeout=longest_s,
                env=os.environ | {"PYTHONPATH": path},
            )
        except subprocess.TimeoutExpired:
            return f"no end within {longest_s:.0f} s"
        if file.exists():
            claims: Claims | str = json.loads(file.read_text())
            return claims
    print(ended.stderr, file=sys.stderr)  # noqa: T201 a command prints
    return (ended.stderr.strip().splitlines() or [f"ended with status {ended.returncode}"])[-1]


def table(results: Mapping[str, Claims | str]) -> str:
    """In Markdown: two rows for each kind; one with the reason if it was not measured."""
    lines = ["| loader | truth | PASS | FAIL | INCONCLUSIVE | median s |", "|---|---|---|---|---|---|"]
    for name, found in results.items():
        if isinstance(found, str):
            lines.append(f"| {name} | {found} | | | | |")
            continue
        for what, claims in found.items():
            outcomes = [outcome for outcome, _ in claims]
            counts = " | ".join(str(outcomes.count(word)) for word in ("PASS", "FAIL", "INCONCLUSIVE"))
            median_s = statistics.median(seconds for _, seconds in claims)
            lines.append(f"| {name} | {what} | {counts} | {median_s:.1f} |")
    return "\n".join([*lines, "", *_sums([found for found in results.values() if not isinstance(found, str)])])


def _sums(results: Sequence[Claims]) -> list[str]:
    lines = []
    for what, right in RIGHT.items():
        outcomes = [outcome for found in results for outcome, _ in found[what]]
        wrong = outcomes.count("FAIL" if right == "PASS" else "PASS")
        lines.append(f"{what}: {right} {outcomes.count(right)} of {len(outcomes)}, wrong {wrong}")
    return lines


def _here(name: str, options: argparse.Namespace) -> None:
    try:
        result: Claims | str = claims_on(name, options)
    except Exception as error:  # noqa: BLE001 shown in a row of the table
        result = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        missing = error if isinstance(error, ModuleNotFoundError) else error.__cause__
        if isinstance(missing, ModuleNotFoundError):
            result = f"{NOT_INSTALLED}: no module {missing.name}"
    options.json.write_text(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m suites.calibration.kinds", description=__doc__)
    parser.add_argument(
        "--times", type=int, default=10, help="claims of each truth on each kind (default: %(default)s)"
    )
    parser.add_argument("--only", nargs="+", choices=list(KINDS), default=list(KINDS), help="these kinds alone")
    parser.add_argument("--budget", type=float, default=20.0, help="seconds a claim (default: %(default)s)")
    parser.add_argument("--batch-ms", type=float, default=4.0, help="busy wait of a batch (default: %(default)s)")
    parser.add_argument("--noise", action="store_true", help="with two other processes that alternately use a core")
    parser.add_argument("--json", type=Path, default=Path(".loaderperf/kinds.json"))
    parser.add_argument("--here", choices=list(KINDS), help=argparse.SUPPRESS)  # one kind, in this process
    options = parser.parse_args()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    if options.here is not None:
        _here(options.here, options)
        return
    python = str(PEERS_PYTHON.absolute()) if PEERS_PYTHON.exists() else sys.executable
    results: dict[str, Claims | str] = {}
    with noise_load() if options.noise else nullcontext():
        for name in options.only:
            results[name] = claims_there(name, options, python)
            print(f"{name}: {results[name]}", file=sys.stderr)  # noqa: T201 a command prints
    print(table(results))  # noqa: T201 a command prints
    document = {
        "schema": "loaderperf-kinds/1",
        "machine": machine_facts(),
        "noise": options.noise,
        "budget_seconds": options.budget,
        "batch_ms": options.batch_ms,
        "kinds": results,
    }
    options.json.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
