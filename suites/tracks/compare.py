"""Does the format matter after pre-loading? Loaders in one run, with the plugin's verdicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from pytest_loaderperf import measure
from pytest_loaderperf.loader import ReferenceLoader
from suites.tracks.images import Images
from suites.tracks.inputs import Made
from suites.tracks.tracks import BATCH_SIZE

PLAIN, PARQUET = "plain arrays", "parquet"
NEEDED = {PLAIN: 0.9, PARQUET: 0.95}
BUDGET_S = 3.0  # of a claim


@dataclass(frozen=True, slots=True)
class Compared:
    """Throughput of a pre-loaded format over that of ``against``, and what the plugin says of it."""

    images: str
    format: str
    cache: str
    against: str
    ratio: float
    outcome: str


def compared(images: Images, made: Mapping[str, Made], cache: str) -> list[Compared]:
    """Each format, pre-loaded by ``cache``, against plain arrays and against Parquet."""
    results = []
    with ExitStack() as opened:
        others = {PLAIN: _maker(images.arrays)}
        if PARQUET in made:
            others[PARQUET] = _maker(made[PARQUET].after(opened, cache))
        for kind, one in made.items():
            beside = {name: other for name, other in others.items() if name != kind}
            with measure(_maker(one.after(opened, cache)), beside, BUDGET_S) as run:
                for name in beside:
                    ruling = (run.throughput >= NEEDED[name] * run.against[name].throughput).ruling
                    results.append(Compared(images.name, kind, cache, name, ruling.estimate, str(ruling.outcome)))
    return results


def _maker(dataset: Any) -> Callable[[], ReferenceLoader[Any]]:
    """A factory, so that batches are now here, now there in memory; without threads, which would hide the format."""
    return partial(ReferenceLoader, dataset, batch_size=BATCH_SIZE, shuffle=True, num_workers=0)
