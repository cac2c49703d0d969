"""Safetensors: one file with one tensor for each column, mapped into memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pytest_loaderperf.data.formats.dense import ArraysTable, OneOfArrays, layouts_of
from pytest_loaderperf.data.formats.library import library
from pytest_loaderperf.data.formats.npy import map_array, write_arrays
from pytest_loaderperf.data.formats.storage import schema_of_text, schema_text, stored_names
from pytest_loaderperf.data.formats.writing import complete_or_absent
from pytest_loaderperf.errors import DataError

SCHEMA_KEY = "ARROW:schema"  # in the file's own metadata


class Safetensors:
    """Format ``safetensors``. Writing temporarily takes twice the space, because the header has the number of rows."""

    name = "safetensors"
    suffix = ".safetensors"
    package = "safetensors"
    options = ("columns",)

    def write(self, batches: pa.RecordBatchReader, path: Path) -> None:
        """Write all rows to the file ``path``, complete or absent. Raises DataError."""
        save_file = library("safetensors.numpy", self.package).save_file
        layouts = layouts_of(batches.schema, self.name)
        with complete_or_absent(path) as new:
            columns = new.parent / "columns"
            columns.mkdir()
            # With numbers, because a column's name may not be a valid file name.
            files = [columns / f"{place}.npy" for place in range(len(layouts))]
            write_arrays(batches, layouts, files)
            names = _stored_names(batches.schema)
            arrays = {name: map_array(file) for name, file in zip(names, files, strict=True)}
            save_file(arrays, new, metadata={SCHEMA_KEY: schema_text(batches.schema)})

    def open(self, path: Path, **options: Any) -> SafetensorsTable:
        """The table in the file ``path``. Raises DataError."""
        return SafetensorsTable(path, options)


class SafetensorsTable(ArraysTable):
    """A safetensors file whose tensors' first dimension is the rows."""

    format_name = "safetensors"

    def _load(self) -> tuple[Mapping[str, OneOfArrays], pa.Schema | None]:
        # As torch tensors, because those share the mapped memory; the library copies what it gives as NumPy arrays.
        with library("safetensors", Safetensors.package).safe_open(self.path, framework="pt") as file:
            text = (file.metadata() or {}).get(SCHEMA_KEY)
            schema = schema_of_text(text) if text else None
            known = list(file.keys())
            if not known:
                raise DataError(f"{self.path} holds no tensors. Expected one for each column.")
            stored = stored_columns(schema, known)
            wanted = self._wanted(stored)
            arrays = {name: _array(file.get_tensor(stored[name])) for name in wanted}
        if schema is not None:
            schema = pa.schema([schema.field(name) for name in wanted], schema.metadata)
        return arrays, schema


def stored_columns(schema: pa.Schema | None, known: list[str]) -> dict[str, str]:
    """The tensor of each column: by ``schema``, the one that was written, or else of all ``known`` ones."""
    if schema is None:
        return dict(zip(known, known, strict=True))
    return dict(zip(schema.names, _stored_names(schema), strict=True))


def _stored_names(schema: pa.Schema) -> list[str]:
    return stored_names(schema.names, lambda name: name == "__metadata__")  # which no tensor can have


def _array(tensor: Any) -> np.ndarray:
    """Its memory, but of floats of 16 or 8 bits that NumPy lacks a copy in float32, which holds them exactly."""
    narrow = tensor.is_floating_point() and str(tensor.dtype) not in ("torch.float16", "torch.float32", "torch.float64")
    array: np.ndarray = (tensor.float() if narrow else tensor).numpy()
    return array
