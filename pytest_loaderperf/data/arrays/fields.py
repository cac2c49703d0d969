"""The array fields of samples: their shapes and dtypes, the bytes they take, and arrays that stand for tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

_PYTHON_DTYPES = {bool: np.bool_, int: np.int64, float: np.float64, complex: np.complex128}  # a bool is an int, too


class Sized(Protocol):
    """What has the shape and dtype of one sample's array."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...


class Field(NamedTuple):
    """An array field of a sample. ``name`` says where it is: ``['image']``, ``.mask``, ``[0][1]``; "" is the sample.

    ``shape`` is that of one sample. ``dtype`` is the buffer's, in native byte order. If NumPy lacks ``torch_dtype``, it
    is the unsigned integer of that width; otherwise ``torch_dtype`` is None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    torch_dtype: torch.dtype | None


def nbytes(fields: Sequence[Sized], rows: int = 1) -> int:
    """Bytes of ``rows`` samples, each field counted once, from shapes and dtypes."""
    return rows * sum(field.dtype.itemsize * int(np.prod(field.shape, dtype=np.int64)) for field in fields)


def field_of(leaf: Any, name: str) -> Field | None:
    """The field of a number, array or tensor; None if no row of a buffer can store it."""
    if not isinstance(leaf, np.ndarray | torch.Tensor):
        dtypes = buffer_dtypes(type(leaf))
        return None if dtypes is None else Field(name, (), *dtypes)
    return Field(name, tuple(leaf.shape), *buffer_dtypes(leaf.dtype)) if is_plain(leaf) else None


def is_plain(sample: Any) -> bool:
    """Whether the rows of a buffer can store such arrays or tensors."""
    if not isinstance(sample, torch.Tensor):
        return buffer_dtypes(sample.dtype) is not None
    special = sample.requires_grad or sample.is_nested or sample.is_quantized
    return type(sample) is torch.Tensor and sample.layout is torch.strided and sample.is_cpu and not special


def tensor_over(array: np.ndarray, torch_dtype: torch.dtype | None) -> torch.Tensor:
    """A tensor that shares the memory of ``array``; its items have ``torch_dtype``, if NumPy lacks that."""
    tensor = torch.from_numpy(array)
    return tensor if torch_dtype is None else tensor.view(torch_dtype)


def array_over(leaf: Any) -> np.ndarray:
    """The reverse: an array that shares the memory of an array or plain tensor, or one of a number."""
    if isinstance(leaf, torch.Tensor):
        dtype, torch_dtype = buffer_dtypes(leaf.dtype)
        carried = leaf if torch_dtype is None else leaf.view(getattr(torch, dtype.name))
        leaf = carried.resolve_conj().resolve_neg().numpy()
    return np.asarray(leaf)


def alike(field: Field, one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays of ``field`` have the same values; NaN equals NaN."""
    floats = one.dtype.kind in "fc"
    if field.torch_dtype is not None and field.torch_dtype.is_floating_point:
        one, other = (tensor_over(array, field.torch_dtype).double().numpy() for array in (one, other))
        floats = True
    return np.array_equal(one, other, equal_nan=floats)


def _buffer_dtypes(kind: Any) -> tuple[np.dtype[Any], torch.dtype | None] | None:
    """``Field.dtype`` and ``Field.torch_dtype`` for a dtype or a type of numbers; None if torch has none for it."""
    if isinstance(kind, torch.dtype):
        try:
            return torch.empty(0, dtype=kind).numpy().dtype, None
        except TypeError:
            return np.dtype(f"u{kind.itemsize}"), kind
    if isinstance(kind, type):
        kind = next((dtype for base, dtype in _PYTHON_DTYPES.items() if issubclass(kind, base)), kind)
        if not issubclass(kind, np.generic):
            return None
    native = np.dtype(np.dtype(kind).newbyteorder("=").str)  # by its most common name
    try:
        torch.from_numpy(np.empty(0, native))
    except TypeError:
        return None
    return native, None


buffer_dtypes: Callable[[Any], Any] = lru_cache(_buffer_dtypes)  # else mypy asks for a Hashable, which no type is to it
