"""A cluster of three nodes on this machine, one of which dies in mid-run: ``python -m tests.ray.on_nodes``.

Writes what it saw to the file ``nodes.json`` of the current folder, which has the module ``mypkg``.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import psutil
import ray
from ray.cluster_utils import Cluster

from tests.ray.on_a_cluster import command, idle

NODE = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100_000_000}
MEASURING_SECONDS = 120.0


def kill(cluster, node):
    """End a node and all its processes, once the loaders are measured."""
    deadline_s = time.monotonic() + MEASURING_SECONDS
    while not Path("measures").exists() and time.monotonic() < deadline_s:
        time.sleep(0.1)
    cluster.remove_node(node, allow_graceful=False)


def seen():
    """All of it."""
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        others = [cluster.add_node(**NODE) for _ in range(2)]
        cluster.wait_for_nodes()
        ask = ["--workers", "3", "--placement", "strict-spread", "--address", cluster.address]
        found = {"job": command("mypkg:make_loader", *ask, "--json", "result.json")}
        killer = threading.Thread(target=kill, args=(cluster, others[-1]))
        killer.start()
        found["killed"] = command("mypkg:make_slow_loader", *ask, "--against", "mypkg:make_loader")
        killer.join()
        ray.init(cluster.address, log_to_driver=False)
        found["idle"] = idle()
        found["workers"] = [
            process.pid for process in psutil.process_iter() if "ray::Worker" in process.name() and mine(process)
        ]
        ray.shutdown()
    finally:
        cluster.shutdown()
    return found


def mine(process):
    """Whether it works in this folder."""
    try:
        return process.cwd() == str(Path.cwd())
    except psutil.Error:
        return False


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    Path("nodes.json").write_text(json.dumps(seen()), "utf-8")
