"""torchdata.nodes: a pipeline of stages instead of a DataLoader."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torchdata.nodes as tn
from torch.utils.data import RandomSampler, SequentialSampler, default_collate

from pytest_loaderperf.engines.setting import Setting
from pytest_loaderperf.engines.variant import Variant


class MapAndCollate:
    """A batch from a list of indices, sample by sample, as the migration guide writes it."""

    def __init__(self, dataset: Any, collate: Callable[[Any], Any] = default_collate) -> None:
        self._dataset, self._collate = dataset, collate

    def __call__(self, indices: list[int]) -> Any:
        return self._collate([self._dataset[index] for index in indices])


def pipeline(
    samples: int,
    batch_size: int,
    fetch: Callable[[list[int]], Any],
    workers: int,
    method: str = "thread",
    *,
    shuffle: bool = True,
) -> Any:
    """pytorch.org/data/0.11/migrate_to_nodes_from_utils.html: indices, batches of them, and ``fetch`` for each."""
    sampler = (RandomSampler if shuffle else SequentialSampler)(range(samples))
    indices = tn.Batcher(tn.SamplerWrapper(sampler), batch_size=batch_size, drop_last=False)
    if workers == 0:
        return tn.Loader(tn.Mapper(indices, fetch))
    node = tn.ParallelMapper(indices, fetch, num_workers=workers, method=method)
    return tn.Loader(tn.Prefetcher(node, prefetch_factor=2 * workers))


def in_process(setting: Setting) -> Variant:
    """In the consumer's thread."""
    return _variant(setting, 0, "in process")


def threads(setting: Setting) -> Variant:
    """Batches are made by threads."""
    return _variant(setting, setting.workers, setting.threads)


def _variant(setting: Setting, workers: int, how: str) -> Variant:
    fetch = MapAndCollate(setting.dataset, setting.collate)
    make = partial(pipeline, setting.samples, setting.batch_size, fetch, workers)
    return Variant(how, make, in_order=partial(make, shuffle=False))
