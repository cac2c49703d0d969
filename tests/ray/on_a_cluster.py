"""What the tests of Ray need a cluster for, in one process with one cluster: ``python -m tests.ray.on_a_cluster``.

Writes what it saw to the file ``seen.json`` of the current folder, which has the tables and modules that are used.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import time
from pathlib import Path

import ray
import ray.data
import ray.train.torch

from pytest_loaderperf.cli import main
from pytest_loaderperf.ray import cluster, job
from pytest_loaderperf.ray.cluster import connected

PAGE = Path(__file__).parents[2] / "docs" / "ray.md"
WORKERS = 2
PATIENCE_SECONDS = 60.0


def command(*arguments):
    """Exit status, output and errors of ``loaderperf ray``."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["ray", *arguments, "--budget", "1", "--cpus", "0.5"])
    return {"status": status, "out": out.getvalue(), "err": err.getvalue()}


def examples():
    """The names that the examples of the page define, which run one after another."""
    names = {"__name__": "__main__", "MyDataset": list}  # as in a script, so that Ray sends functions by value
    for code in re.findall(r"^```python\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        exec(compile(code, str(PAGE), "exec"), names)  # noqa: S102 our own examples
    return names


def train(names):
    """The page's loop, by a real trainer, on a table of ours that Ray splits among two workers."""
    trainer = ray.train.torch.TorchTrainer(
        names["train_loop_per_worker"],
        scaling_config=ray.train.ScalingConfig(num_workers=WORKERS, resources_per_worker={"CPU": 0.5}),
        datasets={"train": names["dataset"]},
        run_config=ray.train.RunConfig(storage_path=str(Path.cwd() / "trained")),
    )
    return trainer.fit().return_value


def idle():
    """Whether the cluster has all of its CPUs back."""
    deadline_s = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline_s:
        if ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"]:
            return True
        time.sleep(0.2)
    return False


def seen():
    """All of it."""
    found = {}
    with connected(None, 3):
        ray.data.DataContext.get_current().enable_progress_bars = False
        found["folder"] = ray._private.worker._global_node.get_session_dir_path()
        found["job"] = command("mypkg:make_loader", "--workers", "2", "--json", "result.json")
        found["too many"] = command("mypkg:make_loader", "--workers", "99")
        found["apart"] = command("mypkg:make_loader", "--workers", "2", "--placement", "strict-spread")
        found["idle after jobs"] = idle()
        holder = ray.remote(num_cpus=3)(Holder).remote()
        ray.get(holder.here.remote())
        job._PATIENCE_SECONDS = 0.5
        found["busy"] = command("mypkg:make_loader", "--workers", "2")
        ray.kill(holder)
        names = examples()
        found["waits"] = train(names)
    found["gone"] = not Path(found["folder"]).exists() and not ray.is_initialized()
    found["environment"] = sorted(name for name in os.environ if name in cluster._SET)
    return found


class Holder:
    """An actor that holds the CPUs of the cluster."""

    def here(self):
        return True


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    Path("seen.json").write_text(json.dumps(seen()), "utf-8")
