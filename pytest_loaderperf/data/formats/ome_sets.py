"""OME-TIFF images in several files: which files are one image, and which file describes it."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple
from xml.etree import ElementTree as ET

from pytest_loaderperf.data.formats.diagnosis import check_file
from pytest_loaderperf.errors import DataError

_DESCRIPTION = 270  # the tag ImageDescription
_MOST_TAGS = 4096  # of a page; more mean that it is damaged
_START_NBYTES = 16  # of the header of both kinds
TIFF_SUFFIXES = (".tif", ".tiff", ".tf2", ".tf8", ".btf")


class TiffImage(NamedTuple):
    """One image: the ``file`` to open, the position of its series there, and all other files with ``parts`` of it.

    ``images``: how many the metadata describe, and how many ``pixels`` this one has; 0: there are no such metadata.
    ``companion`` is the file of metadata, if they are in one. ``lost``: the missing file that describes the image.
    ``level``: of its pyramid, 0 the finest; ``page``: that page of the file alone is the image.
    """

    file: Path
    series: int = 0
    images: int = 0
    pixels: int = 0
    parts: tuple[Path, ...] = ()
    companion: Path | None = None
    lost: Path | None = None
    level: int = 0
    page: int | None = None


def tiff_images(files: Iterable[Path]) -> dict[Path, TiffImage]:
    """The images in ``files``, each by the first of its files, in the order of ``files``.

    Files whose OME-XML says that they are one image are one. An unreadable file counts as an image; reading it says
    what is wrong.
    """
    images: dict[Path, TiffImage] = {}
    described: dict[tuple[frozenset[Path], int], Path] = {}
    members: set[Path] = set()
    waiting: list[TiffImage] = []
    for file in files:
        image = tiff_image(file)
        if image.lost is not None:  # unless another file describes it
            waiting.append(image)
        elif not image.parts and image.companion is None:
            images[file] = image
        else:
            key = (frozenset((_real(file), *map(_real, image.parts))), image.series)
            if key not in described:
                described[key] = file
                members |= key[0]
                images[file] = image
    images |= {image.file: image for image in waiting if _real(image.file) not in members}
    return {file: images[file] for file in sorted(images)}


def _real(file: Path) -> Path:
    """``file`` with links of its folders resolved, whether it exists or not."""
    return file.parent.resolve() / file.name


def tiff_image(file: Path) -> TiffImage:
    """The image that ``file`` is or belongs to."""
    root = _ome(_description(file))
    if root is None:
        return TiffImage(file)
    elsewhere = next((one.get("MetadataFile") for one in root.iter() if _is(one, "BinaryOnly")), None)
    if elsewhere is None:
        return _described(file, file.name, root, None)
    master = file.parent / elsewhere
    if master.suffix.lower() in TIFF_SUFFIXES or not master.is_file():
        return TiffImage(file, lost=master)  # a TIFF that describes others is a sample itself
    root = _ome(master.read_bytes())
    return TiffImage(file, lost=master) if root is None else _described(file, file.name, root, master)


def _described(file: Path, name: str, root: ET.Element, companion: Path | None) -> TiffImage:
    """The first image of those that ``root`` describes which has a part in ``file``."""
    own = root.get("UUID") if companion is None else None
    images = [
        [(uuid.text or "", uuid.get("FileName", "")) for uuid in image.iter() if _is(uuid, "UUID")]
        for image in root
        if _is(image, "Image")
    ]
    sizes = [_pixels(image) for image in root if _is(image, "Image")]
    every = {uuid for image in images for uuid in image}
    # A renamed file is found by its UUID; one without a UUID only if there is no other.
    alone = companion is None and own is None and len(every) == 1
    for series, uuids in enumerate(images):
        own_parts = {one for one in uuids if alone or one[0] == own or (own is None and one[1].lower() == name.lower())}
        if own_parts or not uuids:
            names = dict.fromkeys(filename for _, filename in uuids if (_, filename) not in own_parts)
            parts = tuple(file.parent / one for one in names if one)
            return TiffImage(file, series, len(images), sizes[series], parts, companion)
    parts = tuple(file.parent / one for one in sorted({filename for _, filename in every if filename}))
    return TiffImage(file, 0, len(images), sizes[0] if sizes else 0, parts, companion)


def _pixels(image: ET.Element) -> int:
    """How many pixels the metadata of an image promise; 0 if they do not say."""
    sizes = next((one for one in image if _is(one, "Pixels")), image)
    try:
        return prod(int(sizes.get(f"Size{axis}", "1")) for axis in "XYZCT") if sizes is not image else 0
    except ValueError:
        return 0


def _is(element: ET.Element, name: str) -> bool:
    return element.tag.rpartition("}")[2] == name


def _ome(text: bytes) -> ET.Element | None:
    text = text.rstrip(b"\0 \r\n\t")
    if not text.endswith(b"OME>"):
        return None
    try:
        return ET.fromstring(text)  # noqa: S314 expat limits the expansion of entities
    except (ET.ParseError, ValueError, LookupError):
        return None


def _description(file: Path) -> bytes:
    """The description of the first page; nothing if there is none. Reads no more of a file, as it is done to all."""
    try:
        return description(file)
    except (DataError, OSError, EOFError, struct.error, ValueError, OverflowError):
        return b""


def description(file: Path) -> bytes:
    """The same. Raises EOFError if its text is beyond the end of the file, and other errors if it is not a TIFF."""
    check_file(file)
    with file.open("rb") as stream:
        return next(_descriptions(stream), b"")


def _descriptions(stream: BinaryIO) -> Iterator[bytes]:
    start = stream.read(_START_NBYTES)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    if order is None:
        return
    big = struct.unpack_from(f"{order}H", start, 2)[0] == 43  # noqa: PLR2004 the number of a BigTIFF
    at: int = struct.unpack_from(f"{order}Q", start, 8)[0] if big else struct.unpack_from(f"{order}I", start, 4)[0]
    count_format, tag_format = (f"{order}Q", f"{order}HHQ8s") if big else (f"{order}H", f"{order}HHI4s")
    stream.seek(at)
    (count,) = struct.unpack(count_format, stream.read(struct.calcsize(count_format)))
    if count > _MOST_TAGS:
        return
    for code, _, length, value in struct.iter_unpack(tag_format, stream.read(count * struct.calcsize(tag_format))):
        if code != _DESCRIPTION:
            continue
        if length <= len(value):
            yield value[:length]
        else:
            stream.seek(struct.unpack(f"{order}{'Q' if big else 'I'}", value)[0])
            text = stream.read(min(length, os.fstat(stream.fileno()).st_size))
            if len(text) < length:
                raise EOFError(f"a description of {length} bytes, got {len(text)}")
            yield text
