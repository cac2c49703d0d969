"""``python -m suites.peers``: every loader in every regime, as tables; exit status 1 if an aim is missed."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from pytest_loaderperf.engines.record import Row
from pytest_loaderperf.measurement.machine import machine_facts
from suites.peers import harness, regimes, report
from suites.peers.loaders import IN_PROCESS, LIMIT, OURS, PEERS

ROUNDS = 5
# The small tables ask one thing each: is the reference loader at the limit for other shapes, too?
FEW = (LIMIT, OURS, IN_PROCESS, "torch DataLoader, batched", "tensordict")
SMALL = dict.fromkeys(("vectors-256", "large-rows"), FEW)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m suites.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="trials of each loader (default: %(default)s)")
    parser.add_argument("--regimes", nargs="+", choices=regimes.NAMES, default=regimes.NAMES)
    parser.add_argument("--only", nargs="+", choices=list(PEERS), help="these loaders alone")
    parser.add_argument("--variants", action="store_true", help="measure every documented way to use a loader")
    parser.add_argument("--cores", type=int, default=len(os.sched_getaffinity(0)), help="workers a loader gets")
    parser.add_argument("--json", type=Path, default=Path(".loaderperf/peers.json"))
    parser.add_argument("--plot", type=Path, help="draw the tables into this PNG or SVG file")
    return parser.parse_args()


def _loaders(regime: str, only: list[str] | None) -> list[str]:
    names = [name for name in SMALL.get(regime, PEERS) if only is None or name in only]
    choices = [name for name in names if name.startswith(f"{OURS}, ")]
    return [name for name in names if name not in choices or regime in {"parse", "cheap"}]


def _write(file: Path, results: dict[str, list[Row]], figures: list[report.Figure]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "schema": "loaderperf-peers/1",
        "machine": machine_facts(),
        "regimes": {name: [asdict(row) for row in rows] for name, rows in results.items()},
        "figures": [{**asdict(figure), "missed": figure.missed} for figure in figures],
    }
    file.write_text(json.dumps(document, indent=1) + "\n")


def _machine(load: float) -> str:
    facts = machine_facts()
    versions = ", ".join(f"{name} {facts[name]}" for name in ("python", "torch", "numpy"))
    return f"{facts['cpu']}, {facts['usable_cores']} cores, {facts['system']}, {versions}; load before it {load:.1f}"


def main() -> int:
    options, results, began_s = _arguments(), {}, time.monotonic()
    titles, load = {}, os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True) as folder:
        regimes.prepare(Path(folder))
        for regime in options.regimes:
            titles[regime] = regimes.load(regime, Path(folder)).title
            results[regime] = harness.run(
                regime,
                _loaders(regime, options.only),
                rounds=options.rounds,
                cores=options.cores,
                shared=Path(folder),
                all_variants=options.variants,
            )
            print(report.table(titles[regime], results[regime]), end="\n\n", flush=True)  # noqa: T201 a command prints
    figures = report.figures(results)
    _write(options.json, results, figures)
    if options.plot:
        from suites.peers.plot import draw

        draw(results, titles, options.plot)
    minutes = (time.monotonic() - began_s) / 60
    print(*figures, f"\n{_machine(load)}", f"{minutes:.1f} minutes; raw figures in {options.json}", sep="\n")  # noqa: T201
    failed = [row for rows in results.values() for row in rows if row.name == OURS and row.problem]
    return 1 if failed or any(figure.missed for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
