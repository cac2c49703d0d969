"""Each store that ``optimize`` keeps a table in, and each format on disk: images, shuffled."""

from __future__ import annotations

from itertools import product

from ._case import CACHE_SECONDS, PAIRED, Figures, _Benchmarks, benchmarks, made_by, measured

STORES = ["whole", "chunked", "background", "mapped", "compressed", "lru", "lazy"]
FORMATS = ["parquet", "arrow", "lance", "duckdb", "vortex", "tiff", "ome_zarr", "safetensors", "npy"]
LOADED = ["sample by sample", "pre-loaded"]
TRACKS = {
    "sample": ("seconds", "one sample"),
    "seconds_per_sample": ("seconds", "seconds per sample of a loader"),
    "training_wait": ("of the loop", "data-wait fraction of a training loop"),
}


@benchmarks(PAIRED)
class Stores(_Benchmarks):
    """Parquet, kept in each store; torch's DataLoader reads it sample by sample."""

    params = (STORES,)
    param_names = ("store",)

    def setup_cache(self) -> dict[tuple[str], Figures]:
        return measured([(store,) for store in STORES], [("whole",)], made_by("of_store"))

    setup_cache.timeout = CACHE_SECONDS  # type: ignore[attr-defined]


@benchmarks(PAIRED)
class Formats(_Benchmarks):
    """Each format, read at once; torch's DataLoader reads it sample by sample."""

    params = (FORMATS,)
    param_names = ("format",)

    def setup_cache(self) -> dict[tuple[str], Figures]:
        return measured([(kind,) for kind in FORMATS], [("npy",)], made_by("of_format"))

    setup_cache.timeout = CACHE_SECONDS  # type: ignore[attr-defined]


@benchmarks(TRACKS)
class Tracks(_Benchmarks):
    """The three tracks: a sample, a loader, a training loop; sample by sample, and pre-loaded."""

    params = (FORMATS, LOADED)
    param_names = ("format", "loaded")

    def setup_cache(self) -> dict[tuple[str, str], Figures]:
        return measured(product(FORMATS, LOADED), [("npy", LOADED[1])], made_by("of_track"))

    setup_cache.timeout = CACHE_SECONDS  # type: ignore[attr-defined]
