"""The data layer: workload specs, the arrays they stand for, and torch datasets over them."""

from pytest_loaderperf.data.datasets import ArrayDataset, BatchedArrayDataset, as_is
from pytest_loaderperf.data.spec import WorkloadSpec, load_spec, workload_names
from pytest_loaderperf.data.workload import Workload, workload

__all__ = [
    "ArrayDataset",
    "BatchedArrayDataset",
    "Workload",
    "WorkloadSpec",
    "as_is",
    "load_spec",
    "workload",
    "workload_names",
]
