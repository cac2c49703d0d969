"""Decodes one picture into a given array: upright, in the colours and size that the caller chooses."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal, get_args

import numpy as np

from pytest_loaderperf.data.arrays.indices import is_count
from pytest_loaderperf.data.encoded.header import Header, header_of
from pytest_loaderperf.data.formats.library import library
from pytest_loaderperf.errors import DataError

Mode = Literal["RGB", "RGBA", "L", "I;16"]
Fit = Literal["crop", "stretch", "pad"]
Size = tuple[int, int]  # height and width in pixels
MOST_NBYTES = 1 << 30  # of a picture while it is decoded: 268 million pixels, a quarter more than the largest cameras
PIXEL_NBYTES = 4  # what Pillow takes for one, with any colours
_CHANNELS: dict[str, tuple[int, ...]] = {"RGB": (3,), "RGBA": (4,), "L": (), "I;16": ()}
_PLUGINS = {
    "PNG": ("PngImagePlugin", "PngImageFile"),
    "JPEG": ("JpegImagePlugin", "JpegImageFile"),
    "WEBP": ("WebPImagePlugin", "WebPImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
    "GIF": ("GifImagePlugin", "GifImageFile"),
}
_SMALL_GREYS = {"L;2": 85, "L;4": 17}  # as Pillow calls them: by what their values are multiplied to fill a byte
_UNKNOWN = "unknown"  # of a transparent colour
_WIDEN = 257  # times a byte: 255 becomes 65,535
_HIGHEST_SCALE = 8  # by which a JPEG can be made smaller while it is decoded
_GAP = 2  # such a JPEG keeps this times the wanted size, so that the later resize determines its quality
_CMYK = 4
_LONGEST = 200  # characters of a decoder's own message
_BENIGN = "extraneous bytes before marker"  # a warning of libjpeg about bytes that it skips without loss
# What EXIF's orientations 1 to 8 do to pixels (height, width, ...).
_UPRIGHT: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda a: a,
    lambda a: a[:, ::-1],
    lambda a: a[::-1, ::-1],
    lambda a: a[::-1],
    lambda a: a.swapaxes(0, 1),
    lambda a: a.swapaxes(0, 1)[:, ::-1],
    lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    lambda a: a.swapaxes(0, 1)[::-1],
)


@dataclass(frozen=True, slots=True)
class Decoder:
    """How pictures are decoded; it also decodes them.

    ``mode``: ``"RGB"`` (height, width, 3), ``"RGBA"`` (height, width, 4) or ``"L"`` (height, width), uint8; ``"I;16"``
    (height, width) uint16. ``size``: height and width in pixels, one number for both, None: each picture's own.
    ``fit``, if there is a size: ``"crop"`` scales a picture until it covers the size and keeps the middle,
    ``"stretch"`` changes its proportions, ``"pad"`` makes a larger one smaller, puts it at the top left and fills the
    rest with zeros. ``most_nbytes``: the most memory of one picture while it is decoded, 4 bytes a pixel.

    Raises DataError for other values.
    """

    mode: Mode = "RGB"
    size: int | Size | None = None
    fit: Fit = "crop"
    most_nbytes: int = MOST_NBYTES

    def __post_init__(self) -> None:
        for name, value, known in (("mode", self.mode, get_args(Mode)), ("fit", self.fit, get_args(Fit))):
            if value not in known:
                raise DataError(f"{name}: expected one of {', '.join(map(repr, known))}, got {value!r}.")
        if is_count(self.size):
            object.__setattr__(self, "size", (self.size, self.size))
        size = self.size
        if size is not None and not (isinstance(size, tuple) and len(size) == 2 and all(map(is_count, size))):  # noqa: PLR2004
            raise DataError(
                f"size: expected a number of pixels, or height and width as a tuple, got {size!r}. "
                "Give one such as 224 or (224, 320); None keeps each picture's own."
            )
        if not is_count(self.most_nbytes):
            raise DataError(f"most_nbytes: expected an integer of at least 1, got {self.most_nbytes!r}.")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""
        return np.dtype(np.uint16 if self.mode == "I;16" else np.uint8)

    @property
    def channels(self) -> tuple[int, ...]:
        """The last dimensions of a picture; a grey one has none."""
        return _CHANNELS[self.mode]

    @property
    def one_shape(self) -> tuple[int, ...] | None:
        """The shape of every picture; None if each has its own."""
        return None if self.size is None else (*self._wanted, *self.channels)

    @property
    def _wanted(self) -> Size:
        assert isinstance(self.size, tuple)
        return self.size

    def shape_of(self, header: Header) -> tuple[int, ...]:
        """The shape of the picture with ``header``. Raises DataError if decoding it takes too many bytes."""
        needed = header.height * header.width * PIXEL_NBYTES
        if needed > self.most_nbytes:
            raise DataError(
                f"has {header.height} x {header.width} pixels, which take {needed:,} bytes; expected at most "
                f"{self.most_nbytes:,}. Give a larger most_nbytes, or leave it out."
            )
        return self.one_shape or (*header.size, *self.channels)

    def decode(self, data: bytes, header: Header | None = None) -> np.ndarray:
        """The picture ``data`` as an array of its own. Raises as ``decode_into`` does."""
        header = header or header_of(data)
        out = np.empty(self.shape_of(header), self.dtype)
        self.decode_into(data, out, header)
        return out

    def decode_into(self, data: bytes, out: np.ndarray, header: Header | None = None) -> None:
        """Decode ``data`` into ``out``, an array of the picture's shape and ``dtype``. The caller owns both.

        Raises DataError if ``data`` are no whole picture, take too many bytes, or ``out`` does not fit them.
        """
        header = header or header_of(data)
        expected = self.shape_of(header)
        if out.shape != expected or out.dtype != self.dtype:
            raise DataError(f"expected an array of shape {expected} and {self.dtype}, got {out.shape} and {out.dtype}.")
        try:
            self._decode(data, out, header)
        except (DataError, MemoryError):
            raise
        except Exception as error:
            raise _damaged(error) from error

    def _decode(self, data: bytes, out: np.ndarray, header: Header) -> None:
        by_turbo = _by_turbo(header)
        at_once = self.size is None and header.orientation == 1 and out.flags.c_contiguous
        if by_turbo and at_once and (self.mode == "RGB" or (self.mode == "L" and header.channels == 1)):
            _turbo_pixels(data, header, "GRAY" if self.mode == "L" else "RGB", out=out)
            return
        wanted, box, ratio = self._resized(header)
        scale = _scale(ratio) if header.kind == "JPEG" else 1
        image = _converted(_image(data, header, scale), self.mode)
        if wanted is not None:
            part = tuple(edge / scale for edge in box)
            image = image.resize(wanted, library("PIL.Image", "pillow").Resampling.BILINEAR, part)
        pixels = upright(np.asarray(image), header)
        height, width = pixels.shape[:2]
        out[:height, :width] = pixels
        if (height, width) != out.shape[:2]:
            out[height:] = 0
            out[:height, width:] = 0

    def _resized(self, header: Header) -> tuple[Size | None, tuple[float, ...], float]:
        """Width and height to resize to, the box (left, top, right, bottom) of it, and by how much it is reduced."""
        height, width = header.height, header.width  # as stored
        whole = (0.0, 0.0, width, height)
        if self.size is None:
            return None, whole, 1
        rows, columns = self._wanted if header.size == (height, width) else self._wanted[::-1]
        ratios = height / rows, width / columns
        if self.fit == "stretch":
            return (columns, rows), whole, min(ratios)
        if self.fit == "pad":
            most = max(1.0, *ratios)
            inside = max(1, min(columns, round(width / most))), max(1, min(rows, round(height / most)))
            return inside, whole, most
        least = min(ratios)
        left, top = (max(0.0, length - wanted * least) / 2 for length, wanted in ((width, columns), (height, rows)))
        return (columns, rows), (left, top, width - left, height - top), least


def stored(data: bytes, most_nbytes: int) -> np.ndarray:
    """The pixels of the picture ``data`` upright, with the bits and colours as stored.

    With a palette they are indices of colours. Raises as ``Decoder.decode_into`` does.
    """
    header = header_of(data)
    Decoder(most_nbytes=most_nbytes).shape_of(header)
    try:
        return upright(np.asarray(_image(data, header, 1)), header)
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise _damaged(error) from error


def upright(pixels: np.ndarray, header: Header) -> np.ndarray:
    """A view of ``pixels`` (height, width, ...) with the orientation applied."""
    return _UPRIGHT[header.orientation - 1](pixels)


def _scale(ratio: float) -> int:
    """By how much a JPEG is reduced while it is decoded: a power of two that leaves twice the wanted size."""
    scale = 1
    while scale * 2 <= min(ratio / _GAP, _HIGHEST_SCALE):
        scale *= 2
    return scale


def _damaged(error: Exception) -> DataError:
    """A decoder's error as a DataError."""
    reason = (str(error).splitlines() or [""])[0][:_LONGEST] or type(error).__name__
    return DataError(f"is damaged: {reason}. Get it again, or leave it out.")


