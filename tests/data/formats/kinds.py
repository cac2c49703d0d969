"""Tables of every column kind that a format may hold, and which kinds each format holds."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.arrow.ome_arrow import ome_arrow_array

ROWS = 13
IMAGES = np.random.default_rng(0).integers(0, 60_000, (ROWS, 4, 5), dtype=np.uint16)
LABELS = np.arange(ROWS, dtype=np.int32) % 12  # one digit and two

PIXELS = pa.list_(pa.uint16())
PLANE = pa.struct([("z", pa.int32()), ("t", pa.int32()), ("c", pa.int32()), ("pixels", PIXELS)])
META = pa.struct([("size_x", pa.int32()), ("size_y", pa.int32())])
OME = pa.struct([("type", pa.string()), ("name", pa.string()), ("pixels_meta", META), ("planes", pa.list_(PLANE))])


def _ome(row):
    planes = [{"z": 0, "t": 0, "c": c, "pixels": IMAGES[row].ravel().tolist()} for c in range(1 + row % 2)]
    return {"type": "ome.arrow", "name": f"image {row}", "pixels_meta": {"size_x": 5, "size_y": 4}, "planes": planes}


def _numbers(*names):
    return pa.table({name: pa.array(np.arange(ROWS).astype(name)) for name in names})


def tensors(dtype, *shape, **options):
    """A FixedShapeTensor array of 13 counted-up rows."""
    values = np.arange(ROWS * int(np.prod(shape))).astype(dtype)
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(values.dtype), shape, **options)
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(pa.array(values), np.prod(shape)))


_FIELD = pa.field("x", pa.int16(), nullable=False, metadata={"unit": "mm"})
_IMAGES = pa.FixedShapeTensorArray.from_numpy_ndarray(IMAGES)
KINDS = {
    "ints": _numbers("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    "floats": _numbers("float32", "float64"),
    "halves": _numbers("float16"),
    "bools": pa.table({"flag": pa.array(LABELS % 3 == 0)}),
    "fixed": pa.table({"x": pa.FixedSizeListArray.from_arrays(pa.array(IMAGES.ravel()), 20)}),
    "tensors": pa.table({"image": _IMAGES, "label": LABELS}),
    "volumes": pa.table({"volume": tensors("float32", 2, 3, 4, dim_names=["z", "y", "x"])}),
    "permuted": pa.table({"image": tensors("uint8", 3, 2, permutation=[1, 0])}),
    "fields": pa.table([np.arange(ROWS, dtype="i2")], schema=pa.schema([_FIELD], {"made": "today"})),
    "cased": pa.table({"a": LABELS, "A": LABELS[::-1]}),
    "strings": pa.table({"name": [f"row {i}" for i in range(ROWS)], "nö ne": [None, *"abcdefghijkl"]}),
    "nulls": pa.table({"x": pa.array([None, *range(ROWS - 1)], pa.int32())}),
    "lists": pa.table({"pixels": pa.array([image.ravel().tolist() for image in IMAGES], PIXELS)}),
    "large": pa.table({"pixels": pa.array([image.ravel().tolist() for image in IMAGES], pa.large_list(pa.uint16()))}),
    "ragged": pa.table({"tokens": pa.array([list(range(i)) for i in range(ROWS)], pa.list_(pa.float32()))}),
    "nested": pa.table({"image": pa.array([_ome(row) for row in range(ROWS)], OME)}),
    "ome_arrow": pa.table({"image": ome_arrow_array(IMAGES), "label": LABELS}),
    "inner": pa.table({"s": pa.StructArray.from_arrays([_IMAGES, pa.array(LABELS)], ["image", "label"])}),
}
_DENSE = ["ints", "floats", "halves", "bools", "fixed", "tensors", "volumes", "permuted", "fields", "cased"]
HOLDS = {
    "parquet": list(KINDS),
    "arrow": list(KINDS),
    "lance": list(KINDS),
    "duckdb": list(KINDS),
    "vortex": list(KINDS),
    "tiff": ["tensors", "volumes", "permuted"],
    "ome_zarr": ["tensors", "volumes", "permuted"],
    "safetensors": _DENSE,
    "npy": _DENSE,
}
CASES = [(name, kind) for name, kinds in HOLDS.items() for kind in kinds]
REFUSED = [(name, kind) for name, kinds in HOLDS.items() for kind in KINDS if kind not in kinds]
