"""Each store that ``optimize`` keeps a table in, and each format on disk: images, shuffled."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from torch.utils.data import DataLoader

from pytest_loaderperf import ReferenceLoader

from ._case import CACHE_SECONDS, FOLDER, PAIRED, Figures, _Benchmarks, benchmarks, measured, paired

STORES = ["whole", "chunked", "background", "mapped", "compressed", "lru", "lazy"]
FORMATS = ["parquet", "arrow", "lance", "duckdb", "vortex", "tiff", "ome_zarr", "safetensors", "npy"]
TRACKS = {
    "sample": ("seconds", "one sample"),
    "seconds_per_sample": ("seconds", "seconds per sample of a loader"),
    "training_wait": ("of the loop", "data-wait fraction of a training loop"),
}
BEFORE, AFTER = "file by file", "pre-loaded"
IMAGES, BATCH_SIZE = 300, 32  # 6 MB: as slow as many, where each is made of Python objects
ROUNDS, ACCESSES, TRIAL_NS, STEPS = 3, 200, 50_000_000, 40


def _made(kind: str) -> Any:
    """The images in that format, written on the first request."""
    from suites.tracks.images import made as images
    from suites.tracks.inputs import made

    found = made(kind, images(IMAGES), FOLDER)
    if isinstance(found, str):
        raise NotImplementedError(found)
    return found


def _pair(kind: str, store: str, opened: ExitStack) -> Figures:
    made = _made(kind)
    after, before = made.after(opened, store), made.before(opened)
    return paired(
        lambda: ReferenceLoader(after, BATCH_SIZE, shuffle=True, num_workers=0),
        lambda: DataLoader(before, BATCH_SIZE, shuffle=True),
    )


def _store(store: str, opened: ExitStack) -> Figures:
    return _pair("parquet", store, opened)


def _format(kind: str, opened: ExitStack) -> Figures:
    return _pair(kind, "whole", opened)


def _track(kind: str, loaded: str, opened: ExitStack) -> Figures:
    """The medians of several rounds of the three tracks."""
    from statistics import median

    from suites.tracks import tracks

    made = _made(kind)
    if loaded == BEFORE:
        dataset = made.before(opened)
        loader: Any = DataLoader(dataset, BATCH_SIZE, shuffle=True)
    else:
        dataset = made.after(opened, "whole")
        loader = opened.enter_context(ReferenceLoader(dataset, BATCH_SIZE, shuffle=True))
    training = tracks.Training(100 * 100, "cpu")
    rounds = range(ROUNDS)
    return {
        "sample": median(tracks.sample_ns(dataset, ACCESSES, TRIAL_NS, seed=turn) for turn in rounds) * 1e-9,
        "seconds_per_sample": 1 / median(tracks.samples_per_s(loader, TRIAL_NS) for _ in rounds),
        "training_wait": median(tracks.data_wait(loader, training, STEPS, 4 * TRIAL_NS) for _ in rounds),
    }


@benchmarks(PAIRED)
class Stores(_Benchmarks):
    """Parquet, kept in each store; torch's DataLoader reads it sample by sample."""

    params = (STORES,)
    param_names = ("store",)

    def setup_cache(self) -> dict[tuple[str], Figures]:
        return measured([(store,) for store in STORES], [("whole",)], _store)

    setup_cache.timeout = CACHE_SECONDS  # type: ignore[attr-defined]


@benchmarks(PAIRED)
class Formats(_Benchmarks):
    """Each format, read at once; torch's DataLoader reads it sample by sample."""

    params = (FORMATS,)
    param_names = ("format",)

    def setup_cache(self) -> dict[tuple[str], Figures]:
        return measured([(kind,) for kind in FORMATS], [("npy",)], _format)

    setup_cache.timeout = CACHE_SECONDS  # type: ignore[attr-defined]


@benchmarks(TRACKS)
class Tracks(_Benchmarks):
    """The three tracks: a sample, a loader, a training loop; file by file, and pre-loaded."""

    params = (FORMATS, [BEFORE, AFTER])
    param_names = ("format", "loaded")

    def setup_cache(self) -> dict[tuple[str, str], Figures]:
        return measured([(f, loaded) for f in FORMATS for loaded in (BEFORE, AFTER)], [("npy", AFTER)], _track)

    setup_cache.timeout = CACHE_SECONDS  # type: ignore[attr-defined]
