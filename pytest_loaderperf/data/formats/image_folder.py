"""Folders with one image a sample, in torchvision's ImageFolder convention: subfolders are named by the label."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.dense import MOST_NBYTES, Layout, column_of, dense_array, kind_of, layout_of
from pytest_loaderperf.data.formats.samples import LABEL_DTYPE, class_folders, class_labels, find, refuse_empty_classes
from pytest_loaderperf.data.formats.storage import read_schema, write_schema
from pytest_loaderperf.data.formats.table import TakenTable, reading
from pytest_loaderperf.data.formats.writing import complete_or_absent
from pytest_loaderperf.errors import DataError

IMAGE, LABEL = "image", "label"  # columns of folders that were not written here
ROW_DIGITS = 8  # enough that names also sort as rows when compared as text


def write_images(
    batches: pa.RecordBatchReader, path: Path, name: str, ending: str, write: Callable[[Path, np.ndarray], None]
) -> None:
    """Write ``<label>/<row><ending>`` for each row, or ``<row><ending>`` without a column of labels.

    Raises DataError if the schema is not one column of tensors and at most one of integers.
    """
    image, label = _columns(batches.schema, name)
    layout = layout_of(batches.schema.field(image).type)
    assert layout is not None
    if 0 in layout.shape:
        raise DataError(f"column {image!r}: expected images with pixels for {name}, got shape {layout.shape}. Use npy.")
    with complete_or_absent(path) as new:
        new.mkdir()
        write_schema(batches.schema, new)
        row = 0
        for batch in batches:
            folders = [new] * len(batch)
            if label is not None:
                folders = [new / str(one) for one in dense_array(batch[label], Layout((), np.dtype(np.int64)), label)]
            for folder, pixels in zip(folders, dense_array(batch[image], layout, image), strict=True):
                folder.mkdir(exist_ok=True)
                write(folder / f"{row:0{ROW_DIGITS}}{ending}", pixels)
                row += 1


def _columns(schema: pa.Schema, format_name: str) -> tuple[str, str | None]:
    """The names of the column of images and of that of labels."""
    images = [field.name for field in schema if isinstance(field.type, pa.FixedShapeTensorType)]
    labels = [field.name for field in schema if pa.types.is_integer(field.type)]
    if len(images) != 1 or len(labels) > 1 or len(images) + len(labels) < len(schema):
        columns = ", ".join(f"{field.name!r} {field.type}" for field in schema)
        raise DataError(
            f"expected one column of fixed-shape tensors and at most one of integer labels for {format_name}, "
            f"got the columns {columns}. Use parquet, or drop the others."
        )
    return images[0], labels[0] if labels else None


class ImageFolderTable(TakenTable):
    """A folder of images of one shape and dtype, each read on request."""

    is_folder = True
    in_folders = True  # whether classes are folders
    endings: tuple[str, ...]  # of samples' names, the longest first

    @abstractmethod
    def _layout(self, sample: Path) -> Layout:
        """The shape and dtype of an image, without its pixels."""

    @abstractmethod
    def _pixels(self, sample: Path) -> np.ndarray:
        """An image."""

    def _one_a_sample(self, files: list[Path]) -> list[Path]:
        """Those of ``files`` that are a sample each, in a folder that was not written here."""
        return files

    def _listed(self) -> tuple[list[Path], list[str] | None]:
        """The samples in order, and the class of each, if they have classes."""
        found = find(self.path, self.endings)
        for path, wrong in found.broken.items():
            raise DataError(f"{path} {wrong}. Repair it, or take it out of the folder.")
        samples = found.samples if self._written else self._one_a_sample(found.samples)
        samples = _ordered(samples, self.path, self.endings)
        return samples, class_folders(samples, self.path)

    def _open(self) -> tuple[pa.Schema, int]:
        schema = read_schema(self.path) if self.is_folder else None
        self._written = schema is not None  # by us
        self._samples, folders = self._listed()
        if schema is not None:
            self._image, self._label = _columns(schema, "this format")
            if self._label is not None and folders is None and self._samples:
                raise DataError(
                    f"{self.path}: expected its images in folders of labels, got some without. Write it again."
                )
        elif not self._samples:
            raise DataError(f"{self.path} holds no images. Expected files that end in {', '.join(self.endings)}.")
        else:
            self._image, self._label = IMAGE, LABEL if folders else None
        kind = schema.field(self._label).type.to_pandas_dtype() if schema is not None and self._label else LABEL_DTYPE
        try:
            labels, metadata = class_labels(folders or [], np.dtype(kind))
            if metadata is not None and self.in_folders:
                refuse_empty_classes(self.path, folders or [])
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error
        if schema is None:
            with reading(self._samples[0]):
                fields = [pa.field(IMAGE, kind_of(self._first_layout()))]
            if folders:
                fields.append(pa.field(LABEL, pa.int64(), metadata=metadata))
            schema = pa.schema(fields)
        elif metadata is not None:
            names = ", ".join(sorted(set(folders or [])))
            raise DataError(f"{self.path}: expected folders whose names are labels, got {names}. Rename them.")
        self._labels = np.array(labels, kind)
        return schema, len(self._samples)

    def _first_layout(self) -> Layout:
        layout = self._layout(self._samples[0])
        if layout.dtype.kind not in "biuf" or layout.dtype.itemsize > MOST_NBYTES:
            raise DataError(
                f"{self._samples[0]} holds {layout.dtype}. Expected bools, integers or floats of at most 64 bits: "
                "convert it."
            )
        return layout

    def _take(self, indices: np.ndarray, columns: list[str]) -> pa.Table:
        arrays = []
        for name in columns:
            kind = self.schema.field(name).type
            arrays.append(self._images(indices, kind) if name == self._image else pa.array(self._labels[indices], kind))
        return pa.Table.from_arrays(arrays, columns)

    def _images(self, rows: np.ndarray, kind: pa.DataType) -> pa.Array:
        layout = layout_of(kind)
        assert layout is not None
        images = np.empty((len(rows), *layout.shape), layout.dtype)
        for image, row in zip(images, rows, strict=True):
            sample = self._samples[row]
            with reading(sample):
                pixels = self._pixels(sample)
            if pixels.shape != layout.shape or pixels.dtype.newbyteorder("=") != layout.dtype:
                raise DataError(
                    f"{sample} is {pixels.dtype} of shape {pixels.shape}, but expected {layout.dtype} of shape "
                    f"{layout.shape}, as {self._samples[0].name} is. Convert it, or move it to another folder."
                )
            image[...] = pixels
        return column_of(images, kind)


def _ordered(samples: list[Path], folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """By row number if all names are different numbers, else by relative path."""
    stems = {sample: _stem(sample.name, endings) for sample in samples}
    rows = {sample: int(stem) for sample, stem in stems.items() if stem.isdecimal()}
    if len(set(rows.values())) == len(samples):
        return sorted(samples, key=rows.__getitem__)
    return sorted(samples, key=lambda sample: sample.relative_to(folder).parts)


def _stem(name: str, endings: tuple[str, ...]) -> str:
    ending = next(ending for ending in endings if name.lower().endswith(ending))
    return name[: -len(ending)]
