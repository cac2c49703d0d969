"""WebDataset: samples in tar files, read in sequence and shuffled in a buffer."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
import webdataset as wds

from suites.peers.variant import Setting, Unable, Variant

BUFFERED = 1_000  # samples, the number in WebDataset's own examples
SHARDS_A_CORE = 4


def _stored(raw: Any) -> bytes:
    if isinstance(raw, np.ndarray):
        return raw.tobytes()
    return raw.encode() if isinstance(raw, str) else bytes(raw)


def _write(setting: Setting) -> list[str]:
    samples = len(setting.regime)
    per_shard = -(-samples // (SHARDS_A_CORE * setting.cores))
    with wds.ShardWriter(str(setting.folder / "%04d.tar"), maxcount=per_shard, verbose=0) as writer:
        for index, raw in enumerate(setting.regime.raw):
            writer.write({"__key__": f"{index:08d}", "x": _stored(raw), "cls": index})
    return sorted(map(str, setting.folder.glob("*.tar")))


def _unpack(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.as_tensor(batch[0]), torch.as_tensor(batch[1])


def peer(setting: Setting) -> list[Variant]:
    # webdataset.github.io/webdataset/sharding: batch inside the dataset, batch_size=None in the loader
    regime, cores, make = setting.regime, setting.cores, setting.regime.make
    if regime.map_only:
        raise Unable("reads its own tar files, not a dataset's __getitem__")
    shards = _write(setting)
    is_text = isinstance(regime.raw[0], str)

    def sample(stored: dict[str, bytes]) -> tuple[np.ndarray, int]:
        if regime.in_arrays:
            return np.frombuffer(stored["x"], np.float32), int(stored["cls"])
        return make(stored["x"].decode() if is_text else stored["x"]), int(stored["cls"])

    def loader(workers: int) -> Any:
        raw = wds.WebDataset(shards, shardshuffle=len(shards)).shuffle(BUFFERED)
        batches = raw.map(sample).batched(regime.batch_size)
        return wds.WebLoader(batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0)

    return [
        Variant(f"{cores} workers, shuffle({BUFFERED:,})", partial(loader, cores), _unpack),
        Variant(f"0 workers, shuffle({BUFFERED:,})", partial(loader, 0), _unpack),
    ]
