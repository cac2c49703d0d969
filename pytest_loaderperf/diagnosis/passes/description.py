"""Descriptions of values: type, elements, bytes, and what else a rule may want to know."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch

from pytest_loaderperf.diagnosis.ledger import Value
from pytest_loaderperf.diagnosis.passes.values import MOST_DEPTH, MOST_PARTS, ends, indexed, is_of_user


def describe(value: object) -> Value:  # noqa: PLR0911 one return a kind of value
    """What a rule may want to know of a value."""
    value = indexed(value)
    name = type(value).__name__
    if isinstance(value, torch.Tensor):
        kind, items = str(value.dtype).removeprefix("torch."), value.numel()
        contiguous = value.layout == torch.strided and value.is_contiguous()
        made = Value(name, kind, items, items * value.element_size(), value.device.type)
        cuda = made.device == "cpu" and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
        pinned = cuda and value.is_pinned()
        return replace(made, contiguous=contiguous, dims=value.ndim, pinned=pinned)
    if isinstance(value, np.ndarray):
        flags = value.flags
        shareable = bool(flags.writeable) and all(stride >= 0 for stride in value.strides)
        contiguous = bool(flags.c_contiguous)
        return Value(
            name, str(value.dtype), value.size, value.nbytes, "cpu", False, shareable, contiguous, dims=value.ndim
        )
    if is_of_user(type(value)):
        return Value(name)
    if isinstance(value, (list, tuple)):
        items, numbers = _numbers(value)
        arrays = [part for part in value[: MOST_PARTS[0]] if isinstance(part, (torch.Tensor, np.ndarray))]
        nbytes = sum(int(part.nbytes) for part in arrays) * len(value) // max(1, min(len(value), MOST_PARTS[0]))
        return Value(
            name,
            "",
            items,
            nbytes,
            "",
            numbers,
            nested=_inside(value, 0),
            texts=bool(value) and isinstance(value[0], str),
        )
    if isinstance(value, (str, bytes, bytearray)):
        return Value(name, "", len(value), len(value))
    if isinstance(value, dict):
        texts = sum(len(part) for part in ends(list(value.values()), 0) if isinstance(part, str))
        return Value(name, "", len(value), texts, nested=_inside(value, 0))
    try:
        length = len(value)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 code of the user's or a library's, which may raise anything
        length = 0
    try:
        held = value.nbytes if hasattr(value, "nbytes") else value.memory_usage(index=False).sum()  # type: ignore[attr-defined]
        nbytes = int(held) if length else 0
    except Exception:  # noqa: BLE001 code of the user's or a library's, which may raise anything
        nbytes = 0
    dtype = getattr(value, "dtype", "") or ""
    return Value(name, str(dtype), length, nbytes, chunk_nbytes=_chunk_nbytes(value, dtype))


def _chunk_nbytes(value: object, dtype: object) -> int:
    """Bytes of a chunk of an array on disk, as h5py and zarr say it; 0 for others."""
    try:
        chunks: Any = getattr(value, "chunks", None)
    except Exception:  # noqa: BLE001 code of a library's, which may raise anything
        return 0
    size = getattr(dtype, "itemsize", 0)
    whole = isinstance(chunks, tuple) and chunks and all(isinstance(part, int) for part in chunks)
    return prod(chunks) * size if whole and isinstance(size, int) else 0


def _inside(value: Any, depth: int) -> int:
    """Elements of a list or dict and of those in it, whose first and last ones stand for all."""
    if not isinstance(value, (list, tuple, dict)):
        return 0
    parts = ends(list(value.values()) if isinstance(value, dict) else value, depth)
    if depth == MOST_DEPTH or not parts:
        return len(value)
    return len(value) + sum(_inside(part, depth + 1) for part in parts) * len(value) // len(parts)


def _numbers(value: Any) -> tuple[int, bool]:
    """Elements of a nested list, as far as its first parts say, and whether they are numbers."""
    items, part = 1, value
    while isinstance(part, (list, tuple)) and len(part):
        items *= len(part)
        part = part[0]
    if isinstance(part, (list, tuple)):
        return 0, False
    return items, isinstance(part, (int, float, np.number)) and not isinstance(part, bool)
