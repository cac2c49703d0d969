"""Images of complete TIFFs: missing data are an error, although decoders would give zeros."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from pytest_loaderperf.data.formats.dense import Layout
from pytest_loaderperf.data.formats.library import library
from pytest_loaderperf.data.formats.ome_sets import TiffImage, description
from pytest_loaderperf.errors import DataError

PACKAGE = "tifffile"
_HEADER_NBYTES = 8  # no data are before
_ADVICE = "Write it again, or give an undamaged file."


def tiff_layout(image: TiffImage) -> Layout:
    """The shape and dtype of ``image``, without its pixels. Raises as ``tiff_pixels`` does."""
    with _series(image) as (_, series):
        return Layout(series.shape, series.dtype)


def tiff_pixels(image: TiffImage) -> np.ndarray:
    """The pixels of ``image``.

    Raises DataError that names the file if a declared tile, strip, page or part is missing, and whatever tifffile and
    its codecs raise if they fail.
    """
    with _series(image) as (file, series):
        if series.is_multifile:  # the positions of its planes in their files say nothing about one file
            pixels = file.asarray(series=series, key=slice(None)).reshape(series.shape)
        else:
            pixels = series.asarray()
        if pixels.shape != series.shape:
            raise _wrong(image, f"an image of shape {series.shape}, got {pixels.shape}")
        return np.asarray(pixels)


def _wrong(image: TiffImage, what: str) -> DataError:
    return DataError(f"{image.file} is damaged: expected {what}. {_ADVICE}")


@contextmanager
def _series(image: TiffImage) -> Iterator[tuple[Any, Any]]:
    tifffile = library("tifffile", PACKAGE)
    # tifffile would log problems, which are raised here.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    for part in (*image.parts, *([] if image.lost is None else [image.lost])):
        if image.lost is not None or not part.is_file():
            raise DataError(
                f"{part} is missing or cannot be read, but it belongs to the image of {image.file.name}. Put it back, "
                "or take the other files of this image out of the folder."
            )
    metadata = None if image.companion is None else image.companion.read_text("utf-8")
    try:
        description(image.file)
    except EOFError as error:
        raise _wrong(image, str(error)) from error
    except (OSError, struct.error, ValueError, OverflowError):
        pass  # tifffile says why
    with tifffile.TiffFile(image.file, omexml=metadata) as file:
        if not file.pages:
            raise _wrong(image, "a TIFF of one page or more, got none")
        if not file.is_ndpi:
            _check_end(image, file)
        if image.page is not None:
            page = _chosen(image, "page", file.pages, image.page)
            _check_segments(image, page)
            yield file, _Page(page)
            return
        every = file.series
        if image.images > 1 and len(every) != image.images:
            raise _wrong(image, f"{image.images} images, as its OME-XML says, got {len(every)}")
        series = _chosen(image, "series", every, image.series)
        if series.is_multifile and not image.parts:
            raise DataError(
                f"{image.file} is one of several files of an image, but has no OME-XML that says which. "
                "Save it as one file, or as OME-TIFF."
            )
        _check_promises(image, file, series)
        series = _chosen(image, "level", series.levels, image.level)
        _check_data(image, file, series)
        yield file, series


class _Page:
    """A page as if it were a series of its own."""

    is_multifile = False

    def __init__(self, page: Any) -> None:
        self._page, self.shape, self.dtype = page, page.shape, page.dtype

    def asarray(self) -> np.ndarray:
        pixels: np.ndarray = self._page.asarray()
        return pixels


def _chosen(image: TiffImage, what: str, those: Any, place: int) -> Any:
    if place >= len(those):
        raise DataError(
            f"{image.file}: expected a {what} below {len(those)}, as many as it has, got {what}={place}. Choose "
            "another, or take the file out of the folder."
        )
    return those[place]


def _check_end(image: TiffImage, file: Any) -> None:
    """There is no other page after the last one that was found."""
    try:
        file.filehandle.seek(file.pages.next_page_offset)
        data = file.filehandle.read(file.tiff.offsetsize)
        following = struct.unpack(file.tiff.offsetformat, data)[0]
    except (struct.error, OSError) as error:
        raise _wrong(
            image, f"the place of the page after the first {len(file.pages)}, got the end of the file"
        ) from error
    if following:
        raise _wrong(
            image,
            f"another page after the first {len(file.pages)}, at byte {following}, got {file.filehandle.size} bytes",
        )


def _check_promises(image: TiffImage, file: Any, series: Any) -> None:
    """The metadata declare no more than the pages contain."""
    if series.dtype is None or not series.size:
        raise _wrong(image, f"pixels, got {series.dtype} of shape {series.shape}")
    if file.is_shaped and file.shaped_metadata:
        told = file.shaped_metadata[0]
        promised = prod(told["shape"])
        pages = promised // max(1, prod(file.pages.first.shape))
        cut = pages > len(file.pages) and not told.get("truncated")
        if image.series == 0 and (cut or promised != series.size):
            got = f"{len(file.pages)} pages of shape {file.pages.first.shape}"
            raise _wrong(image, f"an image of shape {tuple(told['shape'])}, got {got}")
    elif file.is_imagej and series.kind != "ome":
        told = file.imagej_metadata or {}
        first, channels = file.pages.first, told.get("channels", 1)
        planes = told.get("frames", 1) * told.get("slices", 1)
        planes *= 1 if channels in (first.shaped[0], first.shaped[-1]) else channels  # else they are in one page
        if planes * first.size > (len(file.pages) * first.size if series.dataoffset is None else series.size):
            raise _wrong(image, f"{planes} planes, as ImageJ wrote, got {len(file.pages)} pages")
    if image.pixels > series.size:
        raise _wrong(image, f"{image.pixels} pixels, as its OME-XML says, got {series.size} in {len(file.pages)} pages")


def _check_data(image: TiffImage, file: Any, series: Any) -> None:
    """All data are within their files."""
    start = None if series.is_multifile else series.dataoffset
    if start is not None:
        if not _HEADER_NBYTES <= start <= file.filehandle.size - series.nbytes:
            raise _wrong(image, f"{series.nbytes} bytes at byte {start}, got a file of {file.filehandle.size}")
        _check_segments(image, series.keyframe)
        return
    for i, page in enumerate(series):
        if page is None:
            raise _wrong(image, f"{len(series)} planes, got none for number {i}")
        _check_segments(image, page)


def _check_segments(image: TiffImage, page: Any) -> None:
    keyframe = page.keyframe
    if keyframe.is_stk or keyframe.is_lsm:  # which store the positions of other planes elsewhere
        return
    offsets, nbytes = np.asarray(page.dataoffsets, object), np.asarray(page.databytecounts, object)
    expected, kind = prod(keyframe.chunked), "tiles" if keyframe.is_tiled else "strips"
    if min(len(offsets), len(nbytes)) < expected:
        raise _wrong(image, f"{expected} {kind}, got {min(len(offsets), len(nbytes))}")
    offsets, nbytes = offsets[:expected], nbytes[:expected]
    size = page.parent.filehandle.size
    outside = (offsets < _HEADER_NBYTES) | (nbytes < 1) | (offsets + nbytes > size)
    if outside.any():
        i = int(np.argmax(outside))
        raise _wrong(
            image, f"{kind} in a file of {size} bytes, got number {i} with {nbytes[i]} bytes at byte {offsets[i]}"
        )
    if keyframe.is_contiguous and sum(nbytes) < keyframe.nbytes:
        raise _wrong(image, f"{keyframe.nbytes} bytes of pixels, got {sum(nbytes)}")
