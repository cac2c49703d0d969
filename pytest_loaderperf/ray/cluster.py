"""The Ray cluster that a job runs on, and places in it for the job's workers."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_loaderperf.errors import LoaderPerfError, printable

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

_LOCAL = "local"  # a cluster of this machine alone, that ends with the job
_SET = ("RAY_USAGE_STATS_ENABLED", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE")  # in the environment, by us and by Ray
_POLL_SECONDS = 0.2
_TOKEN_BYTES = 32


class Places(NamedTuple):
    """What to ask the cluster for: ``workers`` times ``cpus`` CPUs and ``gpus`` GPUs, placed as ``placement`` says.

    ``placement``: a strategy of Ray's placement groups, such as "strict-spread".
    """

    workers: int
    cpus: float
    gpus: float
    placement: str


@contextmanager
def connected(address: str | None, cpus: float) -> Iterator[None]:
    """Be connected to the cluster at ``address``, such as "auto"; None: to that of RAY_ADDRESS, else to a new one.

    A new one is on this machine alone, with at least ``cpus`` CPUs. It ends at exit and leaves nothing behind. A
    connection that this process has already is used, and stays. Raises LoaderPerfError if there is no such cluster.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or _LOCAL
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    folder, ours = None, dict[str, str]()
    if address == _LOCAL:
        folder = tempfile.mkdtemp(prefix="loaderperf-", dir="/tmp")  # paths of sockets are short
        cores = max(cpus, os.cpu_count() or 1)
        quiet |= {"num_cpus": int(-(-cores // 1)), "include_dashboard": False, "_temp_dir": folder}
        # Without a token Ray would write one to the home folder; it turns the use of tokens on by itself.
        ours = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_TOKEN": secrets.token_hex(_TOKEN_BYTES)}
    before = os.environ.copy()
    os.environ.update(ours)
    try:
        try:
            ray.init(address, **quiet)
        except Exception as error:  # of any type
            raise LoaderPerfError(_no_cluster(address, error)) from error
        yield
    finally:
        ray.shutdown()
        for name in _SET:
            os.environ.pop(name, None)
        os.environ.update({name: before[name] for name in _SET if name in before})
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def placed(places: Places, patience_seconds: float, progress: Callable[[str], None]) -> Iterator[PlacementGroup]:
    """Reserve ``places``. Raises LoaderPerfError if the cluster is too small, or busy for ``patience_seconds``."""
    import ray
    from ray.util import placement_group, remove_placement_group

    _check_size(places)
    bundle = {"CPU": places.cpus, **({"GPU": places.gpus} if places.gpus else {})}
    group = placement_group([bundle] * places.workers, strategy=places.placement.upper().replace("-", "_"))
    try:
        deadline_s = time.monotonic() + patience_seconds
        while not group.wait(_POLL_SECONDS):
            progress(f"waiting for {places.workers} free places in the cluster")
            if time.monotonic() > deadline_s:
                free = ", ".join(f"{ray.available_resources().get(name, 0):g} {name}" for name in bundle)
                wanted = " and ".join(f"{number:g} {name}" for name, number in bundle.items())
                raise LoaderPerfError(
                    f"expected {places.workers} places of {wanted} each to be free within {patience_seconds:g} s, got "
                    f"{free} free in the cluster. Wait for other jobs to end, or ask for fewer workers."
                )
        yield group
    finally:
        remove_placement_group(group)


def gpus_for(device: str, workers: int) -> float:
    """GPUs of each worker whose batches must arrive on ``device``: cuda, cpu or auto."""
    import ray

    enough = ray.cluster_resources().get("GPU", 0) >= workers
    return float(device == "cuda" or (device == "auto" and enough))


def _check_size(places: Places) -> None:
    import ray

    total, nodes = ray.cluster_resources(), [node for node in ray.nodes() if node["Alive"]]
    for name, each in (("CPU", places.cpus), ("GPU", places.gpus)):
        if places.workers * each > total.get(name, 0):
            advice = "Ask for fewer workers, or add nodes"
            advice += (
                ", or give each less than a CPU: --cpus 0.5." if name == "CPU" else ", or measure on --device cpu."
            )
            raise LoaderPerfError(
                f"{places.workers} workers need {places.workers * each:g} {name}s: expected that many in the cluster, "
                f"got {total.get(name, 0):g} on {len(nodes)} node{'s' * (len(nodes) > 1)}. {advice}"
            )
    if places.placement == "strict-spread" and len(nodes) < places.workers:
        raise LoaderPerfError(
            f"--placement strict-spread puts each worker on another node: expected at least {places.workers} nodes, "
            f"got {len(nodes)}. Ask for fewer workers, or use --placement spread."
        )


def _no_cluster(address: str, error: Exception) -> str:
    said = str(error).strip().partition("\n")[0].partition(". ")[0]
    got = printable(f"{type(error).__name__}: {said}").rstrip(".: ")
    if address == _LOCAL:
        return (
            f"expected a Ray cluster to start on this machine, got {got}. Try again when it is less busy, or give the "
            "--address of a cluster."
        )
    return (
        f"expected a Ray cluster at {printable(address)}, got {got}. Start one with ray start --head, or leave "
        "--address out to measure on this machine alone."
    )
