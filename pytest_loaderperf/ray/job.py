"""One measurement by many workers of a Ray cluster, each of them a rank of a job, and its merged result."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from pytest_loaderperf.errors import LoaderPerfError
from pytest_loaderperf.ray.cluster import Places, connected, gpus_for, placed
from pytest_loaderperf.ray.worker import Asked, Failed, Measured, Worker

_PATIENCE_SECONDS = 60.0  # for other jobs of the cluster to leave room
_START_SECONDS = 300.0  # for a worker's process to start, which may install its environment first
_GRACE_SECONDS = 20.0  # after a failure, for the other workers to end by themselves and to say more
_POLL_SECONDS = 0.5


def measure_on_ray(
    asked: Asked, workers: int, *, cpus: float, placement: str, address: str | None, progress: Callable[[str], None]
) -> Measured:
    """Measure ``asked`` on ``workers`` workers with ``cpus`` CPUs each, and leave nothing in the cluster.

    ``address``: see `connected`. Raises LoaderPerfError if the cluster has no room for them, a worker dies, or one
    cannot measure: it names the worker and its host.
    """
    progress("connecting to Ray")
    with connected(address, workers * cpus):
        places = Places(workers, cpus, gpus_for(asked.device, workers), placement)
        with placed(places, _PATIENCE_SECONDS, progress) as group:
            return _measured_in(group, places, asked, progress)


def _measured_in(group: Any, places: Places, asked: Asked, progress: Callable[[str], None]) -> Measured:
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    def starting() -> None:
        progress("starting the workers")

    actor = ray.remote(Worker)
    actors: list[Any] = []
    try:
        for index in range(places.workers):
            strategy = PlacementGroupSchedulingStrategy(group, index)
            options = {"num_cpus": places.cpus, "num_gpus": places.gpus, "scheduling_strategy": strategy}
            actors.append(actor.options(**options).remote())
        names = [f"worker {rank}" for rank in range(places.workers)]
        found = _answers([one.place.remote() for one in actors], names, starting, _START_SECONDS)
        names = [f"worker {rank} on {host} ({address})" for rank, (host, address) in enumerate(found)]
        (port,) = _answers([actors[0].open_store.remote()], names, starting, _START_SECONDS)
        environments = _environments([address for _, address in found], port)
        tasks = [one.measure.remote(environ, asked) for one, environ in zip(actors, environments, strict=True)]
        began_s = time.monotonic()
        said = f"measuring {asked.loader} on {places.workers} workers"
        answers = _answers(tasks, names, lambda: progress(f"{said}, {time.monotonic() - began_s:.0f} s"))
        measured: Measured = answers[0]
        return measured
    finally:
        for one in actors:
            ray.kill(one)


def _environments(addresses: Sequence[str], port: int) -> list[dict[str, str]]:
    """What torchrun would set for each rank. The store is open already, as that of torchrun's agent."""
    seen: Counter[str] = Counter()
    environments = []
    for rank, address in enumerate(addresses):
        numbers = {"RANK": rank, "WORLD_SIZE": len(addresses), "LOCAL_RANK": seen[address]}
        seen[address] += 1
        store = {"MASTER_ADDR": addresses[0], "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        environments.append({name: str(number) for name, number in numbers.items()} | store)
    return environments


def _answers(
    tasks: Sequence[Any], names: Sequence[str], wait: Callable[[], None], limit_seconds: float = math.inf
) -> list[Any]:
    """The results of all tasks; ``wait`` is called while there are none. Raises LoaderPerfError for the first failure.

    Ranks that fail because of another one name it, so the others may tell more than the one that is seen first.
    """
    import ray

    left, found = list(tasks), dict[Any, Any]()
    deadline_s = time.monotonic() + limit_seconds
    while left and time.monotonic() < deadline_s:
        ready, left = ray.wait(left, timeout=_POLL_SECONDS)
        wait()
        for task in ready:
            found[task] = _answer(task)
            if isinstance(found[task], Failed):
                deadline_s = min(deadline_s, time.monotonic() + _GRACE_SECONDS)
    named = dict(zip(tasks, names, strict=False))
    for task, name in named.items():
        if isinstance(found.get(task), Failed):
            text = found[task].text
            raise LoaderPerfError(text if "rank " in text else f"{name}: {text}")  # which rank it was, it says itself
    if left:
        raise LoaderPerfError(
            f"{', '.join(named[task] for task in left)}: expected to start within {limit_seconds:g} s, got no answer. "
            "Look at the logs of Ray on its node."
        )
    return [found[task] for task in tasks]


def _answer(task: Any) -> Any:
    import ray
    from ray.exceptions import RayActorError, RayError

    try:
        return ray.get(task)
    except RayActorError as error:
        said = str(error).strip()
        with suppress(ValueError):
            said = said[said.index("\n") :].strip()
        return Failed(f"its process died. Expected it to measure until the end; Ray says: {said}")
    except RayError as error:
        return Failed(f"cannot run: {str(error).strip()}")
