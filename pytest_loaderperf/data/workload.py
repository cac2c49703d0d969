"""A workload: its spec, its arrays, and a torch dataset over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_loaderperf.data.datasets import ArrayDataset, BatchedArrayDataset
from pytest_loaderperf.data.spec import WorkloadSpec, load_spec
from pytest_loaderperf.data.synthetic import make_arrays


@dataclass(frozen=True, slots=True, eq=False)
class Workload:
    """``features`` of shape ``(samples, *shape)`` and int64 ``labels`` of shape ``(samples,)``, made from ``spec``."""

    spec: WorkloadSpec
    features: np.ndarray
    labels: np.ndarray

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """``(features, labels)``, as ReferenceLoader takes them."""
        return self.features, self.labels

    @property
    def nbytes(self) -> int:
        return self.features.nbytes + self.labels.nbytes

    def dataset(self, *, batched: bool = False) -> ArrayDataset:
        """A map-style torch dataset; with ``batched`` it also has ``__getitems__``."""
        return (BatchedArrayDataset if batched else ArrayDataset)(self.features, self.labels)


def workload(name: str) -> Workload:
    """Make the workload called ``name`` (or the spec at the path ``name``). Raises DataError as ``load_spec`` does."""
    spec = load_spec(name)
    return Workload(spec, *make_arrays(spec))
