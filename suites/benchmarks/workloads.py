"""Each workload in memory, shuffled, in the batches of its spec, by the reference loader over its arrays."""

from __future__ import annotations

from itertools import product

from ._case import CACHE_SECONDS, DEVICES, PAIRED, Figures, _Benchmarks, benchmarks, made_by, measured, usable

NAMES = ["vectors", "digits", "images", "photos", "tokens", "tables", "volumes", "imbalanced"]


@benchmarks(PAIRED)
class Workloads(_Benchmarks):
    """All data in memory, as arrays."""

    params = (NAMES, DEVICES)
    param_names = ("workload", "device")

    def setup_cache(self) -> dict[tuple[str, str], Figures]:
        return measured(product(NAMES, usable()), [("vectors", "cpu")], made_by("of_workload"))

    setup_cache.timeout = CACHE_SECONDS  # type: ignore[attr-defined]
