"""SPDL: stages on threads, tied together by an event loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from spdl.dataloader import get_pytorch_dataloader
from spdl.pipeline import PipelineBuilder
from torch.utils.data import default_collate

from pytest_loaderperf.engines.loaders.spdl_pipeline import Indices, Loop, by_batches
from suites.peers.variant import Setting, Variant


def _by_batches(setting: Setting, fetch: Callable[[list[int]], Any], threads: int) -> Any:
    return by_batches(Indices(len(setting.regime), setting.regime.batch_size), fetch, threads, "completion")


def _by_samples(setting: Setting, threads: int) -> Any:
    regime = setting.regime
    source = PipelineBuilder().add_source(Indices(len(regime), 0), continuous=True)
    samples = source.pipe(regime.dataset.__getitem__, concurrency=threads)
    return samples.aggregate(regime.batch_size).pipe(default_collate).add_sink(threads)


def _by_own_decoder(setting: Setting) -> Callable[[list[int]], Any] | None:
    # facebookresearch.github.io/spdl/latest/io/basic.html: FFmpeg decodes, resizes and crops, and frames of a batch are
    # converted to one array
    from spdl import io

    raw, (height, width, _) = setting.regime.raw, setting.regime.shape
    try:
        io.demux_image(raw[0])  # which loads FFmpeg's libraries
    except RuntimeError:
        return None  # that are not installed
    grown = f"scale={width}:{height}:force_original_aspect_ratio=increase:flags=bilinear"
    filters = f"{grown},crop={width}:{height},format=pix_fmts=rgb24"

    def fetch(indices: list[int]) -> Any:
        frames = [io.decode_packets(io.demux_image(raw[index]), filter_desc=filters) for index in indices]
        return io.to_torch(io.convert_frames(frames)), torch.as_tensor(indices)

    return fetch


def peer(setting: Setting) -> list[Variant]:
    regime, cores = setting.regime, setting.cores
    dataset = regime.dataset

    def fetch(indices: list[int]) -> Any:
        return default_collate([dataset[index] for index in indices])

    batched = fetch if regime.map_only else regime.batched_dataset.__getitems__
    threads = {regime.releases_gil: 2 * cores, regime.in_arrays or regime.map_only: cores}.get(True, 1)
    found = []
    if regime.make_into is not None and (own := _by_own_decoder(setting)):
        for count in (cores, 2 * cores):
            loop = partial(Loop, partial(_by_batches, setting, own, count), count)
            found.append(Variant(f"its own decoder, {count} threads", loop, close=Loop.close))
    for count in dict.fromkeys((threads, 1, cores, 2 * cores)):
        loop = partial(Loop, partial(_by_batches, setting, batched, count), count)
        found.append(Variant(f"batches of indices, {count} threads", loop, close=Loop.close))
    loop = partial(Loop, partial(_by_samples, setting, cores), cores)
    found.append(Variant(f"samples, aggregated, {cores} threads", loop, close=Loop.close))
    apart = partial(get_pytorch_dataloader, dataset, regime.batch_size, shuffle=True, num_workers=cores)
    return [*found, Variant(f"PyTorchDataLoader, {cores} processes", apart)]
