"""Each way of the reference loader to make batches, on the same images."""

from __future__ import annotations

from itertools import product
from typing import Any

from ._case import CACHE_SECONDS, DEVICES, PAIRED, Figures, _Benchmarks, benchmarks, made_by, measured, usable

# The numbers of workers that a path exists with.
PATHS = {"arrays": (0, 2), "optimize": (0, 2), "samples": (0,), "threads": (2,), "processes": (2,)}
BATCH_SIZES, WORKERS = [32, 256], [0, 2]


def _cases(devices: list[str]) -> list[tuple[Any, ...]]:
    return [case for case in product(PATHS, BATCH_SIZES, WORKERS, devices) if case[2] in PATHS[case[0]]]


@benchmarks(PAIRED)
class Paths(_Benchmarks):
    """Arrays, a dataset that ``optimize`` has read, and samples: in this thread, on threads, in processes."""

    params = (list(PATHS), BATCH_SIZES, WORKERS, DEVICES)
    param_names = ("path", "batch_size", "workers", "device")

    def setup_cache(self) -> dict[tuple[Any, ...], Figures]:
        return measured(_cases(usable()), [(path, 32, PATHS[path][0], "cpu") for path in PATHS], made_by("of_path"))

    setup_cache.timeout = CACHE_SECONDS  # type: ignore[attr-defined]
