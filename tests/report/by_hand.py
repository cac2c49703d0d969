"""Results made by hand, as the result file has them."""

from __future__ import annotations

CLAIM = {
    "claim": "throughput >= 0.97 * base.throughput",
    "verdict": "PASS",
    "failed": False,
    "estimate": 1.03,
    "low": 0.99,
    "high": None,
    "needed": 0.97,
    "unit": "1",
    "pairs": 37,
    "counted": "pairs",
    "seconds": 0.84,
    "mde": 0.021,
    "alpha": 0.0005,
    "settles_in_seconds": None,
    "unconfirmed": None,
}
THROUGHPUT = {"value": 6_213_000.0, "unit": "samples/s", "low": 6e6, "high": None, "n": 9}
SIDE = {"name": "loader", "kind": "DataLoader", "loader": "DataLoader()", "metrics": {"throughput": THROUGHPUT}}
GAIN = {"value": 4.52, "low": 3.31, "high": 6.94, "how": "predicted"}


def claim(verdict="PASS", **changes):
    return CLAIM | {"verdict": verdict, "failed": verdict == "FAIL"} | changes


def failed(**changes):
    return claim("FAIL", **{"estimate": 0.9, "low": 0.88, "high": 0.92} | changes)


def finding(**changes):
    plain = {"rule": "repeated-work", "message": "the same result, twice", "file": "/repo/pkg/data.py", "line": 9}
    return plain | {"fix": "do it once", "gain": GAIN} | changes


def run(*claims, nodeid="tests/test_a.py::test_it", findings=(), disturbed=None, line=5):
    place = {"file": "/repo/tests/test_a.py", "line": line}
    document = {"nodeid": nodeid, "sides": [SIDE], "claims": list(claims), "findings": list(findings)}
    document |= {"loader": "DataLoader()", "batch_size": 8, "device": "cpu", "metrics": SIDE["metrics"]}
    return document | place | {"stages": {}, "notes": [], "seconds": 2.0, "disturbed": disturbed}


def result(*runs, **changes):
    machine = {"cpu": "A CPU", "cores": 4, "usable_cores": 2, "torch": "2.13.0", "python": "3.11.7", "gpu": None}
    top = {"schema": "loaderperf/1", "machine": machine, "commit": "c" * 40, "base_commit": "b" * 40}
    return top | {"root": "/repo", "alpha": 0.001, "partial": False, "runs": list(runs)} | changes
