"""Whether all samples of a dataset could be kept in memory: tried with a few of them."""

from __future__ import annotations

import time
import warnings
from contextlib import suppress
from typing import Any

import numpy as np
import psutil
import torch

from pytest_loaderperf.data import optimize
from pytest_loaderperf.errors import DataError, FrozenAugmentationWarning
from pytest_loaderperf.measurement.structure import batch_leaves

_TRIED = 8  # samples: a choice between two that is drawn for each read is missed once in 256 times
_MOST_SECONDS = 1.0  # for them
_MOST_LEAVES = 64  # of a batch, that are described


class _Some:
    """A few samples of a dataset, from its start to its end. Raises TimeoutError if they take too long."""

    def __init__(self, dataset: Any, samples: int) -> None:
        self._dataset, self._places = dataset, sorted({round(n) for n in np.linspace(0, samples - 1, _TRIED)})
        self._until = time.perf_counter() + _MOST_SECONDS

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> Any:
        if time.perf_counter() > self._until:
            raise TimeoutError
        return self._dataset[self._places[place]]


def kept_in_memory(loader: Any) -> dict[str, Any]:
    """Facts of a loader: bytes of all its samples as arrays, of free memory, and why they cannot be kept, or "".

    ``optimize`` reads a few samples twice, which must be equal.
    """
    nbytes, reason = 0, ""
    try:
        samples = len(loader.dataset)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", FrozenAugmentationWarning)
            some = optimize(_Some(loader.dataset, samples))
        nbytes = sum(column.rows.nbytes for column in some.columns.columns) * samples // len(some)
    except FrozenAugmentationWarning:
        reason = "two reads of a sample differ, and it would be the same in every epoch"
    except TimeoutError:
        reason = f"reading {_TRIED} samples takes more than {_MOST_SECONDS:.0f} s"
    except DataError as error:
        reason = str(error).partition(". ")[0]
    except Exception as error:  # noqa: BLE001 code of the user's or a library's, which may raise anything
        reason = f"reading a few samples raised {type(error).__name__}"
    return {"store_nbytes": nbytes, "free_nbytes": int(psutil.virtual_memory().available), "not_kept": reason}


def moved(batch: Any) -> Any:
    """The batch after its tensors have arrived on the GPU."""
    for _, leaf in batch_leaves(batch):
        if isinstance(leaf, torch.Tensor):
            leaf.to("cuda", non_blocking=True)
    torch.cuda.synchronize()
    return batch


def batch_kind(batch: object) -> str:
    """Type, dtype and dimensions of each part of a batch, to compare with that of another loader."""
    parts = []
    with suppress(Exception):  # a batch of the user's own type, whose methods may raise
        for path, leaf in batch_leaves(batch):
            array = isinstance(leaf, (torch.Tensor, np.ndarray))
            parts.append(f"{path}: {type(leaf).__name__}" + (f" {leaf.dtype} {leaf.ndim}" if array else ""))  # type: ignore[attr-defined]
            if len(parts) == _MOST_LEAVES:
                break
    return ", ".join(parts)
