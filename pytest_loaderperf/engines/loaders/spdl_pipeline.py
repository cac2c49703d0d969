"""SPDL: stages on threads, tied together by an event loop; and its own loader with processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from spdl.pipeline import PipelineBuilder

from pytest_loaderperf.engines.setting import Setting
from pytest_loaderperf.engines.variant import Variant


class Indices:
    """An epoch of lists of ``size`` indices, random ones if ``shuffle``; of single ones if ``size`` is 0."""

    def __init__(self, samples: int, size: int, *, shuffle: bool = True) -> None:
        self._samples, self._size, self._shuffle = samples, size, shuffle

    def __iter__(self) -> Iterator[Any]:
        order = (torch.randperm if self._shuffle else torch.arange)(self._samples).tolist()
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
        """Stop its threads."""
        if self._started:
            self._pipeline.stop()


def by_batches(source: Indices, fetch: Callable[[list[int]], Any], threads: int, output_order: str) -> Any:
    """A pipeline of one stage, which makes a batch from a list of indices.

    facebookresearch.github.io/spdl/latest/getting_started/pytorch.html; the advice against collating sample by sample
    is in migration/pytorch.html, the continuous source in PipelineBuilder.add_source.
    """
    stage = PipelineBuilder().add_source(source, continuous=True)
    return stage.pipe(fetch, concurrency=threads, output_order=output_order).add_sink(threads)


def threads(setting: Setting) -> Variant:
    """Batches are made by threads."""
    dataset, collate = setting.dataset, setting.collate

    def fetch(indices: list[int]) -> Any:
        return collate([dataset[index] for index in indices])

    def make(*, shuffle: bool = True) -> Loop:
        source = Indices(setting.samples, setting.batch_size, shuffle=shuffle)
        order = "completion" if shuffle else "input"
        return Loop(partial(by_batches, source, fetch, setting.workers, order), setting.workers)

    return Variant(setting.threads, make, close=Loop.close, in_order=partial(make, shuffle=False))


def processes(setting: Setting) -> Variant:
    """Batches are made by processes, behind DataLoader's interface."""
    from spdl.dataloader import get_pytorch_dataloader

    in_order = partial(
        get_pytorch_dataloader,
        setting.dataset,
        setting.batch_size,
        num_workers=setting.workers,
        collate_fn=setting.collate,
        in_order=True,
    )
    make = partial(in_order, shuffle=True, in_order=False)
    return Variant(setting.processes, make, in_order=in_order)
