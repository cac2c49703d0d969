"""The reference loader and torch's DataLoader with data in memory, interleaved in one run."""

from __future__ import annotations

from torch.utils.data import DataLoader

from pytest_loaderperf import ReferenceLoader, measure
from pytest_loaderperf.data import workload

WORKLOADS = ("vectors", "digits")
LOADERS = ("reference loader", "torch DataLoader")
LOOK_SECONDS = 3.0  # some hundred trials of each side


def _seconds_per_sample(name: str) -> dict[str, float]:
    data = workload(name)
    dataset, batch_size = data.dataset(), data.spec.batch_size

    def reference():
        return ReferenceLoader(data.arrays, batch_size, shuffle=True)

    def plain():
        return DataLoader(dataset, batch_size, shuffle=True)

    with measure(reference, against=plain) as run:
        run.look_until(LOOK_SECONDS)
        return {
            LOADERS[0]: 1 / run.throughput.value,
            LOADERS[1]: 1 / run.against.throughput.value,
            "ratio": 1 / run.ratio("loader", "against").value,
        }


class InMemory:
    """Both loaders on both workloads."""

    timeout = 120

    def setup_cache(self):
        return {name: _seconds_per_sample(name) for name in WORKLOADS}

    def track_seconds_per_sample(self, results, name, loader):
        return results[name][loader]

    track_seconds_per_sample.params = (WORKLOADS, LOADERS)
    track_seconds_per_sample.param_names = ("workload", "loader")
    track_seconds_per_sample.unit = "seconds"

    def track_time_ratio(self, results, name):
        """Time of the reference loader divided by that of torch's DataLoader: the median of pairs."""
        return results[name]["ratio"]

    track_time_ratio.params = WORKLOADS
    track_time_ratio.param_names = ("workload",)
    track_time_ratio.unit = "x"
