"""Sets of images in every format, written if missing, and how they are loaded before and after pre-load."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pytest_loaderperf.data import optimize
from pytest_loaderperf.data.arrow.columns import arrays_of
from pytest_loaderperf.data.arrow.ome_arrow import ome_arrow_array
from pytest_loaderperf.data.formats import FORMATS, open_table, write_table
from pytest_loaderperf.data.workloads.make import disk_nbytes
from pytest_loaderperf.errors import DataError
from pytest_loaderperf.report import write_json
from suites.tracks.before import PerFile, PerSample, pixels_of
from suites.tracks.images import Images

FOLDERS = ("tiff", "ome_zarr")  # that store images, not structs
BACKGROUND = "background"  # the cache "whole", filled while batches are already served
ARRAYS = ("safetensors", "npy")


def as_table(images: Images, kind: str) -> pa.Table:
    """The images as ``kind`` stores them: OME-Arrow structs, or tensors if it stores only arrays or image files."""
    if kind in FOLDERS + ARRAYS:
        column = pa.FixedShapeTensorArray.from_numpy_ndarray(images.pixels)
    else:
        column = ome_arrow_array(images.all_axes)
    return pa.table({"image": column, "label": images.labels})


@dataclass(frozen=True, slots=True)
class Made:
    """The images in one format at ``path``: ``nbytes`` on disk, written in ``write_s``."""

    kind: str
    path: Path
    nbytes: int
    write_s: float

    def before(self, opened: ExitStack) -> Any:
        """Sample by sample through Python objects, or through files; what is opened is closed with ``opened``."""
        table = opened.enter_context(closing(open_table(self.path, self.kind)))
        return PerFile(table) if self.kind in FOLDERS + ARRAYS else PerSample(table.read())

    def after(self, opened: ExitStack, cache: str) -> Any:
        """Pre-loaded by ``cache``."""
        table = opened.enter_context(closing(open_table(self.path, self.kind)))
        if cache == BACKGROUND:
            return optimize(table, background=True)
        return optimize(table, cache=cache, cache_dir=self.path.parent / "caches")


def made(kind: str, images: Images, folder: Path) -> Made | str:
    """The images in the format ``kind`` under ``folder``, written if they are not there; or why they cannot be."""
    try:
        return _made(kind, images, folder)
    except DataError as error:
        return str(error)


def _made(kind: str, images: Images, folder: Path) -> Made:
    content = hashlib.blake2b(np.ascontiguousarray(images.pixels), digest_size=4).hexdigest()
    path = folder / f"{images.name.replace(' ', '-')}-{content}{FORMATS[kind].suffix}"
    note = path.with_name(f"{path.name}.written.json")
    if not (path.exists() and note.exists()):
        table = as_table(images, kind)
        folder.mkdir(parents=True, exist_ok=True)
        began_s = time.perf_counter()
        write_table(table, path, kind)
        write_json({"seconds": time.perf_counter() - began_s}, note)
    return Made(kind, path, disk_nbytes(path), json.loads(note.read_text())["seconds"])


def preload_seconds(images: Images, rounds: int) -> dict[str, list[float]]:
    """Seconds to turn an OME-Arrow column in memory into arrays, by ``as_py`` and by ours; uniform and ragged."""
    pixels, side = images.pixels, images.pixels.shape[-1]
    heights = np.random.Generator(np.random.PCG64(1)).integers(side // 2, side + 1, len(pixels))
    cut = [ome_arrow_array(image[None, :height]) for image, height in zip(pixels, heights, strict=True)]
    columns = {"uniform": ome_arrow_array(pixels), "ragged": pa.concat_arrays(cut)}
    ways: dict[str, Callable[[pa.Array], Any]] = {
        "as_py": lambda column: [torch.from_numpy(pixels_of(image.as_py())) for image in column],
        "ours": lambda column: arrays_of(pa.table({"image": column})),
    }
    seconds: dict[str, list[float]] = {f"{kind}, {way}": [] for kind in columns for way in ways}
    for _ in range(rounds):
        for kind, column in columns.items():
            for name, way in ways.items():
                began_s = time.perf_counter()
                way(column)
                seconds[f"{kind}, {name}"].append(time.perf_counter() - began_s)
    return seconds
