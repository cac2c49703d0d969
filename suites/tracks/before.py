"""What people write at first: every sample through Python objects, or through its file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pytest_loaderperf.data.arrow.ome_arrow import AXES


class PerSample:
    """Rows of an Arrow table, each made by ``as_py``: the OME-Arrow struct as a dict that holds lists of pixels."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = {name: self._table[name][index].as_py() for name in ("image", "label")}
        return {"image": torch.from_numpy(pixels_of(row["image"])), "label": row["label"]}


def pixels_of(image: dict[str, Any]) -> np.ndarray:
    """The pixels of one OME-Arrow image without axes of length one, from Python's own objects."""
    sizes = [image["pixels_meta"][f"size_{axis}"] for axis in AXES]
    return np.array([plane["pixels"] for plane in image["planes"]], np.uint16).reshape(sizes).squeeze()


class PerFile:
    """Image files, each opened when its sample is asked for: ``take`` of one row."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._table.take(np.array([index]))
        image = row["image"].combine_chunks()
        return {"image": torch.from_numpy(image.to_numpy_ndarray()[0].copy()), "label": row["label"][0].as_py()}
