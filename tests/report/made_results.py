"""Results made by hand, as ``read_json`` gives them."""

from __future__ import annotations

UNITS = {"throughput": "samples/s", "batch_latency_p99": "s", "peak_memory": "B", "against_ratio": "1"}
HOSTILE = "tests/test_ä b.py::test_<script>alert(1)</script>[a/b]]>&\"'`\x1b[31m\n😀\ud800]"
MACHINE = {
    "cpu": "a CPU",
    "cores": 2,
    "usable_cores": 2,
    "python": "3.11.7",
    "system": "Linux x86_64",
    "torch": "2.13.0+cpu",
    "numpy": "2.4.6",
    "pyarrow": None,
    "gpu": None,
    "driver": None,
    "start_method": "fork",
    "container_limits": {"cpu.max": None, "memory.max": None},
    "steal_seconds": 0.01,
}


def entry(value, unit, spread=0.1, n=20):
    """A metric; without ``spread`` its interval has no limits."""
    ends = (None, None) if spread is None or value is None else (value * (1 - spread), value * (1 + spread))
    return {"value": value, "unit": unit, "low": ends[0], "high": ends[1], "n": n}


def side(name, times=(0.001, 0.002, 0.003), **metrics):
    """A side whose metrics have the units of ``UNITS``; its values are numbers, or whole entries."""
    entries = {key: m if isinstance(m, dict) else entry(m, UNITS[key]) for key, m in metrics.items()}
    if "throughput" in entries and times:
        entries["throughput"] = {**entries["throughput"], "samples": [1 / seconds for seconds in times]}
    return {"name": name, "kind": "DataLoader", "loader": "DataLoader(x)", "metrics": entries}


def claim(text="throughput >= 100 samples/s", verdict="PASS", **changes):
    plain = {"claim": text, "verdict": verdict, "failed": verdict == "FAIL", "estimate": 120.0, "low": 110.0}
    plain |= {"high": None, "needed": 100.0, "unit": "samples/s", "pairs": 12, "counted": "trials", "seconds": 0.5}
    return plain | {"mde": 0.021, "alpha": 0.0005, "settles_in_seconds": None, "unconfirmed": None} | changes


def run(nodeid="test_it.py::test_it", sides=None, claims=(), **changes):
    sides = [side("loader", throughput=1000.0, batch_latency_p99=0.004)] if sides is None else sides
    document = {"nodeid": nodeid, "sides": sides, "metrics": sides[0]["metrics"], "claims": list(claims)}
    document |= {"loader": "DataLoader(x)", "batch_size": 8, "device": "cpu", "disturbed": None, "disturbed_by": {}}
    return document | {"stages": {}, "findings": [], "notes": [], "seconds": 1.5} | changes


def result(*runs, machine=None, **changes):
    head = {"schema": "loaderperf/1", "machine": MACHINE | (machine or {}), "commit": "abc123", "base_commit": None}
    return head | {"alpha": 0.001, "partial": False, "runs": list(runs)} | changes
