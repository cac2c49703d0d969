"""One paired measurement of a loader, torch's DataLoader and the roofline serves all benchmarks of a case."""

from __future__ import annotations

import gc
import math
import os
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from pytest_loaderperf import measure, ms

QUICK = bool(os.environ.get("LOADERPERF_ASV_QUICK"))  # fewer cases, each for a shorter time
FOLDER = Path(__file__).parents[2] / ".loaderperf/asv"  # of data that are written once
SECONDS = 1.0 if QUICK else 3.0  # of turns of both loaders
REPEATS = 1 if QUICK else 3  # of what needs a new epoch: its start, its end, its memory
DOCTOR_SECONDS = 0.3
STEP = 1 * ms  # of the training loop that data wait is about
CACHE_SECONDS = 1800.0  # until asv gives up on a class; it takes minutes

Figures = dict[str, Any]
Case = tuple[Any, ...]
Made = tuple[Callable[[], Any], Callable[[], Any]]  # how to make the loader, and torch's
# name: unit, words
PAIRED = {
    "time_to_dataloader": ("x", "time / that of torch's DataLoader"),
    "time_to_roofline": ("x", "time / that of the machine's copy limit"),
    "seconds_per_sample": ("seconds", "seconds per sample"),
    "batch_latency_p50": ("seconds", "batch latency, median"),
    "batch_latency_p99": ("seconds", "batch latency, p99"),
    "first_batch": ("seconds", "time to first batch"),
    "epoch_exit": ("seconds", "epoch exit"),
    "data_wait": ("of the loop", f"data-wait fraction of a {STEP} step"),
    "cpu_seconds_per_1k": ("seconds", "CPU seconds per 1,000 samples"),
    "peak_memory": ("bytes", "peak memory"),
    "copies_per_batch": ("calls", "copies per batch in the dataset's code"),
    "executors_made": ("calls", "executors made in an epoch"),
    "files_opened": ("files", "files opened in an epoch"),
}


class _Benchmarks:
    """Benchmarks that read ``figures[case]``. The values may change their meaning only with ``version``."""

    version = "1"
    timeout = 60.0
    params: Any = ()
    param_names: Any = ()

    def setup(self, figures: Mapping[Case, Figures], *case: Any) -> None:
        if "cuda" in case and not torch.cuda.is_available():
            raise NotImplementedError("there is no GPU")
        found = figures.get(case, {"skipped": "not part of a quick run"})
        if "skipped" in found:
            raise NotImplementedError(found["skipped"])
        if "failed" in found:
            raise RuntimeError(found["failed"])


def benchmarks(metrics: Mapping[str, tuple[str, str]]) -> Callable[[type], type]:
    """A class decorator that adds ``track_NAME`` for each metric; what was not measured is NaN: not available."""

    def decorate(cls: type) -> type:
        for name, (unit, words) in metrics.items():
            setattr(cls, f"track_{name}", _reader(name, unit, words))
        return cls

    return decorate


def _reader(name: str, unit: str, words: str) -> Any:
    def read(_self: Any, figures: Mapping[Case, Figures], *case: Any) -> float:
        return figures[case].get(name, math.nan)

    read.__name__, read.unit, read.pretty_name = f"track_{name}", unit, words  # type: ignore[attr-defined]
    read.__doc__ = words
    return read


def measured(cases: Iterable[Case], quick: Iterable[Case], one: Callable[..., Figures]) -> dict[Case, Figures]:
    """The figures of each case, or why there are none: ``one(*case, opened)`` measures it.

    A case that needs what the measured commit does not have raises ImportError, and is skipped.
    """
    figures: dict[Case, Figures] = {}
    for case in quick if QUICK else cases:
        with ExitStack() as opened:
            try:
                figures[case] = one(*case, opened)
            except (NotImplementedError, ImportError) as error:
                figures[case] = {"skipped": str(error)}
            except Exception:  # noqa: BLE001 the other cases are measured all the same
                figures[case] = {"failed": traceback.format_exc()}
        gc.collect()
    return figures


def paired(make: Callable[[], Any], plain: Callable[[], Any], device: str = "cpu") -> Figures:
    """All figures of a loader that ``make`` makes, in turns with ``plain``, torch's."""
    figures: Figures = {}
    with measure(make, against=plain, device=device) as run:
        run.look_until(SECONDS)
        metrics = {
            "throughput": run.throughput,
            "batch_latency_p50": run.batch_latency.p50,
            "batch_latency_p99": run.batch_latency.p99,
            "first_batch": run.first_batch,
            "epoch_exit": run.epoch_exit,
            "data_wait": run.data_wait(step=STEP),
            "cpu_seconds_per_1k": run.cpu_seconds_per_1k,
            "peak_memory": run.peak_memory,
        }
        for name in ("epoch_exit", "data_wait", "peak_memory"):
            for _ in range(REPEATS - 1):
                run.rounds.observe([metrics[name].key])
        figures.update({name: metric.value for name, metric in metrics.items()})
        figures["seconds_per_sample"] = 1 / figures.pop("throughput")
        for other, name in (("against", "time_to_dataloader"), ("roofline", "time_to_roofline")):
            figures[name] = 1 / run.ratio("loader", other).value
    return figures | _counts(make)


def _counts(make: Callable[[], Any]) -> Figures:
    """The counts of the doctor; none where the measured commit has no doctor."""
    try:
        from pytest_loaderperf.diagnosis import diagnose
    except ImportError:
        return {}
    found = diagnose(make, seconds=DOCTOR_SECONDS, epochs=1)
    names = ("copies_per_batch", "executors_made", "files_opened")
    return {name: getattr(found, name, math.nan) for name in names}
