"""The header of an encoded picture: kind, size and orientation; and whether the picture is complete."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pytest_loaderperf.errors import DataError

KINDS = "PNG, JPEG, WebP, BMP or GIF"
_ORIENTATION = 0x0112  # the tag of EXIF
_UPRIGHT, _TURNED = 1, 5  # orientations; those from 5 on change width and height
_SHORT = 3  # EXIF's type of an integer of two bytes
_JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers that begin with the size
_JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length
_JPEG_SCAN, _JPEG_EXIF, _JPEG_END = 0xDA, 0xE1, b"\xff\xd9"
_OS2_HEADER = 12  # bytes of BMP's oldest header, which keeps sizes in two bytes
_SHOWN = 8  # bytes of a file that is not a picture


class Header(NamedTuple):
    """``height`` and ``width`` in pixels as stored, before ``orientation`` (1 to 8, as EXIF has it) is applied.

    ``channels`` of a JPEG: 1 grey, 3 colours, 4 CMYK; 0: not known, of other kinds.
    """

    kind: str
    height: int
    width: int
    orientation: int = _UPRIGHT
    channels: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """Height and width as they are shown."""
        return (self.width, self.height) if self.orientation >= _TURNED else (self.height, self.width)


def header_of(data: bytes, *, whole: bool = True) -> Header:
    """The header of the picture ``data``. Nothing is decoded.

    ``whole``: also check that the file ends where it should, and that the checksums of a PNG match.

    Raises DataError for data that is not a picture, has a damaged header, or is incomplete.
    """
    for magic, parse in _PARSERS.items():
        if data.startswith(magic):
            try:
                found = parse(data, whole)
            except (struct.error, IndexError) as error:
                raise _damaged(f"a header, got the end of the data after {len(data)} bytes") from error
            if found.height < 1 or found.width < 1:
                raise _damaged(f"a size of at least 1 pixel, got {found.height} x {found.width}")
            return found
    raise DataError(_no_picture(data))


def is_picture(data: bytes) -> bool:
    """Whether ``data`` begins as one of the kinds that are read here."""
    return data.startswith(tuple(_PARSERS)) and (not data.startswith(b"RIFF") or data[8:12] == b"WEBP")


def _no_picture(data: bytes) -> str:
    if not data:
        return "is empty (0 bytes)"
    if data.startswith(b"version https://git-lfs"):
        return f"is a pointer of Git LFS, not a {KINDS}. Fetch the file: git lfs pull"
    return f"expected a {KINDS}, got data that begin with {data[:_SHOWN]!r}. Convert it, or leave it out."


def _damaged(what: str) -> DataError:
    return DataError(f"is damaged: expected {what}. Get it again, or leave it out.")


def _png(data: bytes, whole: bool) -> Header:  # noqa: FBT001 as all parsers
    height = width = 0
    orientation, view = _UPRIGHT, memoryview(data)
    at = 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if kind == b"IEND":
            break
        if end > len(data):
            if whole or not height:
                raise _damaged(f"a PNG with {length} bytes of {kind.decode('latin-1')!a}, got {len(data) - at - 8}")
            break
        if whole and zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise _damaged(f"the checksum of the chunk {kind.decode('latin-1')!a} at byte {at}, got another")
        if at == 8:  # noqa: PLR2004 after the magic
            if kind != b"IHDR":
                raise _damaged("a PNG that begins with IHDR")
            width, height = struct.unpack_from(">II", data, at + 8)
        elif kind == b"eXIf":
            orientation = _orientation(data[at + 8 : end - 4])
        at = end
    return Header("PNG", height, width, orientation)


def _jpeg(data: bytes, whole: bool) -> Header:  # noqa: FBT001
    orientation, found, at, marker = _UPRIGHT, None, 2, 0
    while marker != _JPEG_SCAN:
        if data[at] != 0xFF:  # noqa: PLR2004 every marker begins so
            raise _damaged(f"a marker of JPEG at byte {at}, got {data[at]:#04x}")
        marker = data[at + 1]
        if marker == 0xFF:  # noqa: PLR2004 a filling byte
            at += 1
            continue
        if marker in _JPEG_ALONE:
            at += 2
            continue
        end = at + 2 + (data[at + 2] << 8 | data[at + 3])
        if marker in _JPEG_SIZES and found is None:
            found = struct.unpack_from(">HHB", data, at + 5)
        elif marker == _JPEG_EXIF and orientation == _UPRIGHT and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _orientation(data[at + 10 : end])
        at = end
    if found is None:
        raise _damaged("a JPEG with its size before its pixels")
    # Within the pixels 0xFF is always followed by 0, so this is the end, not a pixel.
    if whole and not data.endswith(_JPEG_END) and data.find(_JPEG_END, at) < 0:
        raise _damaged(f"a JPEG with an end marker, got none in {len(data)} bytes: it is truncated")
    return Header("JPEG", found[0], found[1], orientation, found[2])


def _webp(data: bytes, whole: bool) -> Header:  # noqa: FBT001
    if data[8:12] != b"WEBP":
        raise DataError(_no_picture(data))
    nbytes = struct.unpack_from("<I", data, 4)[0] + 8
    if whole and nbytes > len(data):
        raise _damaged(f"a WebP of {nbytes} bytes, got {len(data)}: it is truncated")
    size: tuple[int, int] | None = None
    orientation = _UPRIGHT
    for kind, start, end in _riff_chunks(data, min(nbytes, len(data))):
        if kind == b"VP8X" and size is None:
            width, height = (int.from_bytes(data[i : i + 3], "little") + 1 for i in (start + 4, start + 7))
            size = height, width
        elif kind == b"VP8 " and size is None:
            width, height = struct.unpack_from("<HH", data, start + 6)
            size = height & 0x3FFF, width & 0x3FFF
        elif kind == b"VP8L" and size is None:
            (bits,) = struct.unpack_from("<I", data, start + 1)
            size = (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
        elif kind == b"EXIF":
            orientation = _orientation(data[start:end].removeprefix(b"Exif\0\0"))
    if size is None:
        raise _damaged("a WebP with its size")
    return Header("WEBP", *size, orientation)


def _riff_chunks(data: bytes, stop: int) -> Iterator[tuple[bytes, int, int]]:
    at = 12
    while at + 8 <= stop:
        length = struct.unpack_from("<I", data, at + 4)[0]
        yield data[at : at + 4], at + 8, at + 8 + length
        at += 8 + length + length % 2


def _bmp(data: bytes, _whole: bool) -> Header:  # noqa: FBT001
    if struct.unpack_from("<I", data, 14)[0] == _OS2_HEADER:
        width, height = struct.unpack_from("<HH", data, 18)
    else:
        width, height = struct.unpack_from("<ii", data, 18)
    return Header("BMP", abs(height), width)


def _gif(data: bytes, _whole: bool) -> Header:  # noqa: FBT001
    width, height = struct.unpack_from("<HH", data, 6)
    return Header("GIF", height, width)


def _orientation(exif: bytes) -> int:
    """The orientation in a block of EXIF; 1 if it has none, or cannot be parsed, as in other readers."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return _UPRIGHT
    try:
        (at,) = struct.unpack_from(f"{order}I", exif, 4)
        (entries,) = struct.unpack_from(f"{order}H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == _ORIENTATION:
                (value,) = struct.unpack_from(f"{order}{'H' if kind == _SHORT else 'I'}", exif, entry + 8)
                return int(value) if 1 <= value <= 8 else _UPRIGHT  # noqa: PLR2004 there are eight
    except struct.error:
        pass
    return _UPRIGHT


_PARSERS: dict[bytes, Callable[[bytes, bool], Header]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8\xff": _jpeg,
    b"RIFF": _webp,
    b"BM": _bmp,
    b"GIF87a": _gif,
    b"GIF89a": _gif,
}
