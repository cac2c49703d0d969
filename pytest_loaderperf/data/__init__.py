"""The data layer: workload specs, torch datasets over them, tensors without copies, pre-load."""

from pytest_loaderperf.data.check import check
from pytest_loaderperf.data.datasets import ArrayDataset, BatchedArrayDataset, RaggedDataset, as_is
from pytest_loaderperf.data.executor import PersistentExecutor
from pytest_loaderperf.data.findings import CheckResult, Problem
from pytest_loaderperf.data.make import Made, make
from pytest_loaderperf.data.spec import WorkloadSpec, load_spec, workload_names
from pytest_loaderperf.data.split import split
from pytest_loaderperf.data.stores.choice import optimize
from pytest_loaderperf.data.tensors import CopyNeededError, as_rows, as_tensor
from pytest_loaderperf.data.workload import Workload, workload

__all__ = [
    "ArrayDataset",
    "BatchedArrayDataset",
    "CheckResult",
    "CopyNeededError",
    "Made",
    "PersistentExecutor",
    "Problem",
    "RaggedDataset",
    "Workload",
    "WorkloadSpec",
    "as_is",
    "as_rows",
    "as_tensor",
    "check",
    "load_spec",
    "make",
    "optimize",
    "split",
    "workload",
    "workload_names",
]
