"""A folder with one TIFF a sample."""

from __future__ import annotations

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
_COLOURS = (3, 4)  # in a last dimension of 8 or 16 bit numbers, and read as colours by others too


class Tiff:
    """Format ``tiff``: uncompressed, so that a read is a copy of the disk's bytes."""

    name = "tiff"
    suffix = "-tiff"
    package = "tifffile"
    options = ()

    def write(self, batches: pa.RecordBatchReader, path: Path) -> None:
        """Write all rows to the folder ``path``, complete or absent. Raises DataError."""
        imwrite = library("tifffile", self.package).imwrite

        def write(file: Path, image: np.ndarray) -> None:
            if image.ndim < _LEAST_DIMENSIONS:
                raise DataError(f"a TIFF has two dimensions or more, but images of shape {image.shape} came. Use npy.")
            colours = image.ndim > _LEAST_DIMENSIONS and image.shape[-1] in _COLOURS and image.dtype in ("u1", "u2")
            imwrite(file, image, photometric="rgb" if colours else "minisblack")

        write_images(batches, path, self.name, ".tif", write)

    def open(self, path: Path, **options: Any) -> TiffTable:
        """The table in the folder ``path``, of any TIFFs, also OME-TIFF stacks. Raises DataError."""
        return TiffTable(path, options)


class TiffTable(ImageFolderTable):
    """A folder of TIFFs. Of a file with several series the first is the image; an OME-TIFF of several files is one."""

    endings = (".tif", ".tiff")

    def _one_a_sample(self, files: list[Path]) -> list[Path]:
        self._images_by_file = tiff_images(files)
        return list(self._images_by_file)

    def _image_at(self, sample: Path) -> TiffImage:
        return TiffImage(sample) if self._written else self._images_by_file[sample]

    def _layout(self, sample: Path) -> Layout:
        return tiff_layout(self._image_at(sample))

    def _pixels(self, sample: Path) -> np.ndarray:
        return tiff_pixels(self._image_at(sample))
