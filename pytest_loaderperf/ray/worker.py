"""One worker of a job on a Ray cluster: a rank that measures as under torchrun. It runs as an actor."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pytest_loaderperf.errors import LoaderPerfError


@dataclass(frozen=True, slots=True)
class Asked:
    """What each worker measures: functions by name, ``module:function``, and the options of ``loaderperf bench``.

    ``folder``: where the command was given, from which modules are imported if the worker's node has it.
    """

    loader: str
    against: str | None
    count: str | None
    touch: str | None
    budget_seconds: float
    device: str
    folder: str


class Measured(NamedTuple):
    """What the job's rank 0 gives: the run's document, and facts of its machine."""

    document: dict[str, Any]
    machine: dict[str, Any]


class Failed(NamedTuple):
    """Why a worker could not measure, as text: errors of users' own classes may not reach the driver."""

    text: str


class Worker:
    """The actor."""

    def __init__(self) -> None:
        self._store: Any = None

    def place(self) -> tuple[str, str]:
        """The worker's host, and its address in the cluster."""
        import ray.util

        return socket.gethostname(), str(ray.util.get_node_ip_address())

    def open_store(self) -> int:
        """Open the store at which the ranks meet, until the actor ends; its port, which the system chooses."""
        from torch.distributed import TCPStore  # type: ignore[attr-defined]  # re-exported without saying so

        _, address = self.place()
        self._store = TCPStore(address, 0, is_master=True, wait_for_workers=False)
        return int(self._store.port)

    def measure(self, environ: dict[str, str], asked: Asked) -> Measured | Failed | None:
        """Measure as the rank that ``environ`` describes; only rank 0 has a result."""
        os.environ.update(environ)
        if Path(asked.folder).is_dir():
            os.chdir(asked.folder)
            sys.path.insert(0, asked.folder)
        try:
            return _measured(asked)
        except LoaderPerfError as error:
            cause = "" if error.__cause__ is None else "".join(traceback.format_exception(error.__cause__))
            return Failed(f"{cause}{error}")
        except Exception:  # noqa: BLE001 whatever the loader raises
            return Failed(traceback.format_exc().rstrip())


def _measured(asked: Asked) -> Measured | None:
    from pytest_loaderperf.measurement import Reading, machine_facts
    from pytest_loaderperf.ranks.job import own_link
    from pytest_loaderperf.remote.naming import resolve
    from pytest_loaderperf.runs.options import Options
    from pytest_loaderperf.runs.results import document_of
    from pytest_loaderperf.runs.run import Run

    loader, against = resolve(asked.loader), asked.against and resolve(asked.against)
    reading = Reading(*(spec and resolve(spec) for spec in (asked.count, asked.touch)))  # type: ignore[arg-type]
    defaults = Options()
    link = own_link(defaults.timeout_seconds)
    options = Options(budget_seconds=asked.budget_seconds, device=asked.device, link=link)
    try:
        if link is not None:
            link.begin(asked.loader)
        with Run(loader, against, options=options, reading=reading, name=asked.loader) as run:
            if link is not None and link.world.rank:
                return None  # closing follows rank 0 to its end
            run.look_until(asked.budget_seconds)
            return Measured(document_of(run), machine_facts())
    finally:
        if link is not None:
            link.close()
