"""One measurement of a case serves all of its benchmarks.

asv starts a process for each of hundreds of values. So nothing here, and no module of benchmarks, imports torch: only
``setup_cache`` does, once for a class.
"""

from __future__ import annotations

import gc
import math
import os
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

QUICK = bool(os.environ.get("LOADERPERF_ASV_QUICK"))  # fewer cases, each for a shorter time
CACHE_SECONDS = 1800.0  # until asv gives up on a class; it takes minutes

Figures = dict[str, Any]
Case = tuple[Any, ...]
PAIRED = {  # name: unit, words
    "time_to_dataloader": ("x", "time / that of torch's DataLoader"),
    "time_to_roofline": ("x", "time / that of the machine's copy limit"),
    "seconds_per_sample": ("seconds", "seconds per sample"),
    "batch_latency_p50": ("seconds", "batch latency, median"),
    "batch_latency_p99": ("seconds", "batch latency, p99"),
    "first_batch": ("seconds", "time to first batch"),
    "epoch_exit": ("seconds", "epoch exit"),
    "data_wait": ("of the loop", "data-wait fraction of a 1 ms step"),
    "cpu_seconds_per_1k": ("seconds", "CPU seconds per 1,000 samples"),
    "peak_memory": ("bytes", "peak memory"),
    "copies_per_batch": ("calls", "copies per batch in the dataset's code"),
    "executors_made": ("calls", "executors made in an epoch"),
    "files_opened": ("files", "files opened in an epoch"),
}
DEVICES = ["cpu", "cuda"]
_SUITES = str(Path(__file__).parents[1])


class _Benchmarks:
    """Benchmarks that read ``figures[case]``. The values may change their meaning only with ``version``."""

    version = "1"
    timeout = 60.0
    params: Any = ()
    param_names: Any = ()

    def setup(self, figures: Mapping[Case, Figures], *case: Any) -> None:
        found = figures.get(case, {"skipped": "there is no GPU, or this is a quick run without this case"})
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


def usable() -> list[str]:
    """The devices of this machine."""
    import torch

    return DEVICES if torch.cuda.is_available() else DEVICES[:1]


def made_by(name: str) -> Callable[..., Figures]:
    """The function ``name`` of `suites.dashboard.cases`, which is imported when a case is measured, if it can be."""

    def one(*arguments: Any) -> Figures:
        from suites.dashboard import cases

        figures: Figures = getattr(cases, name)(*arguments)
        return figures

    return one


def measured(cases: Iterable[Case], quick: Iterable[Case], one: Callable[..., Figures]) -> dict[Case, Figures]:
    """The figures of each case, or why there are none: ``one(*case, opened)`` measures it."""
    figures: dict[Case, Figures] = {}
    for case in quick if QUICK else cases:
        with ExitStack() as opened:
            try:
                figures[case] = one(*case, opened)
            except Exception as error:  # noqa: BLE001 the other cases are measured all the same
                reason = _missing(error)
                figures[case] = {"skipped": reason} if reason else {"failed": traceback.format_exc()}
        gc.collect()
    return figures


def _missing(error: BaseException) -> str:
    """What the measured commit, or this machine, does not have; "" for a failure."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, (NotImplementedError, ImportError)):
        return str(error) or type(error).__name__
    raised = traceback.extract_tb(error.__traceback__)[-1].filename
    is_call = isinstance(error, (AttributeError, TypeError)) and raised.startswith(_SUITES)
    return f"this commit has another interface: {error}" if is_call else ""
