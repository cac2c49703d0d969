"""What samples are made of: containers and their parts, numbers and arrays, and in what two samples differ."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from operator import attrgetter, itemgetter, setitem
from typing import Any, NamedTuple

import numpy as np
import torch

from pytest_loaderperf.errors import DataError

_PYTHON_DTYPES = {bool: np.bool_, int: np.int64, float: np.float64, complex: np.complex128}  # a bool is an int, too


class Field(NamedTuple):
    """An array field of a sample. ``name`` says where it is: ``['image']``, ``.mask``, ``[0][1]``; "" is the sample.

    ``shape`` is that of one sample. ``dtype`` is the buffer's, in native byte order: where NumPy lacks ``torch_dtype``
    it is the unsigned integer of that width; elsewhere ``torch_dtype`` is None.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    torch_dtype: torch.dtype | None


class SampleMismatchError(DataError, RuntimeError):
    """A sample that does not fit the first one of its batch, in the field ``name``.

    ``position`` is its index in the batch; -1 in the main process if a worker process raised it.
    """

    def __init__(self, text: str, position: int = -1) -> None:
        super().__init__(text)
        self.name, self.position = "", position

    def __str__(self) -> str:
        if self.position < 0:
            return str(self.args[0])
        where = f" in field {self.name!r}" if self.name else ""
        return f"sample {self.position} of the batch differs{where}: {self.args[0]}"


def is_container(sample: object) -> bool:
    """Whether it has ``parts``."""
    if isinstance(sample, Mapping | Sequence):
        return not isinstance(sample, str | bytes)
    return is_dataclass(sample) and not isinstance(sample, type)


def parts(container: Any) -> dict[Any, Any]:
    """Its parts, by key, index or name of a dataclass's field."""
    if type(container) is not dict and isinstance(container, Sequence):
        return dict(enumerate(container))
    if isinstance(container, Mapping):
        return {key: container[key] for key in container}
    return {field.name: getattr(container, field.name) for field in fields(container)}


def labelled(container: Any) -> list[tuple[str, Any]]:
    """Its parts, each with how it is reached from there."""
    if type(container) is not dict and isinstance(container, Sequence):
        names = getattr(container, "_fields", None) if isinstance(container, tuple) else None
        if names is None:
            return [(f"[{i}]", part) for i, part in enumerate(container)]
        return [(f".{name}", part) for name, part in zip(names, container, strict=True)]
    if isinstance(container, Mapping):
        return [(f"[{key!r}]", container[key]) for key in container]
    return [(f".{name}", part) for name, part in parts(container).items()]


def columns(containers: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Every part of all of them, in the order of ``parts``. Raises where they are not alike."""
    first = containers[0]
    if len(set(map(type, containers))) > 1:
        raise TypeError("the containers are of several types")
    if type(first) is not dict and isinstance(first, Sequence):
        return zip(*containers, strict=True)
    if not isinstance(first, Mapping):
        return [list(map(attrgetter(field.name), containers)) for field in fields(first)]
    if len(set(map(len, containers))) > 1:
        raise ValueError("the mappings are of several lengths")
    return [list(map(itemgetter(key), containers)) for key in first]


def rebuilt(container: Any, values: list[Any], *, tuples: bool = False) -> Any:
    """A container like this one, of ``values`` in the order of ``parts``; a list or dict where it cannot be made.

    Plain tuples become lists, as in torch's collate, unless they are to stay ``tuples``. What else a mutable container
    or a dataclass holds is kept.
    """
    kind = type(container)
    if kind is dict or kind is list:
        return values if kind is list else dict(zip(container, values, strict=True))
    if isinstance(container, tuple):
        if hasattr(container, "_fields"):
            return kind(*values)
        return kind(values) if tuples else values
    by_key = dict(zip(parts(container), values, strict=True))
    plain = values if isinstance(container, Sequence) else by_key
    subscribed = isinstance(container, Mapping | Sequence)
    try:
        if subscribed and not isinstance(container, MutableMapping | MutableSequence):
            return kind(plain)
        clone = copy.copy(container)
        put = setitem if subscribed else object.__setattr__  # a dataclass may be frozen
        for key, value in by_key.items():
            put(clone, key, value)
    except TypeError:
        return plain
    return clone


def _buffer_dtypes(kind: Any) -> tuple[np.dtype[Any], torch.dtype | None] | None:
    """``Field.dtype`` and ``Field.torch_dtype`` for a dtype or a type of numbers; None where torch has none for it."""
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


def is_plain(sample: Any) -> bool:
    """Whether the rows of a buffer can hold such arrays or tensors."""
    if not isinstance(sample, torch.Tensor):
        return buffer_dtypes(sample.dtype) is not None
    special = sample.requires_grad or sample.is_nested or sample.is_quantized
    return type(sample) is torch.Tensor and sample.layout is torch.strided and sample.is_cpu and not special


def described(sample: Any, *, ragged: bool = False) -> str:
    """In words, what samples must have in common; ``ragged``: their number of dimensions, but not their shape."""
    kind = type(sample).__name__
    if isinstance(sample, np.ndarray | torch.Tensor):
        if isinstance(sample, np.ndarray):
            what = f"{sample.dtype.newbyteorder('=')} array"
        elif is_plain(sample):
            what = f"{sample.dtype} tensor"
        else:
            return f"{kind} ({sample.dtype}, {sample.layout}, {sample.device}, requires_grad={sample.requires_grad})"
        return f"{what} of {sample.ndim} dimensions" if ragged else f"{what} of shape {tuple(sample.shape)}"
    if is_container(sample):
        return f"{kind} of {', '.join(sorted(label for label, _ in labelled(sample))) or 'nothing'}"
    dtypes = buffer_dtypes(type(sample))
    return kind if dtypes is None else f"{dtypes[0]} number"


def mismatch(position: int, expected: str, came: str, way_out: str = "") -> SampleMismatchError:
    """The error about the sample at ``position``."""
    way_out = way_out or "Make the samples alike in the dataset, or pass a collate_fn."
    return SampleMismatchError(f"expected {expected}, but {came} came. {way_out}", position)


def check(samples: Sequence[Any], *, ragged: bool = False) -> None:
    """Raise SampleMismatchError where a sample differs from the first, or is an integer that no tensor holds."""
    expected = described(samples[0], ragged=ragged)
    for position, sample in enumerate(samples):
        came = described(sample, ragged=ragged)
        if isinstance(sample, int) and not -(1 << 63) <= sample < 1 << 63:
            came = str(sample)
        if came != expected:
            only_shape = hasattr(sample, "shape") and described(sample, ragged=True) == described(
                samples[0], ragged=True
            )
            way_out = 'Pass ragged="pad" or ragged="list", or a collate_fn.' if only_shape else ""
            raise mismatch(position, expected, came, way_out) from None
