"""What values are, for the recorder: keys to compare arguments by, digests to compare results by."""

from __future__ import annotations

import hashlib
import os
import random
import sys
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from functools import lru_cache
from pathlib import PurePath
from types import FunctionType
from typing import Any

import numpy as np
import torch

from pytest_loaderperf.diagnosis.passes.rewriting import is_users

MOST_PARTS = (64, 16, 16, 4, 4)  # of a container and of those inside it, read from beginning and end
_MOST_INNER_PARTS = 16
MOST_DEPTH = len(MOST_PARTS)
_END = 2048  # bytes of a buffer, at its beginning and at its end
_MOST_CONTAINERS = 512  # whose digests are kept
_MOST_NBYTES = 1 << 20  # of an array that a digest reads as a whole
_MOST_ELEMENTS = 1 << 14  # of a larger one
_READS = ("__iter__", "__len__", "__getitem__", "items", "keys", "nbytes", "equals", "__getattr__", "__array__")
_INDEXERS = ("_LocIndexer", "_iLocIndexer", "_AtIndexer", "_iAtIndexer")  # of pandas
_PLAIN = (bool, int, float, complex, type(None))


def is_of_user(kind: Any) -> bool:
    """Whether a type is the user's own, and reads itself by methods of its own."""
    return _is_of_user(kind)


@lru_cache(maxsize=4096)
def _is_of_user(kind: Any) -> bool:
    module = sys.modules.get(kind.__module__)
    written = is_users(getattr(module, "__file__", None) or "<none>") or kind.__module__ == "__main__"
    return written and any(isinstance(getattr(kind, name, None), FunctionType) for name in _READS)


def digest(value: object, depth: int = 0) -> str | None:
    """A short text that is equal for equal values; None for a value of which it cannot be known."""
    found = _content(value, depth)
    return None if found is None else hashlib.blake2b(found, digest_size=8).hexdigest()


def _content(value: object, depth: int) -> bytes | None:  # noqa: PLR0911 one return a kind of value
    if isinstance(value, (_PLAIN, np.generic)):
        return repr(value).encode()
    if isinstance(value, (str, bytes, bytearray)):
        held = value.encode(errors="replace") if isinstance(value, str) else bytes(value[:_MOST_NBYTES])
        return b"%s%d " % (type(value).__name__.encode(), len(value)) + held[:_MOST_NBYTES]
    if isinstance(value, PurePath):
        return os.fsencode(value)
    if is_of_user(type(value)):
        return None  # to read it would run the user's code
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return _array_content(value)
    if depth < MOST_DEPTH and isinstance(value, Mapping):
        return _of_parts([part for item in ends(list(value.items()), depth) for part in item], len(value), depth)
    if depth < MOST_DEPTH and isinstance(value, (list, tuple)):
        return _of_parts(ends(value, depth), len(value), depth)
    if depth < MOST_DEPTH and isinstance(value, (set, frozenset)):
        return b"%d %d" % (len(value), sum(map(hash, value)))  # equal in this process and those forked from it
    if (library := type(value).__module__.partition(".")[0]) == "pandas":
        return _pandas_content(value)
    return _arrow_content(value) if library == "pyarrow" else None


def _arrow_content(value: Any) -> bytes | None:
    """The beginning and the end of each buffer of Arrow data; None for what has none, such as a file."""
    try:
        if hasattr(value, "columns"):
            return _of_parts(list(value.columns)[:_MOST_INNER_PARTS], len(value), MOST_DEPTH)
        if hasattr(value, "chunks"):
            return _of_parts(ends(value.chunks, 1), len(value), MOST_DEPTH)
        found = [buffer and bytes(buffer[:_END]) + bytes(buffer[-_END:]) for buffer in value.buffers()]
        return f"{value.type} {len(value)} {value.offset} ".encode() + b"|".join(end or b"" for end in found)
    except Exception:  # noqa: BLE001 code of the user's or a library's, which may raise anything
        return None


def _pandas_content(value: Any) -> bytes | None:
    """The columns of a table of pandas, or a column or an index of it; None for what has none, such as groups."""
    try:
        if hasattr(value, "items") and value.ndim > 1:
            named = [part for item in list(value.items())[:_MOST_INNER_PARTS] for part in item]
            return _of_parts(named, len(value), 0)
        if isinstance(value.dtype, np.dtype) and not value.dtype.hasobject:
            return _array_content(value.to_numpy())
        found = [part for end in (value[:_MOST_INNER_PARTS], value[-_MOST_INNER_PARTS:]) for part in end.tolist()]
        return _of_parts(found, len(value), 0)
    except Exception:  # noqa: BLE001 code of a library's, which may raise anything
        return None


def _of_parts(parts: Iterable[object], count: int, depth: int) -> bytes | None:
    found = [_content(part, depth + 1) for part in parts]
    return None if None in found else b"%d|" % count + b"|".join(part for part in found if part is not None)


