"""A folder with one OME-Zarr image for each sample, written and read with zarr."""

from __future__ import annotations

from math import ceil, prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.dense import Layout
from pytest_loaderperf.data.formats.diagnosis import refuse_others
from pytest_loaderperf.data.formats.image_folder import ImageFolderTable, write_images
from pytest_loaderperf.data.formats.library import library
from pytest_loaderperf.data.formats.ome_layouts import is_plate, is_zarr, zarr_images
from pytest_loaderperf.errors import DataError

AXES = "tczyx"  # an image of fewer dimensions has the last ones
_KINDS = {"t": "time", "c": "channel"}  # and the others are space
_VERSIONS = {2: "0.4", 3: "0.5"}  # of OME-Zarr, by the version of Zarr that it is written in
_LEAST_DIMENSIONS = 2
_LONGEST = 200  # characters of metadata in a message


class OmeZarr:
    """Format ``ome_zarr``: OME-Zarr 0.5 in Zarr 3, or 0.4 in Zarr 2; each plane is a chunk.

    ``sharded``: all chunks of an image in one file, which takes Zarr 3. To open: ``level`` of the pyramid, from 0, the
    finest; of a group with several images ``series``, ``well`` or ``field``, as `ome_layouts.zarr_images` has them.
    """

    name = "ome_zarr"
    suffix = "-ome-zarr"
    package = "zarr"
    options = ("level", "series", "well", "field")

    def __init__(self, zarr_format: Literal[2, 3] = 3, *, sharded: bool = False) -> None:
        if zarr_format not in _VERSIONS or (sharded and zarr_format == 2):  # noqa: PLR2004 the name says what it is
            raise DataError(f"zarr_format={zarr_format!r}, sharded={sharded}: expected 2, or 3 with or without shards.")
        self.zarr_format, self.sharded = zarr_format, sharded

    def write(self, batches: pa.RecordBatchReader, path: Path) -> None:
        """Write all rows to the folder ``path``, complete or absent. Raises DataError."""
        zarr = library("zarr", self.package)
        # With checksums of the chunks. Blosc, Zarr's default for 0.4, has none, and invents data for truncated chunks.
        three = self.zarr_format == 3  # noqa: PLR2004 the name says what it is
        codecs = library("zarr.codecs" if three else "numcodecs", self.package)
        zstd = (codecs.ZstdCodec if three else codecs.Zstd)(checksum=True)

        def write(folder: Path, image: np.ndarray) -> None:
            if not _LEAST_DIMENSIONS <= image.ndim <= len(AXES):
                raise DataError(
                    f"expected images of two to five dimensions for OME-Zarr, got shape {image.shape}. Use npy."
                )
            axes = list(AXES[-image.ndim :])
            attributes = self._attributes(axes)
            group = zarr.create_group(str(folder), zarr_format=self.zarr_format, attributes=attributes)
            array = group.create_array(
                "0",
                shape=image.shape,
                dtype=image.dtype,
                chunks=(*[1] * (image.ndim - 2), *image.shape[-2:]),
                shards=image.shape if self.sharded else None,
                dimension_names=axes if three else None,
                config={"write_empty_chunks": True},
                compressors=zstd,
                chunk_key_encoding={"name": "default" if three else "v2", "separator": "/"},
            )
            array[...] = image

        write_images(batches, path, self.name, ".ome.zarr", write)

    def _attributes(self, axes: list[str]) -> dict[str, Any]:
        version = _VERSIONS[self.zarr_format]
        scale = {"type": "scale", "scale": [1.0] * len(axes)}
        image: dict[str, Any] = {
            "axes": [{"name": axis, "type": _KINDS.get(axis, "space")} for axis in axes],
            "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
        }
        if version == "0.4":
            return {"multiscales": [{"version": version, **image}]}
        return {"ome": {"version": version, "multiscales": [image]}}

    def open(self, path: Path, **options: Any) -> OmeZarrTable:
        """The images in the folder ``path``, or in the group: one, those of bioformats2raw, or a plate.

        Both versions of OME-Zarr. Raises DataError.
        """
        return (OmeZarrGroupTable if is_zarr(path) else OmeZarrTable)(path, options)


