"""Loaders as projects use them, each with a dataset whose samples take a known time.

A factory imports its library itself: ModuleNotFoundError if it is not installed. An epoch has 3,000 batches.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

from suites.calibration.wild import libraries, plain
from suites.calibration.wild.samples import BATCH_SIZE, Setting

__all__ = ["BATCH_SIZE", "KINDS", "Setting", "first_batches", "samples_of"]

Make = Callable[[Setting], Any]
KINDS: dict[str, Make] = {
    "DataLoader, in process": plain.in_process,
    "DataLoader, 2 workers": plain.workers,
    "DataLoader, 2 persistent workers": plain.persistent_workers,
    "DataLoader, IterableDataset, 2 workers": plain.iterable_workers,
    "ReferenceLoader, 2 threads": plain.reference_threads,
    "ReferenceLoader, 2 processes": plain.reference_processes,
    "wrapper (cellmap-data-like)": plain.Wrapper,
    "loader hidden in a dataset (torchio.Queue-like)": plain.hidden_workers,
    "threads and a queue (SPDL-like)": plain.Threads,
    "Arrow scanner": plain.ArrowScanner,
    "StatefulDataLoader, 2 workers": libraries.stateful_data_loader,
    "torchdata.nodes, 2 threads": libraries.nodes_threads,
    "torchdata.nodes, 2 processes": libraries.nodes_processes,
    "SPDL pipeline, 2 threads": libraries.SpdlPipeline,
    "SPDL PyTorchDataLoader, 2 processes": libraries.spdl_processes,
    "Grain, 2 threads": libraries.grain_threads,
    "Grain, 2 processes": libraries.grain_processes,
    "HF datasets, 2 workers": libraries.hf_datasets,
    "HF datasets streamed, shuffled, 2 workers": libraries.hf_streaming,
    "LitData, 2 workers": libraries.lit_data,
    "WebDataset, 2 workers": libraries.web_dataset,
    "Ray Data": libraries.RayBatches,
    "tensordict batches, 2 workers": libraries.tensor_dict,
    "MONAI ThreadDataLoader, 2 threads": libraries.monai_threads,
    "fastai, 2 workers": libraries.fastai_loader,
    "TorchIO queue": libraries.torchio_queue,
}


def samples_of(name: str) -> Callable[[Any], int] | None:
    """``count=`` for batches whose structure does not show the number of samples; None for all others."""
    return {"Arrow scanner": len, "TorchIO queue": len}.get(name)


def first_batches(name: str, setting: Setting, number: int) -> list[Any]:
    """So many batches of a loader of that kind."""
    return list(islice(iter(KINDS[name](setting)), number))
