"""What is kept of the machine: by these names results of one machine are told from those of another."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version

from pytest_loaderperf.measurement import machine_facts


def test_the_facts_of_a_machine_have_their_names_and_are_plain_json():
    facts = machine_facts()
    assert json.loads(json.dumps(facts)) == facts
    names = "cpu cores usable_cores python system torch numpy pyarrow gpu driver start_method container_limits"
    assert list(facts) == names.split()
    assert facts["system"] == f"{platform.system()} {platform.machine()}"
    assert [facts[name] for name in ("torch", "numpy")] == [version(name) for name in ("torch", "numpy")]
