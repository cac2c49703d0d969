"""torchdata.nodes: a pipeline of stages instead of a DataLoader."""

from __future__ import annotations

from functools import partial

from pytest_loaderperf.engines.loaders.torchdata_nodes import MapAndCollate, pipeline
from suites.peers.variant import Setting, Variant


def peer(setting: Setting) -> list[Variant]:
    regime, cores = setting.regime, setting.cores
    samples, size = len(regime), regime.batch_size
    one_by_one = MapAndCollate(regime.dataset)
    # The dataset of the map-only regime has __getitem__ alone.
    fetch = one_by_one if regime.map_only else regime.batched_dataset.__getitems__
    here = Variant("in process, batch of indices", partial(pipeline, samples, size, fetch, 0))
    threads = Variant(f"{cores} threads, batch of indices", partial(pipeline, samples, size, fetch, cores, "thread"))
    others = [
        Variant(f"{cores} processes, batch of indices", partial(pipeline, samples, size, fetch, cores, "process")),
        Variant("in process, MapAndCollate", partial(pipeline, samples, size, one_by_one, 0)),
        Variant(f"{cores} threads, MapAndCollate", partial(pipeline, samples, size, one_by_one, cores, "thread")),
    ]
    return [threads, here, *others] if regime.releases_gil else [here, threads, *others]
