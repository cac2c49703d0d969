"""OME-Arrow: images as Arrow structs with a list of planes, written from and read as plain arrays.

The struct is that of the package ``ome-arrow`` 0.1.0 (WayScience/ome-arrow, ``OME_ARROW_STRUCT``); older ones are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pytest_loaderperf.data.arrays.ragged import Flat, Ragged, alike, joined, settled
from pytest_loaderperf.data.arrow.lists import RowOf, is_list, is_number, items_of, numbers_of, refuse_nulls, shifted
from pytest_loaderperf.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

AXES = "tczyx"  # of an image, and the order of its planes
PLANE_AXES = 3  # t, c, z: those that count planes
VERSION = "0.1.0"  # of the struct, in the field that readers check
MOST_ITEMS = 2**31 - 1  # the limit of the 32-bit offsets of one Arrow array


@lru_cache(maxsize=1)
def ome_arrow_type() -> pa.StructType:
    """The Arrow type of one image."""
    import pyarrow as pa

    text, f4, i4, i2 = pa.string(), pa.float32(), pa.int32(), pa.int16()
    channel = [("id", text), ("name", text), ("emission_um", f4), ("excitation_um", f4), ("illumination", text)]
    sizes = [("size_x", i4), ("size_y", i4), ("size_z", i4), ("size_c", i2), ("size_t", i4)]
    physical: list[tuple[str, Any]] = [(f"physical_size_{axis}", f4) for axis in "xyz"]
    physical += [(f"physical_size_{axis}_unit", text) for axis in "xyz"]
    channels = ("channels", pa.list_(pa.struct([*channel, ("color_rgba", pa.uint32())])))
    pixels = ("pixels", pa.list_(pa.uint16()))
    planes = pa.list_(pa.struct([("z", i4), ("t", i4), ("c", i2), pixels]))
    grid: list[tuple[str, Any]] = [("order", text), ("chunk_t", i4), ("chunk_c", i2)]
    grid += [*((f"chunk_{axis}", i4) for axis in "zyx"), ("chunk_order", text)]
    places = [("t", i4), ("c", i2), *((axis, i4) for axis in "zyx"), *((f"shape_{axis}", i4) for axis in "zyx")]
    return pa.struct(
        [
            ("type", text),
            ("version", text),
            ("id", text),
            ("name", text),
            ("image_type", text),
            ("acquisition_datetime", pa.timestamp("us")),
            ("pixels_meta", pa.struct([("dimension_order", text), ("type", text), *sizes, *physical, channels])),
            ("chunk_grid", pa.struct(grid)),
            ("chunks", pa.list_(pa.struct([*places, pixels]))),
            ("planes", planes),
            ("masks", pa.null()),
        ]
    )


def ome_arrow_array(images: np.ndarray) -> pa.StructArray:
    """``images`` (n, y, x) or (n, t, c, z, y, x) in uint16 as n structs, whose pixels share the memory of ``images``.

    Arrays that are not C-contiguous are copied once. ``id`` and ``name`` count from 0; the acquisition time is null.

    Raises DataError for other shapes and dtypes, and for more pixels or planes than one Arrow array can hold.
    """
    import pyarrow as pa

    if images.dtype != np.uint16 or images.ndim not in (3, 1 + len(AXES)):
        raise DataError(
            f"images: expected uint16 of shape (n, y, x) or (n, t, c, z, y, x), got {images.dtype} of shape "
            f"{images.shape}. Cast them, or add the missing axes: channels are images[:, None, :, None]."
        )
    if images.size > MOST_ITEMS:
        raise DataError(
            f"expected at most {MOST_ITEMS:,} pixels in one OME-Arrow array, got {images.size:,}. "
            "Write the images in several arrays, as the chunks of one column."
        )
    n, shape = len(images), (1, 1, 1, *images.shape[1:])[-len(AXES) :]
    size = dict(zip(AXES, shape, strict=True))
    planes = int(np.prod(shape[:PLANE_AXES]))
    at = np.indices(shape[:PLANE_AXES]).reshape(PLANE_AXES, planes)  # t, c and z of each plane
    t, c, z = (pa.array(np.tile(index, n), kind) for index, kind in zip(at, (pa.int32(), pa.int16()) * 2, strict=False))
    pixels = np.ascontiguousarray(images).ravel()
    values = pa.Array.from_buffers(pa.uint16(), pixels.size, [None, pa.py_buffer(pixels)])
    plane_fields = [z.cast(pa.int32()), t, c, pa.ListArray.from_arrays(_steps(n * planes, shape[3] * shape[4]), values)]
    plane_type = ome_arrow_type().field("planes").type.value_type
    number = pa.array(np.arange(n)).cast(pa.string())
    columns = [
        pa.repeat("ome.arrow", n),
        pa.repeat(VERSION, n),
        number,
        number,
        pa.repeat("image", n),
        pa.nulls(n, pa.timestamp("us")),
        _meta(size, n),
        pa.nulls(n, ome_arrow_type().field("chunk_grid").type),
        pa.nulls(n, ome_arrow_type().field("chunks").type),
        pa.ListArray.from_arrays(_steps(n, planes), pa.StructArray.from_arrays(plane_fields, fields=list(plane_type))),
        pa.nulls(n),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(ome_arrow_type()))


def _steps(lists: int, length: int) -> pa.Array:
    """The offsets of ``lists`` of one ``length``."""
    import pyarrow as pa

    return pa.array(np.arange(lists + 1, dtype=np.int64) * length, pa.int32())


def _meta(size: dict[str, int], n: int) -> pa.StructArray:
    import pyarrow as pa

    kind = ome_arrow_type().field("pixels_meta").type
    channels = [
        {"id": f"ch-{i}", "name": f"C{i}", "emission_um": 0.0, "excitation_um": 0.0, "illumination": "Unknown"}
        | {"color_rgba": 0xFFFFFFFF}
        for i in range(size["c"])
    ]
    one: dict[str, Any] = {f"size_{axis}": length for axis, length in size.items()}
    one |= {f"physical_size_{axis}": 1.0 for axis in "xyz"} | {f"physical_size_{axis}_unit": "µm" for axis in "xyz"}
    one |= {"dimension_order": "XYZCT" if size["z"] > 1 else "XYCT", "type": "uint16", "channels": channels}
    return pa.repeat(pa.scalar(one, kind), max(n, 1)).slice(0, n)  # Arrow repeats no nested value zero times


def is_ome_arrow(kind: pa.DataType) -> bool:
    """Whether it is a struct with the fields that an image is read from; other fields are ignored."""
    from pyarrow import types

    if not (types.is_struct(kind) and {"pixels_meta", "planes"} <= _names(kind)):
        return False
    meta, planes = kind.field("pixels_meta").type, kind.field("planes").type
    if not (types.is_struct(meta) and {f"size_{axis}" for axis in AXES} <= _names(meta) and is_list(planes)):
        return False
    plane = planes.value_type
    if not (types.is_struct(plane) and {"t", "c", "z", "pixels"} <= _names(plane)):
        return False
    pixels = plane.field("pixels").type
    return is_list(pixels) and is_number(pixels.value_type)


def _names(struct: pa.StructType) -> set[str]:
    return {field.name for field in struct}


def images_of(column: pa.Array | pa.ChunkedArray, *, name: str = "the column") -> np.ndarray:
    """The images of an OME-Arrow ``column`` as (n, t, c, z, y, x) without those of t, c and z that have length one.

    A view of Arrow's own buffer; a copy if there are several chunks, or planes are in another order than t, c, z.

    Raises DataError for another type, images of several sizes, nulls, and planes that do not match ``pixels_meta``.
    """
    import pyarrow as pa

    if not is_ome_arrow(column.type):
        raise DataError(f"{name!r} holds {str(column.type)[:80]}; expected OME-Arrow structs. Read it with arrays_of.")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    rows = settled(flat_images(chunks, name))
    if isinstance(rows, Ragged):
        raise DataError(
            f"{name!r} has images of several sizes, from {tuple(rows.shapes.min(0).tolist())} to "
            f"{tuple(rows.shapes.max(0).tolist())}; one array needs one size. Read it with arrays_of."
        )
    return rows


def flat_images(chunks: Sequence[pa.Array], name: str, row_of: RowOf = int) -> Flat:
    """Images of any sizes, those of all ``chunks`` one after the other. Raises DataError as `images_of` does.

    ``row_of``: the row that errors name, by the position in the column.
    """
    import pyarrow as pa

    parts, first = [], 0
    for chunk in chunks or [pa.nulls(0, ome_arrow_type())]:
        parts.append(_flat(chunk, name, shifted(row_of, first)))
        first += len(chunk)
    return joined(parts)


class _Planes(NamedTuple):
    """``sizes`` (rows, 5): of the images in t, c, z, y, x; ``counts``: the number of planes of each."""

    name: str
    row_of_image: RowOf
    sizes: np.ndarray
    counts: np.ndarray

    def image_of(self, plane: int) -> int:
        return int(np.searchsorted(np.cumsum(self.counts), plane, "right"))

    def row_of(self, plane: int) -> int:
        return self.row_of_image(self.image_of(plane))

    def error(self, image: int, what: str) -> DataError:
        sizes = " ".join(f"{axis}={size}" for axis, size in zip(AXES, self.sizes[image], strict=True))
        where = f"column {self.name!r}, row {self.row_of_image(image)}"
        return DataError(f"{where}: {what}, but pixels_meta says {sizes}. Write that image again, or drop it.")


def _flat(structs: pa.Array, name: str, own: RowOf) -> Flat:
    refuse_nulls(structs, f"column {name!r}", own)
    meta, lists = structs.field("pixels_meta"), structs.field("planes")
    refuse_nulls(meta, f"column {name!r}, field 'pixels_meta',", own)
    refuse_nulls(lists, f"column {name!r}, field 'planes',", own)
    fields = [f"size_{axis}" for axis in AXES]
    found = [numbers_of(meta.field(field), f"column {name!r}, field {field!r},", own) for field in fields]
    sizes = np.stack([size.astype(np.int64) for size in found], axis=1)
    structs_of_planes, counts = items_of(lists)
    planes = _Planes(name, own, sizes, counts)
    wrong = (counts != sizes[:, :PLANE_AXES].prod(axis=1)) | (sizes < 0).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        raise planes.error(row, f"field 'planes' holds {counts[row]} planes")
    refuse_nulls(structs_of_planes, f"column {name!r}, a plane,", planes.row_of)
    pixels = _pixels(structs_of_planes.field("pixels"), planes)
    source = _order(structs_of_planes, planes)
    if source is not None:
        pixels = _moved(pixels, np.repeat(sizes[:, 3] * sizes[:, 4], counts), source)
    uniform = len(sizes) > 0 and bool((sizes == sizes[0]).all())
    return Flat(pixels, alike(len(sizes), sizes[0].tolist()) if uniform else sizes, PLANE_AXES)


def _pixels(lists: pa.Array, planes: _Planes) -> np.ndarray:
    """The pixels of all planes in their stored order."""
    where = f"column {planes.name!r}, field 'pixels',"
    refuse_nulls(lists, where, planes.row_of)
    items, lengths = items_of(lists)
    wrong = lengths != np.repeat(planes.sizes[:, 3] * planes.sizes[:, 4], planes.counts)
    if wrong.any():
        plane = int(wrong.argmax())
        raise planes.error(planes.image_of(plane), f"field 'pixels' of a plane holds {lengths[plane]} pixels")

    def row_of(position: int) -> int:
        return planes.row_of(int(np.searchsorted(np.cumsum(lengths), position, "right")))

    return numbers_of(items, where, row_of)


def _order(structs: pa.Array, planes: _Planes) -> np.ndarray | None:
    """The planes in the order t, c, z; None if they are already in this order."""
    at: Any = 0
    outside = np.zeros(len(structs), bool)
    coordinates = []
    for axis, field in enumerate(AXES[:PLANE_AXES]):
        where = f"column {planes.name!r}, field {field!r} of a plane,"
        got = numbers_of(structs.field(field), where, planes.row_of).astype(np.int64)
        size = np.repeat(planes.sizes[:, axis], planes.counts)
        outside |= (got < 0) | (got >= size)
        at = at * size + got
        coordinates.append(got)
    if outside.any():
        plane = int(outside.argmax())
        t, c, z = (got[plane] for got in coordinates)
        raise planes.error(planes.image_of(plane), f"a plane is at t={t} c={c} z={z}")
    here = np.arange(len(structs))
    target = at + np.repeat(np.cumsum(planes.counts) - planes.counts, planes.counts)
    if (target == here).all():
        return None
    source = np.full(len(structs), -1)
    source[target] = here
    if (source < 0).any():
        raise planes.error(planes.image_of(int((source < 0).argmax())), "one plane is there twice, another is missing")
    return source


def _moved(pixels: np.ndarray, lengths: np.ndarray, source: np.ndarray) -> np.ndarray:
    """The planes of ``pixels`` in the order ``source``; all ``lengths`` within an image are the same."""
    moved: np.ndarray
    if (lengths == lengths[0]).all():
        moved = pixels.reshape(len(lengths), -1)[source].ravel()
    else:
        starts = np.cumsum(lengths) - lengths
        moved = pixels[np.repeat(starts[source] - starts, lengths) + np.arange(len(pixels))]
    return moved
