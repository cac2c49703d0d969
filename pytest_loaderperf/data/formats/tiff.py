"""A folder with one TIFF for each sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.dense import Layout
from pytest_loaderperf.data.formats.image_folder import ImageFolderTable, write_images
from pytest_loaderperf.data.formats.library import library
from pytest_loaderperf.data.formats.ome_sets import TiffImage, tiff_images
from pytest_loaderperf.data.formats.whole_tiff import tiff_layout, tiff_pixels
from pytest_loaderperf.errors import DataError

_LEAST_DIMENSIONS = 2
_COLOURS = (3, 4)  # sizes of a last dimension of 8 or 16 bit numbers that other programs also read as colours


class Tiff:
    """Format ``tiff``: uncompressed, so that a read is a copy of the disk's bytes.

    Of each file ``series`` (by default that of its OME-XML, or the first) and ``level`` of its pyramid, or a ``page``
    alone, are the image; all count from 0.
    """

    name = "tiff"
    suffix = "-tiff"
    package = "tifffile"
    options = ("series", "level", "page")

    def write(self, batches: pa.RecordBatchReader, path: Path) -> None:
        """Write all rows to the folder ``path``, complete or absent. Raises DataError."""
        imwrite = library("tifffile", self.package).imwrite

        def write(file: Path, image: np.ndarray) -> None:
            if image.ndim < _LEAST_DIMENSIONS:
                raise DataError(
                    f"expected images of two dimensions or more for TIFF, got shape {image.shape}. Use npy."
                )
            colours = image.ndim > _LEAST_DIMENSIONS and image.shape[-1] in _COLOURS and image.dtype in ("u1", "u2")
            imwrite(file, image, photometric="rgb" if colours else "minisblack")

        write_images(batches, path, self.name, ".tif", write)

    def open(self, path: Path, **options: Any) -> TiffTable:
        """The images in the folder ``path``, or the one in the file: any TIFFs, also stacks. Raises DataError."""
        for name, value in options.items():
            if type(value) is not int or value < 0 or ("page" in options and len(options) > 1):
                raise DataError(
                    f"{path}: expected series and level, or page alone, integers of at least 0, got {name}={value!r}. "
                    "Say which image of each file to read."
                )
        return (TiffFileTable if path.is_file() else TiffTable)(path, options)


class TiffTable(ImageFolderTable):
    """A folder of TIFFs. In a file with several series the first is the image; an OME-TIFF in several files is one."""

    endings = (".tif", ".tiff")

    def _one_a_sample(self, files: list[Path]) -> list[Path]:
        self._images_by_file = tiff_images(files)
        return list(self._images_by_file)

    def _image_at(self, sample: Path) -> TiffImage:
        image = TiffImage(sample) if self._written else self._images_by_file[sample]
        series = self.options.get("series", image.series)
        pixels = image.pixels if series == image.series else 0
        chosen = {name: value for name, value in self.options.items() if name != "series"}
        return image._replace(series=series, pixels=pixels, **chosen)

    @property
    def elsewhere(self) -> Sequence[Path]:
        """Other files of an OME-TIFF in several, and the file that describes them."""
        images = () if self._written else self._images_by_file.values()
        return [file for one in images for file in (*one.parts, one.companion, one.lost) if file is not None]

    def _layout(self, sample: Path) -> Layout:
        return tiff_layout(self._image_at(sample))

    def _pixels(self, sample: Path) -> np.ndarray:
        return tiff_pixels(self._image_at(sample))


class TiffFileTable(TiffTable):
    """A TIFF as a table of one row."""

    is_folder = False

    def _listed(self) -> tuple[list[Path], list[str] | None]:
        return self._one_a_sample([self.path]), None
