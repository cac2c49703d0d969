"""The sets of images that the tracks load: made ones, and real ones of scikit-learn and of microscopes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tifffile import TiffFile

from pytest_loaderperf.data import workload
from pytest_loaderperf.data.arrow.ome_arrow import AXES

MADE = "made"
SIDE = 100  # pixels of a made image
CLASSES = 10
TILE, STEP, TILES = 64, 12, 16  # pixels of a tile, the fewest from one to the next, and about how many in a column
PLANES = "yx"


@dataclass(frozen=True, slots=True)
class Images:
    """uint16 ``pixels`` (samples, *axes) and int64 ``labels`` below ten; ``axes`` are some of t, c, z, y and x."""

    name: str
    axes: str
    pixels: np.ndarray
    labels: np.ndarray

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What a loader over plain arrays is given."""
        return {"image": self.pixels, "label": self.labels}

    @property
    def all_axes(self) -> np.ndarray:
        """The pixels (samples, t, c, z, y, x)."""
        lengths = dict(zip(self.axes, self.pixels.shape[1:], strict=True))
        return self.pixels.reshape(len(self.pixels), *(lengths.get(axis, 1) for axis in AXES))


def image_sets(samples: int, microscopy: Path) -> dict[str, Images]:
    """``samples`` made images, digits and tiles of photographs, and tiles of each stack and of the planes in a folder.

    A folder that is not there brings none. Raises DataError for one without TIFFs.
    """
    sets = [
        made(samples),
        _digits(samples),
        _photos(samples),
        *(_microscopy(microscopy) if microscopy.exists() else ()),
    ]
    return {one.name: one for one in sets}


def made(samples: int) -> Images:
    """Noise in sixteen bits, from a seed: nothing about it can be compressed."""
    rng = np.random.Generator(np.random.PCG64(0))
    pixels = rng.integers(0, 1 << 16, (samples, SIDE, SIDE), np.uint16)
    return Images(MADE, PLANES, pixels, rng.integers(0, CLASSES, samples, np.int64))


def _digits(samples: int) -> Images:
    pixels, labels = workload("digits").arrays
    return Images("digits", PLANES, pixels[:samples].astype(np.uint16), labels[:samples])


def _photos(samples: int) -> Images:
    pixels, labels = workload(factory="photos", samples=samples, shape=[TILE, TILE, 3]).arrays
    return Images("photos", "cyx", np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.uint16), labels)


def _microscopy(folder: Path) -> list[Images]:
    stacks: dict[str, tuple[str, list[np.ndarray]]] = {}
    for file in sorted(folder.glob("*.tif*")):
        with TiffFile(file) as tiff:
            axes, pixels = tiff.series[0].axes.lower(), tiff.asarray()
        name = "cells" if axes == PLANES else f"stack {axes}"
        stacks.setdefault(name, (axes, []))[1].append(pixels.astype(np.uint8).astype(np.uint16))
    return [Images(name, axes, *_tiles(pixels)) for name, (axes, pixels) in stacks.items()]


def _tiles(stacks: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Tiles of all planes of each stack at once, and for each the row of tiles that it is in, modulo ten."""
    tiles, labels = [], []
    for stack in stacks:
        places = np.lib.stride_tricks.sliding_window_view(stack, (TILE, TILE), (-2, -1))
        step = max(STEP, stack.shape[-2] // TILES)
        grid = np.moveaxis(places[..., ::step, ::step, :, :], (-4, -3), (0, 1))
        tiles.append(grid.reshape(-1, *grid.shape[2:]))
        labels.append(np.repeat(np.arange(len(grid)) % CLASSES, grid.shape[1]))
    return np.concatenate(tiles), np.concatenate(labels)
