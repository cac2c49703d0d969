"""A git repository with commits, and results as ``--loaderperf-json`` writes them."""

from __future__ import annotations

import subprocess

FIRST_DATE_S = 1_700_000_000


def make_repository(folder, commits):
    """A repository with ``commits`` commits; their ids, oldest first."""
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "-b", "main", "."], cwd=folder, check=True)
    stream = ""
    for number in range(commits):
        date = f"a <a@b.c> {FIRST_DATE_S + number * 86400} +0000"
        stream += f"commit refs/heads/main\nauthor {date}\ncommitter {date}\ndata 1\n.\n"
        stream += f"M 644 inline code.py\ndata {len(str(number))}\n{number}\n"
    subprocess.run(["git", "fast-import", "--quiet"], cwd=folder, input=stream, text=True, check=True)
    subprocess.run(["git", "reset", "-q", "--hard", "main"], cwd=folder, check=True)
    told = subprocess.run(["git", "rev-list", "--reverse", "main"], cwd=folder, check=True, capture_output=True)
    return told.stdout.decode().split()


def entry(value, *, wide=0.02, n=20, unit="s"):
    samples = [value * (1 + wide * (k - 10) / 10) for k in range(21)]
    return {
        "value": value,
        "unit": unit,
        "low": value * (1 - wide),
        "high": value * (1 + wide),
        "n": n,
        "samples": samples,
    }


def result(commit, tests, *, device="cpu", cpu="A CPU", gpu=None):
    """A result in which each node id of ``tests`` has a throughput."""
    runs = [
        {"nodeid": nodeid, "device": device, "metrics": {"throughput": entry(throughput, unit="samples/s")}}
        for nodeid, throughput in tests.items()
    ]
    machine = {"cpu": cpu, "gpu": gpu, "cores": 2, "python": "3.11.9", "torch": "2.13.0+cpu", "system": "Linux x86_64"}
    return {"schema": "loaderperf/1", "machine": machine, "commit": commit, "runs": runs}