def ends(items: Any, depth: int) -> list[Any]:
    """The first and the last parts of a container, as many as are read of one at that depth."""
    most = MOST_PARTS[min(depth, MOST_DEPTH - 1)]
    return list(items) if len(items) <= most else [*items[: most // 2], *items[-most // 2 :]]


def _array_content(array: Any) -> bytes | None:
    try:
        if isinstance(array, torch.Tensor):
            array = array.detach().cpu()
            array = array.view(torch.uint8) if array.dtype == torch.bfloat16 else array
        flat = np.asarray(array)
        if flat.dtype.hasobject:
            return None
        if flat.nbytes > _MOST_NBYTES:  # a view may be far larger than its memory
            flat = flat[np.unravel_index(np.linspace(0, flat.size - 1, _MOST_ELEMENTS, dtype=np.int64), flat.shape)]
        return repr((flat.dtype.str, np.shape(array))).encode() + flat.tobytes()
    except Exception:  # noqa: BLE001 code of the user's or a library's, which may raise anything
        return None


def key(value: object, held: list[object], digests: dict[int, tuple[object, str | None]]) -> object:  # noqa: PLR0911 one return a kind of value
    """What an argument is, to recognise it: its content, or the object itself, which ``held`` keeps alive.

    A new object for what is read once, such as a generator. ``digests`` has those of large containers seen before.
    """
    if isinstance(value, (torch.Tensor, np.ndarray)):
        held.append(value)
        found = memory_of(value)
        return (type(value).__name__, found, tuple(value.shape), str(value.dtype)) if found else id(value)
    if isinstance(value, Iterator):
        return object()
    if (place := _place_in_library(value)) is not None:
        held.append(value)
        return place
    if is_of_user(type(value)):
        held.append(value)
        return "object", id(value)
    if isinstance(value, (KeysView, ValuesView, ItemsView)):
        return type(value).__name__, digest(list(value))
    if isinstance(value, (list, dict, set, tuple, str, bytes, PurePath, *_PLAIN)):
        if isinstance(value, (list, dict, set)) and len(value) > _MOST_INNER_PARTS:
            if id(value) not in digests and len(digests) < _MOST_CONTAINERS:
                digests[id(value)] = value, digest(value)
            found_digest = digests[id(value)][1] if id(value) in digests else None
        else:
            found_digest = digest(value)
        if found_digest is not None:
            return type(value).__name__, found_digest
    held.append(value)
    return "object", id(value)


def _place_in_library(value: Any) -> object:
    """Where the data of an object of Arrow or pandas lies, which may be a new object each time; None for others."""
    library = type(value).__module__.partition(".")[0]
    if library == "pandas":
        return type(value).__name__, operand(value), len(value) if hasattr(value, "__len__") else 0
    return _arrow_place(value) if library == "pyarrow" else None


def _arrow_place(value: Any) -> object:
    """Where the buffers of Arrow data lie, and how long it is; None for other objects of Arrow."""
    try:
        chunk = value.chunk(0) if hasattr(value, "num_chunks") else value
        addresses = tuple(buffer.address for buffer in chunk.buffers() if buffer is not None)
        return type(value).__name__, len(value), value.nbytes, addresses, getattr(chunk, "offset", 0)
    except Exception:  # noqa: BLE001 code of the user's or a library's, which may raise anything
        return None


def memory_of(value: object) -> tuple[int, int] | None:
    """The addresses from and to which an array's or tensor's memory lies; None for others."""
    try:
        if isinstance(value, torch.Tensor):
            start = value.data_ptr()
            left = value.untyped_storage().nbytes() - int(value.storage_offset()) * value.element_size()
            return start, start + left
        if isinstance(value, np.ndarray):
            low, high = np.lib.array_utils.byte_bounds(value)
            return int(low), int(high)
    except (RuntimeError, NotImplementedError, TypeError):
        return None
    return None


def operand(value: object) -> object:
    """What tells a large argument from others: its memory, of which columns of a table are new objects each time."""
    if not isinstance(value, (torch.Tensor, np.ndarray)) and type(value).__module__.partition(".")[0] == "pandas":
        value = _of_column(indexed(value))
    if type(value).__module__.startswith("pyarrow"):
        return _arrow_place(value) or id(value)
    return memory_of(value) or id(value)


def indexed(value: Any) -> Any:
    """The table whose ``loc`` or ``iloc`` a value is; others as they are."""
    return value.obj if type(value).__name__ in _INDEXERS else value


def _of_column(value: Any) -> Any:
    """The array behind a column or an index of pandas, without a copy; others as they are."""
    try:
        held = value.array
        return held.__arrow_array__() if hasattr(held, "__arrow_array__") else held.to_numpy(copy=False)
    except Exception:  # noqa: BLE001 code of a library's, which may raise anything
        return value


def base_of(value: object) -> tuple[int, int] | None:
    """Address and bytes of the whole memory that an array is a view of; None for others."""
    if isinstance(value, torch.Tensor) and value.layout == torch.strided:
        storage = value.untyped_storage()
        return storage.data_ptr(), storage.nbytes()
    while isinstance(value, np.ndarray) and isinstance(value.base, np.ndarray):
        value = value.base
    return (value.ctypes.data, value.nbytes) if isinstance(value, np.ndarray) else None


def overlap(value: object, other: object) -> bool:
    """Whether two arrays share memory."""
    one, two = memory_of(value), memory_of(other)
    return one is not None and two is not None and one[0] < two[1] and two[0] < one[1]


def random_state(generator: object) -> str | None:
    """A digest of a random generator's state; None for what is none."""
    try:
        if isinstance(generator, np.random.Generator):
            return digest(repr(generator.bit_generator.state))
        if isinstance(generator, np.random.RandomState):
            return digest(repr(generator.get_state(legacy=False)))
        if isinstance(generator, random.Random) and not isinstance(generator, random.SystemRandom):
            return digest(repr(hash(generator.getstate())))
        if isinstance(generator, torch.Generator):
            return digest(generator.get_state())
    except Exception:  # noqa: BLE001 code of the user's or a library's, which may raise anything
        return None
    return None
