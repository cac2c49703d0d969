"""Hugging Face datasets: an Arrow table."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from pytest_loaderperf.data import as_is
from pytest_loaderperf.engines.loaders.torch_dataloader import close
from suites.peers.variant import Setting, Unable, Variant, columns_x_y


def _arrays(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(batch["x"]), torch.from_numpy(batch["y"])


def _whole_batches(table: Any, size: int, **more: Any) -> DataLoader[Any]:
    # huggingface/datasets pull request 5440, "Fix documentation about batch samplers": a list of indices reads a batch
    return DataLoader(table, sampler=BatchSampler(RandomSampler(table), size, drop_last=False), batch_size=None, **more)


def _of_arrays(setting: Setting) -> list[Variant]:
    regime, size = setting.regime, setting.regime.batch_size
    # The page's advice for fixed shapes: a type that carries the length spares the comparison of shapes.
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(regime.raw)), regime.shape[0])
    table = Dataset(pa.table({"x": rows, "y": regime.labels}))
    tensors, plain = table.with_format("torch"), table.with_format("numpy")
    return [
        Variant("numpy format, BatchSampler", partial(_whole_batches, plain, size, collate_fn=as_is), _arrays),
        Variant("torch format, BatchSampler", partial(_whole_batches, tensors, size, collate_fn=as_is), columns_x_y),
        Variant("torch format, DataLoader", partial(DataLoader, tensors, size, shuffle=True), columns_x_y),
    ]


def peer(setting: Setting) -> list[Variant]:
    regime, cores, size = setting.regime, setting.cores, setting.regime.batch_size
    if regime.map_only:
        raise Unable("reads its own Arrow table, not a dataset's __getitem__")
    if regime.in_arrays:
        return _of_arrays(setting)
    make = regime.make

    def transform(rows: dict[str, Any]) -> dict[str, Any]:
        return {"x": torch.from_numpy(np.stack([make(raw) for raw in rows["x"]])), "y": torch.as_tensor(rows["y"])}

    # huggingface.co/docs/datasets/process, "Format transform"
    table = Dataset(pa.table({"x": pa.array(list(regime.raw)), "y": regime.labels})).with_transform(transform)
    here = partial(_whole_batches, table, size, collate_fn=as_is)
    apart = partial(here, num_workers=cores, persistent_workers=True)
    found = [
        Variant("with_transform, BatchSampler", here, columns_x_y),
        Variant(f"with_transform, num_workers={cores}", apart, columns_x_y, close),
    ]
    return found[::-1] if regime.releases_gil else found
