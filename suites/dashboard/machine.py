"""``python -m suites.dashboard.machine``: tell asv of this machine; the GPU's name is part of its ``cpu``."""

from __future__ import annotations

import sys
from pathlib import Path

from pytest_loaderperf.history.asv_machine import machine_of
from pytest_loaderperf.measurement.machine import machine_facts

RESULTS = Path(".asv/results")  # as asv.conf.json says


def main() -> None:
    from asv import machine as known

    facts = machine_of(machine_facts(), RESULTS)
    known.MachineCollection.save(facts["machine"], facts)
    print(f"asv: machine {facts['machine']}: {facts['cpu']}")  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
