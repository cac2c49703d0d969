"""The data layer: workload specs, the arrays they stand for, torch datasets over them, and tensors without copies."""

from pytest_loaderperf.data.datasets import ArrayDataset, BatchedArrayDataset, as_is
from pytest_loaderperf.data.spec import WorkloadSpec, load_spec, workload_names
from pytest_loaderperf.data.tensors import CopyNeededError, as_rows, as_tensor
from pytest_loaderperf.data.workload import Workload, workload

__all__ = [
    "ArrayDataset",
    "BatchedArrayDataset",
    "CopyNeededError",
    "Workload",
    "WorkloadSpec",
    "as_is",
    "as_rows",
    "as_tensor",
    "load_spec",
    "workload",
    "workload_names",
]
