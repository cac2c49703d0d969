"""The data layer: workload specs, torch datasets made from them, tensors without copies, pre-load."""

from pytest_loaderperf.data.arrays.tensors import CopyNeededError, as_rows, as_tensor
from pytest_loaderperf.data.checks.check import check
from pytest_loaderperf.data.checks.findings import CheckResult, Problem
from pytest_loaderperf.data.choice import optimize
from pytest_loaderperf.data.execution.executor import PersistentExecutor
from pytest_loaderperf.data.split import split
from pytest_loaderperf.data.workloads.datasets import ArrayDataset, BatchedArrayDataset, RaggedDataset, as_is
from pytest_loaderperf.data.workloads.make import Made, make
from pytest_loaderperf.data.workloads.spec import WorkloadSpec, load_spec, workload_names
from pytest_loaderperf.data.workloads.workload import Workload, workload

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
