"""LitData: chunks on disk, written once by ``optimize``."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from litdata import StreamingDataLoader, StreamingDataset, optimize

from suites.peers.variant import Setting, Unable, Variant, columns_x_y


class Sample:
    """What ``optimize`` stores for an index."""

    def __init__(self, setting: Setting) -> None:
        self._raw, self._in_arrays = setting.regime.raw, setting.regime.in_arrays

    def __call__(self, index: int) -> dict[str, Any]:
        raw = self._raw[index]
        return {"x": np.ascontiguousarray(raw) if self._in_arrays else raw, "y": index}


def _close(loader: Any) -> None:
    if getattr(loader, "_iterator", None) is not None:
        loader._iterator._shutdown_workers()  # noqa: SLF001 persistent workers have no public end


def peer(setting: Setting) -> list[Variant]:
    # lightning-ai.github.io/litdata and the README, "Option 2: optimize" and "Transform datasets while streaming"
    regime, cores, make = setting.regime, setting.cores, setting.regime.make
    if regime.map_only:
        raise Unable("reads its own chunks, not a dataset's __getitem__")
    chunks = str(setting.folder / "chunks")
    indices = list(range(len(regime)))
    optimize(Sample(setting), indices, chunks, chunk_bytes="64MB", num_workers=1, start_method="fork", verbose=False)

    def made(sample: dict[str, Any]) -> dict[str, Any]:
        return {"x": torch.from_numpy(make(sample["x"])), "y": sample["y"]}

    def loader(workers: int) -> Any:
        dataset = StreamingDataset(chunks, shuffle=True, transform=None if regime.in_arrays else made)
        return StreamingDataLoader(
            dataset, batch_size=regime.batch_size, num_workers=workers, persistent_workers=workers > 0
        )

    found = [
        Variant("num_workers=0", partial(loader, 0), columns_x_y),
        Variant(f"num_workers={cores}", partial(loader, cores), columns_x_y, _close),
    ]
    return found[::-1] if regime.releases_gil else found
