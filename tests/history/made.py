"""Results and repositories for tests of the history."""

from __future__ import annotations

import subprocess

from pytest_loaderperf.history import Store
from pytest_loaderperf.history.repository import Checkout

DAY_S = 86_400.0
BEGIN_S = 1_700_000_000.0
UNITS = {"throughput": "samples/s", "first_batch": "s", "peak_memory": "B", "against_ratio": "1", "base_ratio": "1"}


def entry(value, unit="s"):
    return {"value": value, "low": value, "high": None, "n": 5, "unit": unit}


def document(commit, values, *, machine=None, nodeid="test_a.py::test_it[8-ä]", device="cpu", **more):
    """A result with one run; ``values`` by metric."""
    metrics = {name: entry(value, UNITS.get(name, "s")) for name, value in values.items()}
    run = {"nodeid": nodeid, "loader": "L", "batch_size": 8, "device": device}
    run |= {"sides": [{"name": "loader", "metrics": metrics}], "claims": []}
    facts = {"cpu": "one", "torch": "2.13.0", "driver": None} | (machine or {})
    whole = {"commit": commit, "base_commit": None, "alpha": 0.001, "partial": False, "machine": facts, "runs": [run]}
    return whole | more


def commits(folder, count):
    """A repository with so many commits, a day apart; their names, oldest first."""

    def git(*arguments, given=None):
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, input=given).stdout

    git("init", "-q", "-b", "main")
    stream = []
    for i in range(count):
        message, after = f"Change {i}", f"from :{i}\n" if i else ""
        author = f"committer n <a@b> {BEGIN_S + i * DAY_S:.0f} +0000"
        stream.append(f"commit refs/heads/main\nmark :{i + 1}\n{author}\ndata {len(message)}\n{message}\n{after}\n")
    git("fast-import", "--quiet", given="".join(stream))
    return git("log", "--reverse", "--format=%H").split()


def fill(folder, names, series, *, machine_of=lambda _i: None, dirty=False, **more):
    """A store in ``folder`` with one result a commit; ``series``: values of each metric."""
    (folder / ".loaderperf").mkdir(exist_ok=True)
    with Store(folder / ".loaderperf" / "history.sqlite3", writes=True) as store:
        for i, name in enumerate(names):
            values = {metric: each[i] for metric, each in series.items()}
            time_s = BEGIN_S + i * DAY_S
            made = document(name, values, machine=machine_of(i), **more)
            store.append(made, Checkout(time_s, "main", dirty), time_s + 60, 10_000)
