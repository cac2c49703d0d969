"""The fields of workloads that are real images: scikit-learn's digits and photographs, and TIFFs of a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_loaderperf.data.workloads.draws import Draws
from pytest_loaderperf.data.workloads.kinds import LABEL
from pytest_loaderperf.data.workloads.spec import WorkloadSpec
from pytest_loaderperf.data.workloads.synthetic import LABEL_DTYPE, WorkloadField
from pytest_loaderperf.errors import DataError

TIFF_SUFFIXES = (".tif", ".tiff")
_DRAWS_A_TILE = 3  # the image, the row, the column
_BYTE_VALUES = 256  # a power of two, so that scaling by it does not round


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Rows in memory."""

    name: str
    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def rows(self, start: int, stop: int) -> np.ndarray:
        """A view of the rows."""
        return self.array[start:stop]


@dataclass(frozen=True, slots=True, eq=False)
class Tiles:
    """Tiles of ``shape``, cut from ``images`` (each at least as large) at positions that ``draws`` determine."""

    images: Sequence[np.ndarray]
    shape: tuple[int, ...]
    draws: Draws
    name: str = "image"

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.images[0].dtype

    def places(self, start: int, stop: int) -> np.ndarray:
        """int64 ``(stop - start, 3)``: which image, and the row and the column of the tile's first pixel."""
        room = np.array([np.subtract(image.shape[:2], self.shape[:2]) + 1 for image in self.images])
        ends = np.ones((stop - start, _DRAWS_A_TILE), np.int64)
        first, last = start * _DRAWS_A_TILE, stop * _DRAWS_A_TILE
        ends[:, 0] = len(self.images)
        ends[:, 1:] = room[self.draws.below(ends.ravel(), first, last).reshape(ends.shape)[:, 0]]
        return self.draws.below(ends.ravel(), first, last).reshape(ends.shape)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """An array ``(stop - start, *shape)``."""
        out = np.empty((stop - start, *self.shape), self.dtype)
        height, width = self.shape[:2]
        for tile, (image, y, x) in zip(out, self.places(start, stop), strict=True):
            tile[...] = self.images[image][y : y + height, x : x + width]
        return out


@dataclass(frozen=True, slots=True, eq=False)
class TileLabels:
    """int64 labels of tiles: which image each was cut from."""

    tiles: Tiles
    name: str = LABEL
    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] = LABEL_DTYPE

    def rows(self, start: int, stop: int) -> np.ndarray:
        """An array ``(stop - start,)``."""
        return self.tiles.places(start, stop)[:, 0].copy()


def picture_fields(spec: WorkloadSpec) -> tuple[WorkloadField, ...]:
    """The fields of a workload of real images: ``image`` and ``label``.

    Raises DataError if a library or file is missing, or if the images do not fit the spec.
    """
    if spec.factory == "digits":
        return _digits(spec)
    images = _IMAGES[spec.factory](spec)
    small = next((image.shape for image in images if any(np.less(image.shape[:2], spec.shape[:2]))), None)
    if small is not None:
        raise DataError(
            f"workload {spec.name!r}: expected a shape within the smallest image, {small}, got {list(spec.shape)}."
        )
    tiles = Tiles(images, spec.shape, Draws(spec.seed))
    return tiles, TileLabels(tiles)


def _digits(spec: WorkloadSpec) -> tuple[WorkloadField, ...]:
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise _missing(spec, "is bundled with scikit-learn, which is", "scikit-learn") from error
    bunch = load_digits()
    images, labels = bunch.images.astype(spec.dtype), bunch.target.astype(np.int64)
    expected = (spec.samples, *spec.shape)
    if images.shape != expected:
        raise DataError(
            f"workload {spec.name!r}: the spec says features {expected}, "
            f"got {images.shape} with {len(labels)} labels. Fix the spec."
        )
    return Stored("image", images), Stored(LABEL, labels)


def _photos(spec: WorkloadSpec) -> list[np.ndarray]:
    try:
        import PIL  # noqa: F401 scikit-learn needs it to decode them, but does not install it
        from sklearn.datasets import load_sample_images
    except ModuleNotFoundError as error:
        raise _missing(spec, "needs scikit-learn and Pillow, of which one is", "scikit-learn pillow") from error
    images = [np.ascontiguousarray(image) for image in load_sample_images().images]
    return [image.astype(np.float32) / _BYTE_VALUES for image in images] if spec.dtype == "float32" else images


def _tiffs(spec: WorkloadSpec) -> list[np.ndarray]:
    """The planes (height, width) of all TIFFs of the folder with the spec's dtype, sorted by file name."""
    try:
        from tifffile import TiffFile
    except ModuleNotFoundError as error:
        raise _missing(spec, "reads TIFFs with tifffile, which is", "tifffile") from error
    folder = Path(spec.folder)
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in TIFF_SUFFIXES)
    if not files:
        raise DataError(f"workload {spec.name!r}: no TIFFs in {spec.folder}. Give a folder of .tif or .tiff files.")
    images, others = [], set()
    for file in files:
        try:
            with TiffFile(file) as tiff:
                axes, image = tiff.series[0].axes, tiff.asarray()
        except Exception as error:  # tifffile and its codecs raise any error
            raise DataError(f"workload {spec.name!r}: cannot read {file} ({error}). Take it out, or fix it.") from error
        dtype = image.dtype.newbyteorder("=")
        if dtype == spec.dtype and axes.endswith("YX"):
            images += list(image.astype(dtype, copy=False).reshape(-1, *image.shape[-2:]))
        else:
            others.add(f"{dtype} ({axes})")
    if not images:
        raise DataError(
            f"workload {spec.name!r}: no TIFF in {spec.folder} has planes of {spec.dtype}. "
            f"There are {', '.join(sorted(others))}: set dtype to one of these whose axes end with YX."
        )
    return images


def _missing(spec: WorkloadSpec, what: str, packages: str) -> DataError:
    return DataError(f"workload {spec.name!r} {what} not installed. Run: pip install {packages}")


_IMAGES: dict[str, Callable[[WorkloadSpec], list[np.ndarray]]] = {"photos": _photos, "tiffs": _tiffs}
