"""SPDL: stages on threads, tied together by an event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from spdl.dataloader import get_pytorch_dataloader
from spdl.pipeline import PipelineBuilder
from torch.utils.data import default_collate

from suites.peers.variant import Setting, Variant


class Shuffled:
    """An epoch of lists of ``size`` random indices; of single ones if ``size`` is 0."""

    def __init__(self, samples: int, size: int) -> None:
        self._samples, self._size = samples, size

    def __iter__(self) -> Iterator[Any]:
        order = torch.randperm(self._samples).tolist()
        if self._size == 0:
            yield from order
        else:
            yield from (order[start : start + self._size] for start in range(0, len(order), self._size))


class Loop:
    """A pipeline over a continuous source, which lives through the epochs; one iteration is one of them."""

    def __init__(self, builder: Callable[[], Any], threads: int) -> None:
        self._pipeline = builder().build(num_threads=threads)
        self._started = False

    def __iter__(self) -> Iterator[Any]:
        if not self._started:
            self._pipeline.start()
            self._started = True
        return iter(self._pipeline.get_iterator())

    def close(self) -> None:
        if self._started:
            self._pipeline.stop()


def _by_batches(setting: Setting, fetch: Callable[[list[int]], Any], threads: int) -> Any:
    # facebookresearch.github.io/spdl/latest/getting_started/pytorch.html; the advice against collating sample by
    # sample is in migration/pytorch.html, the continuous source in PipelineBuilder.add_source
    source = Shuffled(len(setting.regime), setting.regime.batch_size)
    return PipelineBuilder().add_source(source, continuous=True).pipe(fetch, concurrency=threads).add_sink(threads)


def _by_samples(setting: Setting, threads: int) -> Any:
    regime = setting.regime
    source = PipelineBuilder().add_source(Shuffled(len(regime), 0), continuous=True)
    samples = source.pipe(regime.dataset.__getitem__, concurrency=threads)
    return samples.aggregate(regime.batch_size).pipe(default_collate).add_sink(threads)


def _by_own_decoder(setting: Setting) -> Callable[[list[int]], Any] | None:
    # facebookresearch.github.io/spdl/latest/io/basic.html: FFmpeg decodes, resizes and crops, and frames of a batch are
    # converted to one array
    from spdl import io

    try:
        io.demux_image  # noqa: B018 which loads FFmpeg's libraries
    except RuntimeError:
        return None  # that are not installed
    raw, (height, width, _) = setting.regime.raw, setting.regime.shape
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
