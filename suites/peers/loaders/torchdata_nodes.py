"""torchdata.nodes: a pipeline of stages instead of a DataLoader."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torchdata.nodes as tn
from torch.utils.data import RandomSampler, default_collate

from suites.peers.variant import Setting, Variant


class MapAndCollate:
    """A batch from a list of indices, sample by sample, as the migration guide writes it."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __call__(self, indices: list[int]) -> Any:
        return default_collate([self._dataset[index] for index in indices])


def _loader(setting: Setting, fetch: Callable[[list[int]], Any], workers: int, method: str) -> Any:
    # pytorch.org/data/0.11/migrate_to_nodes_from_utils.html
    regime = setting.regime
    sampler = tn.SamplerWrapper(RandomSampler(range(len(regime))))
    indices = tn.Batcher(sampler, batch_size=regime.batch_size, drop_last=False)
    if workers == 0:
        return tn.Loader(tn.Mapper(indices, fetch))
    node = tn.ParallelMapper(indices, fetch, num_workers=workers, method=method)
    return tn.Loader(tn.Prefetcher(node, prefetch_factor=2 * workers))


def peer(setting: Setting) -> list[Variant]:
    regime, cores = setting.regime, setting.cores
    one_by_one = MapAndCollate(regime.dataset)
    # The dataset of the map-only regime has __getitem__ alone.
    fetch = one_by_one if regime.map_only else regime.batched_dataset.__getitems__
    here = Variant("in process, batch of indices", partial(_loader, setting, fetch, 0, ""))
    threads = Variant(f"{cores} threads, batch of indices", partial(_loader, setting, fetch, cores, "thread"))
    others = [
        Variant(f"{cores} processes, batch of indices", partial(_loader, setting, fetch, cores, "process")),
        Variant("in process, MapAndCollate", partial(_loader, setting, one_by_one, 0, "")),
        Variant(f"{cores} threads, MapAndCollate", partial(_loader, setting, one_by_one, cores, "thread")),
    ]
    return [threads, here, *others] if regime.releases_gil else [here, threads, *others]
