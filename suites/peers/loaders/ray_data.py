"""Ray Data: blocks in an object store, on a local cluster that runs before anything is measured."""

from __future__ import annotations

import atexit
import logging
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import torch
from ray.data.extensions import ArrowTensorArray

from suites.peers.variant import Epochs, Setting, Unable, Variant, columns_x_y

STORE_NBYTES = 1 << 30  # of shared memory: ten times the largest regime
BLOCKS_A_CORE = 2
BUFFERED = 1_000  # rows; for arrays all of them, which is as fast and shuffles fully


def _table(setting: Setting) -> pa.Table:
    regime = setting.regime
    column = ArrowTensorArray.from_numpy(regime.raw) if regime.in_arrays else pa.array(list(regime.raw))
    return pa.table({"x": column, "y": regime.labels})


def _start(cores: int) -> None:
    ray.init(
        num_cpus=cores,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=STORE_NBYTES,
    )
    atexit.register(ray.shutdown)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def peer(setting: Setting) -> list[Variant]:
    # docs.ray.io/en/latest/data/iterating-over-data.html and shuffling-data.html: a local shuffle while iterating,
    # blocks in random order; DataIterator.iter_torch_batches: collate_fn runs on the prefetching threads
    regime, cores = setting.regime, setting.cores
    if regime.map_only:
        raise Unable("reads its own blocks, not a dataset's __getitem__")
    _start(cores)
    table, make = _table(setting), regime.make
    rows = -(-len(regime) // (BLOCKS_A_CORE * cores))
    blocks = ray.data.from_arrow([table.slice(start, rows) for start in range(0, len(regime), rows)]).materialize()
    shuffled = blocks.randomize_block_order()

    def loader(data: Any, buffered: int, **more: Any) -> Any:
        size = regime.batch_size
        return Epochs(
            lambda: data.iter_torch_batches(batch_size=size, local_shuffle_buffer_size=buffered, device="cpu", **more)
        )

    def made(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"x": np.stack([make(raw) for raw in batch["x"]]), "y": batch["y"]}

    def tensors(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
        return {name: torch.as_tensor(column) for name, column in made(batch).items()}

    if regime.in_arrays:
        return [
            Variant("local shuffle of all rows", partial(loader, blocks, len(regime), prefetch_batches=4), columns_x_y),
            Variant("local shuffle, prefetch 1", partial(loader, blocks, len(regime)), columns_x_y),
        ]
    collates = partial(loader, shuffled, BUFFERED, prefetch_batches=2 * cores, collate_fn=tensors)
    maps = partial(loader, shuffled.map_batches(made, batch_size=256), BUFFERED)
    return [
        Variant(f"collate_fn, local shuffle({BUFFERED:,})", collates, columns_x_y),
        Variant(f"map_batches, local shuffle({BUFFERED:,})", maps, columns_x_y),
    ]
