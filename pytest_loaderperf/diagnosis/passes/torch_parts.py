"""The parts of torch's DataLoader, timed: index, fetch, collate, the hand-over between processes, pinning.

Torch has no public hooks for these, so its own functions are wrapped, in a process that only observes.
"""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import util
from typing import Any

import psutil
import torch
from torch.utils.data import DataLoader, _utils, get_worker_info
from torch.utils.data import dataloader as torch_dataloader

from pytest_loaderperf.data.arrays.structure import is_nest
from pytest_loaderperf.diagnosis.passes.hand_over import HandOver
from pytest_loaderperf.diagnosis.passes.rewriting import users_frame
from pytest_loaderperf.diagnosis.passes.settings import applies, arguments
from pytest_loaderperf.diagnosis.passes.spans import Spans
from pytest_loaderperf.diagnosis.passes.values import digest
from pytest_loaderperf.measurement.activity import waited_for_cpu_ns
from pytest_loaderperf.measurement.structure import batch_leaves, batch_nbytes

_MOST_BATCHES = 255  # of a process, whose times are kept


class TorchParts:
    """Nanoseconds by stage, of this process. ``on_batch`` is called in a worker after each batch that it made.

    ``paused_ns`` gives the time that counting took in the current thread. ``on_stage`` is told when this thread begins
    a stage, and gives the one that it was in. ``spans`` keeps when each stage of which batch began and ended.
    """

    def __init__(
        self,
        on_batch: Callable[[], None],
        on_fork: Callable[[], None],
        paused_ns: Callable[[], int],
        on_stage: Callable[[str], str],
        spans: Spans,
    ) -> None:
        self.ns: dict[str, int] = {}
        self.batches = 0
        self.samples = 0
        self.sent_tensors = self.sent_nbytes = 0
        self.durations_ns: list[int] = []
        self.first_sample = ""
        self.loaders: list[Any] = []
        self.settings: dict[str, Any] = {}  # that are tried
        self.applied = False  # to a loader that was made
        self.made_at: dict[int, tuple[str, int]] = {}
        self.start_methods: dict[int, str] = {}
        self._on_batch, self._on_fork, self._paused_ns = on_batch, on_fork, paused_ns
        self._on_stage, self._spans = on_stage, spans
        self._hand_over = HandOver(self._add, spans)

    def forget(self) -> None:
        """In a forked worker: what the parent has seen is not this process's."""
        self.ns, self.batches, self.samples, self.durations_ns = {}, 0, 0, []
        self._hand_over.forget()

    def _add(self, stage: str, ns: int) -> None:
        self.ns[stage] = self.ns.get(stage, 0) + ns

    def _now_ns(self) -> int:
        """The time without what counting takes in this thread."""
        return time.perf_counter_ns() - self._paused_ns()

    def _timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            before = self._on_stage(stage)
            if before == stage:  # it calls itself, as pinning does
                return function(*args, **kwargs)
            began = self._now_ns()
            try:
                return function(*args, **kwargs)
            finally:
                ended = self._now_ns()
                self._on_stage(before)
                self._add(stage, ended - began)
                self._spans.add(stage, began, ended, self._hand_over.batch_of(stage, args))

        return timed

    def install(self, *, stages: bool = True) -> None:
        """Wrap torch's functions in this process, and so in the workers that it forks.

        Without ``stages`` only how loaders are made: timing each batch would slow down the fast one of two.
        """
        self._wrap_loader()
        if not stages:
            return
        base: Any = torch_dataloader._BaseDataLoaderIter  # noqa: SLF001 torch and the interpreter have no public name for it
        base._next_index = self._timed("index", base._next_index)  # noqa: SLF001 torch and the interpreter have no public name for it
        for fetcher in (_utils.fetch._MapDatasetFetcher, _utils.fetch._IterableDatasetFetcher):  # noqa: SLF001 torch and the interpreter have no public name for it
            self._wrap_fetcher(fetcher, counts_indices=fetcher is _utils.fetch._MapDatasetFetcher)  # noqa: SLF001 likewise
        _utils.pin_memory.pin_memory = self._timed("pin", _utils.pin_memory.pin_memory)
        self._hand_over.install()

    def _wrap_fetcher(self, fetcher: Any, *, counts_indices: bool) -> None:
        parts, fetch, start = self, fetcher.fetch, fetcher.__init__

        def started(self: Any, dataset: Any, auto: bool, collate_fn: Any, drop_last: bool) -> None:  # noqa: FBT001 torch's own signature
            collated = parts._counted(parts._timed("collate", collate_fn), auto=auto, counts=not counts_indices)
            start(self, dataset, auto, collated, drop_last)

        def fetched(self: Any, index: Any) -> Any:
            stage, before, waited = parts._on_stage("fetch"), parts.ns.get("collate", 0), waited_for_cpu_ns()
            began = parts._now_ns()
            try:
                batch = fetch(self, index)
                if not parts.sent_tensors and get_worker_info() is not None:
                    parts.sent_tensors, parts.sent_nbytes = sent(batch)
                return batch
            finally:
                ended = parts._now_ns()
                ns = ended - began
                parts._on_stage(stage)
                parts._spans.add("fetch", began, ended, iteration=parts._spans.iteration)
                if counts_indices:
                    parts.samples += len(index) if isinstance(index, (list, tuple)) else 1
                parts._add("fetch", ns - (parts.ns.get("collate", 0) - before))
                parts.batches += 1
                parts.durations_ns = [*parts.durations_ns[-_MOST_BATCHES:], ns - waited_for_cpu_ns() + waited]
                if get_worker_info() is not None:
                    parts._on_batch()
                    parts._hand_over.waits()

        fetcher.__init__, fetcher.fetch = started, fetched

    def _counted(self, collate: Callable[[Any], Any], *, auto: bool, counts: bool) -> Callable[[Any], Any]:
        """``collate``, which also tells how many samples a stream gave: a map-style dataset is asked for so many."""

        def collated(samples: Any) -> Any:
            if counts:
                self.samples += len(samples) if auto and hasattr(samples, "__len__") else 1
            if not self.first_sample:
                first = samples[0] if auto and isinstance(samples, list) and samples else samples
                self.first_sample = digest(first) or "?"
            return collate(samples)

        return collated

    def _wrap_loader(self) -> None:
        parts, start, iterate = self, DataLoader.__init__, DataLoader.__iter__

        def started(self: Any, *args: Any, **kwargs: Any) -> None:
            frame = users_frame(2)
            start(self, *args, **parts._changed(kwargs))
            if frame is not None:
                parts.made_at.setdefault(id(self), (frame.f_code.co_filename, frame.f_lineno))
            parts.loaders.append(self)

        def iterated(self: Any) -> Any:
            if self not in parts.loaders:
                parts.loaders.append(self)
            parts._fork_only(self)
            return iterate(self)

        DataLoader.__init__ = started  # type: ignore[method-assign]
        DataLoader.__iter__ = iterated  # type: ignore[method-assign]
        util.register_after_fork(self, TorchParts._forked)

    def _changed(self, given: dict[str, Any]) -> dict[str, Any]:
        """Arguments of a loader with the settings that are tried."""
        self.applied = self.applied or applies(self.settings, given)
        return arguments(self.settings, given)

    def _fork_only(self, loader: Any) -> None:
        """Let its workers be forked, so that they can be seen; keep what the user had chosen."""
        if not loader.num_workers:
            return
        context = loader.multiprocessing_context
        chosen = context.get_start_method() if context is not None else multiprocessing.get_start_method()
        self.start_methods.setdefault(id(loader), chosen)
        if chosen != "fork":
            loader.multiprocessing_context = multiprocessing.get_context("fork")

    def _forked(self) -> None:
        self.forget()
        self._on_fork()


def pickled_nbytes(dataset: object) -> int:
    """Bytes that a worker which does not fork receives of the dataset; 0 if it cannot be pickled."""
    try:
        return len(pickle.dumps(dataset, pickle.HIGHEST_PROTOCOL))
    except Exception:  # noqa: BLE001 code of the user's or a library's, which may raise anything
        return 0


def sent(batch: object) -> tuple[int, int]:
    """How many tensors a batch hands over, each on its own, and bytes; also those in a list of objects."""
    leaves = [leaf for _, leaf in batch_leaves(batch)]
    parts = [sent(part) for leaf in leaves if isinstance(leaf, list) for part in leaf if is_nest(part)]
    tensors = sum(isinstance(leaf, torch.Tensor) for leaf in leaves)
    return tensors + sum(count for count, _ in parts), batch_nbytes(batch) + sum(nbytes for _, nbytes in parts)


def end_workers(loaders: list[Any]) -> None:
    """End persistent workers, so that they write what they saw."""
    for loader in loaders:
        iterator: Any = getattr(loader, "_iterator", None)
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()  # noqa: SLF001 torch and the interpreter have no public name for it
    gc.collect()
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            child.wait(2)
