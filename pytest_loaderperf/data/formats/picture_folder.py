"""A folder of pictures as a table: the bytes of each file, and the label of its class folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.samples import class_folders, class_labels, find, refuse_empty_classes
from pytest_loaderperf.data.formats.table import TakenTable, reading
from pytest_loaderperf.errors import DataError

if TYPE_CHECKING:
    from pytest_loaderperf.data.encoded.pictures import Pictures

IMAGE, LABEL = "image", "label"
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


class PictureFolder:
    """Format ``pictures``: a folder of PNG, JPEG, WebP, BMP and GIF files, which is read and never written."""

    name = "pictures"
    suffix = "-pictures"
    package = "pillow"
    options = ("mode", "size", "fit", "most_nbytes")

    def write(self, batches: pa.RecordBatchReader, path: Path) -> None:
        """Raise DataError."""
        raise DataError(
            f"{path}: expected a format to write, got {self.name}, which are only read. Save pictures with Pillow, or "
            "write their bytes as a binary column of parquet."
        )

    def open(self, path: Path, **options: Any) -> Pictures:
        """The pictures in the folder ``path``, decoded as ``options`` say, as `Decoder` has them. Raises DataError."""
        from pytest_loaderperf.data.encoded.decoder import Decoder
        from pytest_loaderperf.data.encoded.pictures import Pictures

        return Pictures(PictureFiles(path), Decoder(**options))


class PictureFiles(TakenTable):
    """Columns ``image``, the bytes of each file in binary, and ``label`` if the files are in class folders.

    Labels are as in torchvision's ``ImageFolder``: the positions of the folders' names in sorted order.
    """

    is_folder = True

    def _open(self) -> tuple[pa.Schema, int]:
        found = find(self.path, SUFFIXES)
        for path, wrong in found.broken.items():
            raise DataError(f"{path} {wrong}. Repair it, or take it out of the folder.")
        if not found.samples:
            raise DataError(f"{self.path} holds no pictures. Expected files that end in {', '.join(SUFFIXES)}.")
        self.files = found.samples
        folders = picture_classes(found.samples, self.path)
        fields = [pa.field(IMAGE, pa.large_binary(), nullable=False)]
        if folders is not None:
            refuse_empty_classes(self.path, folders)
            labels, metadata = class_labels(folders, numbered=False)
            self._labels = np.array(labels, np.int64)
            fields.append(pa.field(LABEL, pa.int64(), nullable=False, metadata=metadata))
        return pa.schema(fields), len(self.files)

    @property
    def classes(self) -> list[str]:
        """The names of the class folders, in the order of their labels; none if there are no such folders."""
        return list(json.loads(self.schema.field(LABEL).metadata[b"classes"])) if LABEL in self.schema.names else []

    def data(self, row: int) -> bytes:
        """The bytes of one file. Raises DataError if it cannot be read."""
        with reading(self.files[row]):
            return self.files[row].read_bytes()

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        arrays = {IMAGE: lambda: pa.array([self.data(row) for row in indices], pa.large_binary())}
        arrays[LABEL] = lambda: pa.array(self._labels[indices])
        return pa.table({name: arrays[name]() for name in columns})


def picture_classes(files: list[Path], folder: Path) -> list[str] | None:
    """The class folder of each of ``files``; None if all are in ``folder``. Raises DataError if only some are."""
    folders = class_folders(files, folder)
    if folders is None and (inner := [file for file in files if file.parent != folder]):
        outer = next(file for file in files if file.parent == folder)
        raise DataError(
            f"{folder}: expected all pictures in class folders or none, got {outer.name} next to "
            f"{inner[0].relative_to(folder)}. Move it to a folder of its class, or elsewhere."
        )
    return folders
