"""What the loaders are measured on: data, the work a sample costs, and what a right batch looks like."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from torch.utils.data import Dataset

from pytest_loaderperf.data import workload

TILE = 256  # pixels
TILES = 2_048  # 44 MB of JPEG, 400 MB decoded: more than any cache holds
QUALITY = 90
LINES, NUMBERS = 2_000, 1_000
LARGE_ROWS, LARGE_ROW_FLOATS = 1_000, 37_500  # 150 kB each
CHEAP_ROWS, CHEAP_FLOATS = 20_000, 60

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Regime:
    """``raw[i]`` becomes sample ``i``, an array of ``shape`` and ``dtype``, by ``make``; its label is ``i`` itself.

    ``in_arrays``: ``raw`` is one array of samples. ``map_only``: so it is, but the loader is to see it as a map-style
    dataset with ``__getitem__`` alone. ``releases_gil``: ``make`` works with the interpreter lock released.
    """

    name: str
    title: str
    batch_size: int
    raw: Any  # a list, or an array of samples
    make: Callable[[Any], np.ndarray]
    shape: tuple[int, ...]
    dtype: torch.dtype
    in_arrays: bool = False
    map_only: bool = False
    releases_gil: bool = False

    def __len__(self) -> int:
        return len(self.raw)

    @property
    def epoch_batches(self) -> int:
        return -(-len(self) // self.batch_size)

    @property
    def sample_nbytes(self) -> int:
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @cached_property
    def labels(self) -> np.ndarray:
        return np.arange(len(self), dtype=np.int64)

    @property
    def dataset(self) -> Rows | Made:
        """An ordinary map-style dataset: one sample a call."""
        return Rows(self) if self.in_arrays or self.map_only else Made(self)

    @property
    def batched_dataset(self) -> BatchedRows | BatchedMade:
        """The same with ``__getitems__``, which gives a finished batch: use it with ``collate_fn=as_is``."""
        return BatchedRows(self) if self.in_arrays or self.map_only else BatchedMade(self)


class Rows(Dataset[Any]):
    """Rows of a tensor, each with its number."""

    process_safe = True

    def __init__(self, regime: Regime) -> None:
        self.features = torch.from_numpy(regime.raw)
        self.labels = torch.from_numpy(regime.labels)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.features[index], index


class BatchedRows(Rows):
    def __getitems__(self, indices: Sequence[int]) -> Batch:
        chosen = torch.as_tensor(indices)
        return self.features[chosen], self.labels[chosen]


class Made(Dataset[Any]):
    """Samples that are made when they are asked for."""

    process_safe = True  # for the loader that asks: no open file, nothing drawn

    def __init__(self, regime: Regime) -> None:
        self.raw, self.make = regime.raw, regime.make

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.from_numpy(self.make(self.raw[index])), index


class BatchedMade(Made):
    def __getitems__(self, indices: Sequence[int]) -> Batch:
        make, raw = self.make, self.raw
        return torch.from_numpy(np.stack([make(raw[i]) for i in indices])), torch.as_tensor(indices)


def decode(blob: bytes) -> np.ndarray:
    """One tile, ``(256, 256, 3)`` uint8. simplejpeg is libjpeg-turbo with the interpreter lock released.

    imagecodecs is as fast and twenty times as large; OpenCV gives BGR, and starts threads of its own.
    """
    pixels: np.ndarray = simplejpeg.decode_jpeg(blob)
    return pixels


def parse(line: str) -> np.ndarray:
    """``NUMBERS`` float32 from one line of CSV, as one writes it by hand."""
    return np.array([float(field) for field in line.split(",")], np.float32)


def _itself(row: np.ndarray) -> np.ndarray:
    return row


def encode_tiles() -> list[bytes]:
    """``TILES`` overlapping tiles of the two photographs that scikit-learn bundles, as JPEG."""
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    rng = np.random.default_rng(0)
    tiles = []
    for number in range(TILES):
        photograph = photographs[number % len(photographs)]
        top, left = (rng.integers(0, size - TILE) for size in photograph.shape[:2])
        tile = np.ascontiguousarray(photograph[top : top + TILE, left : left + TILE])
        tiles.append(simplejpeg.encode_jpeg(tile, quality=QUALITY, colorsubsampling="420"))
    return tiles


def prepare(folder: Path) -> None:
    """Write what is too dear to be made again by every child."""
    (folder / "tiles.pickle").write_bytes(pickle.dumps(encode_tiles()))


def _vectors(name: str, title: str, batch_size: int) -> Regime:
    features = workload("vectors").features
    return Regime(name, title, batch_size, features, _itself, features.shape[1:], torch.float32, in_arrays=True)


def _uniform(rows: int, floats: int) -> np.ndarray:
    return np.random.default_rng(0).random((rows, floats), dtype=np.float32)


def load(name: str, folder: Path) -> Regime:
    """The regime called ``name``; ``folder`` is where ``prepare`` wrote."""
    if name == "vectors":
        return _vectors(name, "in memory, 10,000 x 784 float32, batch 32", 32)
    if name == "vectors-256":
        return _vectors(name, "in memory, 10,000 x 784 float32, batch 256", 256)
    if name == "large-rows":
        raw, title = _uniform(LARGE_ROWS, LARGE_ROW_FLOATS), "in memory, 1,000 rows of 150 kB, batch 32"
        return Regime(name, title, 32, raw, _itself, raw.shape[1:], torch.float32, in_arrays=True)
    if name == "decode":
        blobs = pickle.loads((folder / "tiles.pickle").read_bytes())  # noqa: S301 we wrote it
        title = f"JPEG decode, {TILES:,} tiles of {TILE} x {TILE}, batch 32"
        return Regime(name, title, 32, blobs, decode, (TILE, TILE, 3), torch.uint8, releases_gil=True)
    if name == "parse":
        lines = [",".join(f"{value:.6f}" for value in row) for row in _uniform(LINES, NUMBERS).tolist()]
        title = f"pure Python, a CSV line of {NUMBERS:,} numbers, batch 32"
        return Regime(name, title, 32, lines, parse, (NUMBERS,), torch.float32)
    if name == "cheap":
        raw, title = _uniform(CHEAP_ROWS, CHEAP_FLOATS), "pure Python, __getitem__ returns a row and an int, batch 32"
        return Regime(name, title, 32, raw, _itself, raw.shape[1:], torch.float32, map_only=True)
    raise ValueError(f"unknown regime {name!r}. Known: {', '.join(NAMES)}.")


NAMES = ("vectors", "vectors-256", "large-rows", "decode", "parse", "cheap")