class OmeZarrTable(ImageFolderTable):
    """A folder of OME-Zarr images; one that bioformats2raw wrote may be several."""

    endings = (".ome.zarr", ".zarr")

    def _layout(self, sample: Path) -> Layout:
        array = _scale(sample, self.options.get("level", 0))
        return Layout(array.shape, array.dtype)

    def _pixels(self, sample: Path) -> np.ndarray:
        return zarr_pixels(sample, planes_written=self._written, level=self.options.get("level", 0))

    def _listed(self) -> tuple[list[Path], list[str] | None]:
        samples, classes = super()._listed()
        if self._written:
            return samples, classes
        if plate := next(filter(is_plate, samples), None):
            raise DataError(f"{plate} is a plate of many images. Open it by itself, or move it to another folder.")
        images = [[image.group for image in zarr_images(sample, self._choice())] for sample in samples]
        counts = [len(found) for found in images]
        repeated = classes and [name for name, times in zip(classes, counts, strict=True) for _ in range(times)]
        return [group for found in images for group in found], repeated

    def _choice(self) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if name != "level"}


class OmeZarrGroupTable(OmeZarrTable):
    """The images of one Zarr group. In a plate the labels are the positions of the wells' sorted names."""

    in_folders = False

    def _listed(self) -> tuple[list[Path], list[str] | None]:
        images = zarr_images(self.path, self._choice())
        wells = [image.well for image in images if image.well is not None]
        return [image.group for image in images], wells or None


def zarr_pixels(sample: Path, *, planes_written: bool, level: int = 0) -> np.ndarray:
    """The pixels of a scale of an OME-Zarr image. ``planes_written``: no chunk was left out as one of zeros.

    Raises DataError that names the image, and whatever zarr and its codecs raise if they fail.
    """
    array = _scale(sample, level)
    pixels: np.ndarray = array[...]
    # Zarr gives zeros for missing chunks. Ours are planes, all of which were written.
    if planes_written and not pixels.any(axis=(-2, -1)).all():
        _check_chunks(sample, array)
    return pixels


def _scale(sample: Path, level: int) -> Any:
    zarr = library("zarr", OmeZarr.package)
    refuse_others(sample)
    group = zarr.open(str(sample), mode="r")
    if isinstance(group, zarr.Array):
        raise DataError(
            f"{sample} is a Zarr array of shape {group.shape}; expected the group of an OME-Zarr image. Give "
            "its numbers to optimize as an array, or write them with write_table."
        )
    attributes = group.attrs.asdict()
    version = attributes.get("ome", attributes)
    scales = version.get("multiscales") if isinstance(version, dict) else None
    if not scales:
        raise DataError(f"{sample} has no multiscales. Expected an OME-Zarr image of version 0.4 or 0.5.")
    try:
        paths, axes = [one["path"] for one in scales[0]["datasets"]], scales[0].get("axes")
        finest = paths[0]
    except (LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"{sample}: expected multiscales with a path for each of their datasets, got {str(scales)[:_LONGEST]}. "
            "Write it again, or give an undamaged image."
        ) from error
    if type(level) is not int or not 0 <= level < len(paths):
        raise DataError(
            f"{sample}: expected a level from 0 to below {len(paths)}, got level={level!r}. Choose another."
        )
    path = paths[level] if level else finest
    array = group[path]
    if not isinstance(array, zarr.Array) or (axes is not None and len(axes) != array.ndim) or not array.ndim:
        found = f"shape {array.shape}" if isinstance(array, zarr.Array) else "a group"
        raise DataError(
            f"{sample}: expected an array of {len(axes or AXES)} dimensions at {path!r}, got {found}. "
            "Write it again, or give an undamaged image."
        )
    return array


def _check_chunks(sample: Path, array: Any) -> None:
    files = [file for file in sample.rglob("*") if file.name != "zarr.json" and not file.name.startswith(".")]
    found = sum(file.is_file() and file.stat().st_size > 0 for file in files)
    expected = prod(ceil(n / k) for n, k in zip(array.shape, array.shards or array.chunks, strict=True))
    if found < expected:
        raise DataError(f"{sample} has {found} of {expected} chunks. Write it again, or give an undamaged image.")
