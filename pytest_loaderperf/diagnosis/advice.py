"""Settings that may suit this machine, each measured against the loader as it is, in pairs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Any

from pytest_loaderperf.diagnosis.findings import Gain
from pytest_loaderperf.diagnosis.ledger import EpochSeen, Ledger
from pytest_loaderperf.diagnosis.passes.changes import LEAST_EPOCHS, Change
from pytest_loaderperf.diagnosis.passes.running import PAIRS, gain_in_pairs, with_keeping
from pytest_loaderperf.errors import LoaderError

_WORTH = 1.05  # times faster, from which it is advice
_LEAST_SHARE = 0.02  # of the time, that a setting must be able to save
_LEAST_SECONDS = 1.2  # of a try: less says nothing
_TOO_LITTLE = 0.5  # of the planned time of a try: what must be left of it
_PREFETCH = 8
_FREE_SHARE = 2  # the free memory is divided by this: what may be taken of it
_UNKNOWN_SHARE = 0.3  # for what the ledger says nothing about
_PINNED_SHARE = 0.2
_THREADS_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Advice:
    """A constructor to write, and how many times faster it made the loader here. ``note``: what else it takes."""

    text: str
    gain: Gain
    note: str = ""

    @property
    def helps(self) -> bool:
        """Whether it was faster in every pair."""
        return self.gain.low >= _WORTH


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting to try, and the ``share`` of the time that it may save. ``epochs``: what it needs beside the others."""

    settings: dict[str, Any]
    share: float
    note: str = ""
    epochs: int = 0


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the timing pass says about settings, as shares of the time.

    ``start`` and end of epochs, ``work`` on samples, ``handed`` over between processes, ``uneven`` batches.
    """

    start: float
    work: float
    handed: float
    uneven: float


def not_tried(ledger: Ledger) -> str:
    """Why no settings are tried, in words; "" if they are."""
    loader = ledger.loader
    if not loader.torch_like:
        return "settings: the loader is not a DataLoader of torch"
    if loader.iterable:
        return "settings: what a stream gives depends on its workers"
    if any(site.random_states and not site.in_workers for site in ledger.sites):
        return "settings: the dataset draws from a generator of its own, which workers would share"
    if loader.open_files and not loader.num_workers:
        files = f"{loader.open_files} file{'s' * (loader.open_files != 1)}"
        return f"workers: the dataset keeps {files} open, which workers would share"
    return ""


def candidates(ledger: Ledger, threads: int | None) -> Iterator[Setting | str]:
    """Settings for a map-style dataset, in no order; those that are not safe or make no sense as a reason, in words.

    ``threads``: as of ``observe``.
    """
    seen, loader, cores = _seen(ledger), ledger.loader, ledger.cores
    yield from _of_workers(ledger, seen)
    yield Setting({"ReferenceLoader": True}, _UNKNOWN_SHARE)
    opens = any(event.kind == "open" and event.in_workers for event in ledger.events)
    parallel = seen.work * (1 - 1 / cores)
    for kind in ("threads", "processes"):
        if opens and kind == "threads":
            yield "ReferenceLoader(worker_kind='threads'): the dataset opens files, which threads would share"
        elif cores > 1:
            yield Setting({"ReferenceLoader": True, "worker_kind": kind, "num_workers": cores}, parallel)
    if loader.not_kept:
        yield f"optimize(dataset): {loader.not_kept}"
    elif loader.store_nbytes > loader.free_nbytes // _FREE_SHARE:
        yield f"optimize(dataset): it takes {_megabytes(loader)}, of which half may be taken"
    else:
        note = f"fits: {_megabytes(loader)}"
        yield Setting({"ReferenceLoader": True, "optimize": True}, max(seen.work, _UNKNOWN_SHARE), note, epochs=1)
    yield from _of_torch(ledger, threads)


def _of_torch(ledger: Ledger, threads: int | None) -> Iterator[Setting | str]:
    """Pinned memory, and the threads of torch's operations."""
    loader, cores = ledger.loader, ledger.cores
    if not loader.cuda:
        yield "pin_memory: no CUDA device here"
    elif not loader.pin_memory:
        yield Setting({"pin_memory": True}, _PINNED_SHARE, "with the copy to the GPU")
    if threads is not None:
        yield "torch.set_num_threads: threads of torch's operations cannot be observed from this process"
    elif cores > 1:
        each = max(1, cores // loader.num_workers) if loader.num_workers else 1
        if each in ledger.stages.threads.values():
            yield f"torch.set_num_threads: each of {loader.num_workers} workers has its share of {cores} cores"
        else:
            yield Setting({"threads": each}, _THREADS_SHARE)


def _of_workers(ledger: Ledger, seen: _Seen) -> Iterator[Setting | str]:
    """What concerns torch's own workers: how many, whether they stay, how far they work ahead."""
    loader, cores = ledger.loader, ledger.cores
    stays = not loader.set_epoch
    more: dict[str, Any] = {"num_workers": cores} | ({"persistent_workers": True} if stays else {})
    if loader.num_workers > cores:
        yield Setting(more, 1 - cores / loader.num_workers)
    elif cores > 1 and loader.num_workers != cores:
        yield Setting(more, seen.work * (1 - max(1, loader.num_workers) / cores))
    if not loader.num_workers:
        yield "persistent_workers, prefetch_factor: there are no workers"
        return
    yield Setting({"num_workers": 0}, max(seen.handed, seen.start, 1 - seen.work))
    if not stays:
        yield "persistent_workers: the dataset has set_epoch(), which workers that stay would not see"
    elif not loader.persistent_workers:
        yield Setting({"persistent_workers": True}, seen.start)
    ahead_nbytes = loader.num_workers * _PREFETCH * loader.batch_nbytes
    if (loader.prefetch_factor or 0) >= _PREFETCH:
        yield f"prefetch_factor: {loader.prefetch_factor} batches ahead are enough"
    elif 0 < loader.free_nbytes // _FREE_SHARE < ahead_nbytes:
        yield f"prefetch_factor: {ahead_nbytes / 1e6:,.0f} MB of batches ahead do not fit"
    else:
        yield Setting({"prefetch_factor": _PREFETCH}, seen.uneven)


def _seen(ledger: Ledger) -> _Seen:
    ns, workers = ledger.stages.ns, ledger.loader.num_workers
    whole = [epoch for epoch in ledger.timed if epoch.whole] or list(ledger.timed)
    wall_ns = max(1, sum(map(_epoch_ns, whole)))
    starts = sum(
        max(0.0, epoch.first_ns - epoch.waits_ns / max(1, epoch.batches - 1)) + epoch.exit_ns for epoch in whole
    )
    all_wall_ns = max(1, sum(map(_epoch_ns, ledger.timed))) * max(1, workers)
    work = ns.get("fetch", 0) + ns.get("collate", 0)
    handed = ns.get("send", 0) + ns.get("receive", 0)
    return _Seen(
        start=starts / wall_ns if workers else 0.0,
        work=min(1.0, work / all_wall_ns),
        handed=handed / max(1, work + handed),
        uneven=ledger.stages.slow_share,
    )


def _epoch_ns(epoch: EpochSeen) -> int:
    return epoch.first_ns + epoch.waits_ns + epoch.exit_ns


def _megabytes(loader: Any) -> str:
    return f"{ceil(loader.store_nbytes / 1e6):,} MB of {loader.free_nbytes / 1e9:,.1f} GB free"


def call_of(ledger: Ledger, settings: dict[str, Any]) -> str:
    """The constructor to write."""
    loader, chosen = ledger.loader, dict(settings)
    threads = chosen.pop("threads", None)
    if threads is not None and not loader.num_workers:
        return f"torch.set_num_threads({threads}), before DataLoader(dataset, batch_size={loader.batch_size}, ...)"
    name = "ReferenceLoader" if chosen.pop("ReferenceLoader", False) else "DataLoader"
    dataset = "optimize(dataset)" if chosen.pop("optimize", False) else "dataset"
    shown = {"batch_size": loader.batch_size}
    if loader.num_workers and name == "DataLoader":
        shown["num_workers"] = loader.num_workers
    shown |= chosen
    said = [f"{key}={value!r}" for key, value in shown.items()]
    if threads is not None:
        said.append(f"worker_init_fn=lambda _: torch.set_num_threads({threads})")
    return f"{name}({', '.join([dataset, *said])}, ...)"


def advise(
    source: object,
    ledger: Ledger,
    seconds: float,
    progress: Callable[[str], object],
    *,
    threads: int | None,
    **how: Any,
) -> tuple[tuple[Advice, ...], tuple[str, ...]]:
    """What settings bring that may save most, as many as ``seconds`` allow; and what was not tried, with the reason."""
    progress("reading a few samples twice")
    until = time.monotonic() + seconds
    ledger = with_keeping(source, ledger, threads=threads, **how)
    found = list(candidates(ledger, threads))
    untried = [one for one in found if isinstance(one, str)]
    settings = sorted((one for one in found if isinstance(one, Setting)), key=lambda one: -one.share)
    small = [call_of(ledger, one.settings) for one in settings if one.share < _LEAST_SHARE]
    untried += [f"{text}: it can save less than {_LEAST_SHARE:.0%} of the time" for text in small]
    worth = [one for one in settings if one.share >= _LEAST_SHARE]
    advice: list[Advice] = []
    late: list[str] = []
    for number, one in enumerate(worth):
        text, left = call_of(ledger, one.settings), until - time.monotonic()
        needs = max(_LEAST_SECONDS, _needed_seconds(ledger, one))
        if left < needs * _TOO_LITTLE:
            late.append(text)
            continue
        progress(f"trying {text}")
        tried_seconds = max(needs, left / (len(worth) - number))
        try:
            # Each pair is two passes, so half of the time is for each.
            gain = gain_in_pairs(source, Change.of_settings(one.settings), tried_seconds / 2, threads=threads, **how)
        except LoaderError as error:
            untried.append(f"{text}: {str(error).strip().splitlines()[-1]}")
            continue
        if gain is None:
            late.append(text)
        else:
            advice.append(Advice(text, Gain(gain[1], gain[0], gain[2], "measured"), one.note))
    if late:
        untried.append(f"for lack of time, give it more: {'; '.join(late)}")
    return tuple(advice), tuple(untried)


def _needed_seconds(ledger: Ledger, setting: Setting) -> float:
    """Time of a try: pairs of passes, each of so many epochs, as long as those that were timed."""
    epoch_ns = max(map(_epoch_ns, ledger.timed), default=0)
    return PAIRS * (2 * LEAST_EPOCHS + setting.epochs) * epoch_ns / 1e9