def _by_turbo(header: Header) -> bool:
    return header.kind == "JPEG" and header.channels != _CMYK and turbo() is not None


def _image(data: bytes, header: Header, scale: int) -> Any:
    """Pillow's image of ``data``, as stored; of a JPEG made smaller by ``scale``."""
    return (_turbo_image if _by_turbo(header) else pillow_image)(data, header, scale)


@cache
def turbo() -> Any:
    """The module simplejpeg, which releases the interpreter lock and writes to a given buffer; None: not installed."""
    try:
        return import_module("simplejpeg")
    except ImportError:
        return None


def _turbo_pixels(data: bytes, header: Header, colours: str, scale: int = 1, out: np.ndarray | None = None) -> Any:
    height, width = -(-header.height // scale), -(-header.width // scale)
    smaller = {"min_height": height, "min_width": width} if scale > 1 else {}
    try:
        pixels = turbo().decode_jpeg(data, colours, buffer=out, **smaller)
    except ValueError as error:
        if _BENIGN not in str(error):
            raise
        pixels = turbo().decode_jpeg(data, colours, buffer=out, strict=False, **smaller)
    if pixels.shape[:2] != (height, width):
        raise DataError(f"is damaged: expected {height} x {width} pixels, got {pixels.shape[:2]}.")
    return pixels


def _turbo_image(data: bytes, header: Header, scale: int) -> Any:
    grey = header.channels == 1
    pixels = _turbo_pixels(data, header, "GRAY" if grey else "RGB", scale)
    return library("PIL.Image", "pillow").fromarray(pixels[..., 0] if grey else pixels)


def pillow_image(data: bytes, header: Header, scale: int) -> Any:
    """Pillow's image of ``data``, as stored, decoded; of a JPEG made smaller by ``scale``."""
    module, plugin = _PLUGINS[header.kind]
    # Not `Image.open`, which warns of large pictures by a limit of the whole process. Here bytes are counted.
    image = getattr(library(f"PIL.{module}", "pillow"), plugin)(io.BytesIO(data))
    if image.size != (header.width, header.height):
        raise DataError(f"is damaged: expected {header.width} x {header.height} pixels, got {image.size}.")
    if scale > 1:
        image.draft(None, (max(1, header.width // scale), max(1, header.height // scale)))
    stored_as = image.tile[0].args if image.tile else None
    image.load()
    if (transparent := image.info.get("transparency")) is not None:
        if stored_as in _SMALL_GREYS:  # Pillow widens the pixels alone
            image.info["transparency"] = transparent * _SMALL_GREYS[stored_as]
        elif stored_as == "RGB;16B":  # it keeps the upper halves, which other colours may share
            image.info["transparency"] = _UNKNOWN
    return image


def _converted(image: Any, mode: Mode) -> Any:
    """``image`` in ``mode``: 16 bits become 8 by their upper half, 8 become 16 by 257; without alpha it is dropped."""
    fromarray = library("PIL.Image", "pillow").fromarray
    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):
        deep = np.asarray(image)
        if mode == "I;16":
            return image if image.mode == "I;16" else fromarray(deep.astype(np.uint16))
        image = fromarray((deep >> 8).astype(np.uint8))
        if mode == "RGBA" and isinstance(transparent, int):
            image = image.convert("RGBA")
            image.putalpha(fromarray(np.where(deep == transparent, 0, 255).astype(np.uint8)))
    if mode == "RGBA" and transparent is _UNKNOWN:
        raise DataError(
            "has a transparent colour of 16 bits; expected an alpha channel for mode='RGBA'. Convert it, or choose "
            "another mode."
        )
    if mode != "RGBA" and transparent is not None:
        image.info.pop("transparency", None)  # Pillow would warn that this is dropped
    if mode == "I;16":
        return fromarray(np.asarray(image.convert("L")).astype(np.uint16) * _WIDEN)
    return image if image.mode == mode else image.convert(mode)
