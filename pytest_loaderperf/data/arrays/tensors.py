"""Any array-like as a NumPy array or a torch tensor that shares its memory, or the reason why it cannot."""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack

from pytest_loaderperf.errors import DataError

Copy: TypeAlias = bool | None  # False: never. None: if sharing is impossible. True: always.
_log = logging.getLogger("pytest_loaderperf")
_TORCH_KINDS = "biufc"
_WIDEST_ITEM = 16  # bytes: complex128


class CopyNeededError(DataError):
    """The source's memory cannot be shared. The text says why, and what to do."""


class Rows(NamedTuple):
    """``array`` shares the source's memory and is read-only, unless ``owned``: then it is a copy for the caller.

    ``dtype``: a torch dtype that NumPy lacks, such as bfloat16, whose items ``array`` has as unsigned integers of the
    same width; else None.
    """

    array: np.ndarray
    dtype: torch.dtype | None = None
    owned: bool = False


def as_rows(source: object, *, copy: Copy = False, name: str = "the source") -> Rows:
    """The numbers of any array-like, with any byte order and strides.

    ``source``: an array, a dense tensor on the CPU, an Arrow array, a buffer, or an object with ``__dlpack__``,
    ``__array__`` or ``__array_interface__``. ``copy``: as in `as_tensor`, but what can be shared always is.
    ``name``: the source's name in errors.

    Raises DataError if no tensor can hold the source, CopyNeededError if sharing is impossible and copy=False.
    """
    if isinstance(source, torch.Tensor):
        rows = _tensor_rows(source, copy, name)
    elif isinstance(source, np.ma.MaskedArray):
        raise DataError(f"{name} is a masked array, whose mask no tensor can hold. Call .filled(value) first.")
    elif isinstance(source, np.ndarray):
        rows = Rows(np.asarray(source))
    elif is_arrow(source):
        rows = _arrow_rows(source, copy, name)
    elif hasattr(source, "__dlpack__"):
        rows = _dlpack_rows(source, copy, name)
    else:
        rows = _buffer_rows(source, copy, name)
    dtype = rows.array.dtype
    if dtype.kind not in _TORCH_KINDS or dtype.itemsize > _WIDEST_ITEM:
        raise DataError(
            f"{name} has dtype {dtype}, which no tensor can hold. "
            "Expected bool, int, float or complex numbers: encode it, or give a map-style dataset with a collate_fn."
        )
    try:
        torch.from_numpy(np.empty(0, dtype.newbyteorder("=").str))
    except TypeError as error:
        raise DataError(f"{name} has dtype {dtype}, which torch lacks. Convert it to float64.") from error
    # C has several integer types of one width, of which torch knows one, by kind and width.
    return rows._replace(array=rows.array.view(dtype.str))


def is_arrow(source: object) -> bool:
    """Whether it is an Arrow array, whole or in chunks."""
    arrow = sys.modules.get("pyarrow")  # without this import there can be no Arrow array
    return isinstance(source, (getattr(arrow, "Array", ()), getattr(arrow, "ChunkedArray", ())))


def as_tensor(source: object, *, copy: Copy = False, writable: bool = True, name: str = "the source") -> torch.Tensor:
    """A detached tensor on the CPU over the memory of ``source``, which it keeps alive.

    ``source``, ``name``: as in `as_rows`. ``copy``: False shares or raises; None copies if sharing is impossible,
    and logs why; True always copies, in C order. ``writable=False`` promises that nobody writes to the tensor: only
    then is read-only memory shared, because torch has no read-only tensors. A source without items needs no copy.

    Raises DataError if no tensor can hold the source, CopyNeededError if sharing is impossible and copy=False.
    """
    if isinstance(source, torch.Tensor):
        tensor = _dense(source, name)
        return tensor.clone(memory_format=torch.contiguous_format) if copy else tensor
    array, dtype, owned = as_rows(source, copy=copy, name=name)
    native = array.dtype.newbyteorder("=")
    if not array.size:
        array, owned = np.empty(array.shape, native), True
    obstacle = _obstacle(array, writable=writable and not owned)
    if (copy and not owned) or (obstacle and _need_copy(copy, name, *obstacle)):
        array = np.array(array, native, order="C")
    # torch warns about a read-only array, and NumPy does not allow clearing that flag, so a new array is made over it.
    interface = array.__array_interface__
    shown = interface | {"data": (interface["data"][0], False), "strides": _strides(array)}
    tensor = torch.from_numpy(np.asarray(SimpleNamespace(__array_interface__=shown, owner=array)))
    return tensor if dtype is None else tensor.view(dtype)


def _obstacle(array: np.ndarray, *, writable: bool) -> tuple[str, str] | None:
    """Why torch cannot use the memory of ``array``, and what to do; None: it can."""
    dtype, strides = array.dtype, _strides(array)
    if not dtype.isnative:
        return f"has dtype {dtype}, whose byte order torch lacks", f"Convert it to {dtype.newbyteorder('=')}"
    if min(strides, default=0) < 0:
        return f"has negative strides {strides}, which torch lacks", "Copy it with np.array"
    if not array.flags.aligned or any(stride % dtype.itemsize for stride in strides):
        return f"has {dtype} items that are not aligned to {dtype.itemsize} bytes", "Copy it with np.array"
    if writable and not array.flags.writeable:
        return "is read-only, and torch has no read-only tensors", "Pass writable=False if nobody writes to the tensor"
    return None


def _strides(array: np.ndarray) -> tuple[int, ...]:
    """Bytes from item to item; along a dimension of length 1, where strides mean nothing, one that torch takes."""
    return tuple(s if n > 1 else array.itemsize for s, n in zip(array.strides, array.shape, strict=True))


def _need_copy(copy: Copy, name: str, why: str, way_out: str) -> Literal[True]:
    if copy is False:
        raise CopyNeededError(f"{name} {why}. {way_out}, or pass copy=None.")
    if copy is None:
        _log.debug("copied, because %s %s", name, why)
    return True


def _dense(tensor: torch.Tensor, name: str) -> torch.Tensor:
    kind = "nested" if tensor.is_nested else "quantized" if tensor.is_quantized else tensor.layout
    if tensor.device.type != "cpu" or kind != torch.strided:
        call = ".dequantize()" if tensor.is_quantized else ".cpu() or .to_dense()"
        raise DataError(
            f"{name} is a {kind} tensor on {tensor.device}; expected a dense one on the CPU. Call {call} first."
        )
    return tensor.detach()


def _tensor_rows(tensor: torch.Tensor, copy: Copy, name: str) -> Rows:
    tensor, owned = _dense(tensor, name), False
    if tensor.is_conj() or tensor.is_neg():
        owned = _need_copy(copy, name, "is a lazily conjugated or negated view", "Call .resolve_conj().resolve_neg()")
        tensor = tensor.resolve_conj().resolve_neg()
    try:
        return Rows(tensor.numpy(), None, owned)
    except TypeError:
        carrier: torch.dtype = getattr(torch, f"uint{8 * tensor.element_size()}")
        return Rows(tensor.view(carrier).numpy(), tensor.dtype, owned)


def _dlpack_rows(source: Any, copy: Copy, name: str) -> Rows:
    try:
        try:
            return Rows(np.from_dlpack(source))
        except RuntimeError:  # not on the CPU, or a dtype that NumPy lacks
            rows = _tensor_rows(from_dlpack(source), copy, name)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"{name} cannot be read by DLPack ({error}). Call np.asarray first.") from error
    rows.array.setflags(write=False)  # torch does not say whether it may be written
    return rows


def _buffer_rows(source: Any, copy: Copy, name: str) -> Rows:
    if not isinstance(source, np.generic):  # a number, as Python's are
        try:
            with suppress(TypeError):
                return Rows(np.asarray(memoryview(source)))
        except ValueError as error:
            raise DataError(
                f"{name} is a buffer that NumPy cannot read ({error}). Call np.frombuffer first."
            ) from error
        if hasattr(source, "__array__") or hasattr(source, "__array_interface__"):
            array, again = np.asarray(source), np.asarray(source)
            owned = array.size > 0 and array.ctypes.data != again.ctypes.data
            if owned:
                _need_copy(copy, name, "makes a new array whenever it is asked for one", "Call np.asarray first")
            return Rows(array, None, owned)
    raise DataError(f"{name}: expected an array or a tensor, got {type(source).__name__}. Call np.asarray first.")


def _arrow_rows(source: Any, copy: Copy, name: str) -> Rows:
    """Rows (n,) of numbers, (n, k, ...) of nested lists of equal lengths, or of tensors in their logical shape."""
    import pyarrow as pa

    owned = False
    if isinstance(source, pa.ChunkedArray):
        chunks = [chunk for chunk in source.chunks if len(chunk)] or [pa.nulls(0, source.type)]
        if len(chunks) > 1:
            owned = _need_copy(copy, name, f"has {len(chunks)} chunks", "Call .combine_chunks()")
        source = pa.concat_arrays(chunks) if owned else chunks[0]
    tensors = source.type if isinstance(source.type, pa.FixedShapeTensorType) else None
    source = source if tensors is None else source.storage
    shape = [len(source)]
    while inner := _arrow_items(source, name):
        source, size = inner
        shape.append(size)
    bits = pa.types.is_boolean(source.type)
    if bits and len(source):
        owned = _need_copy(copy, name, "stores eight bools in a byte", "Call .cast(pa.uint8())")
    array = source.to_numpy(zero_copy_only=not bits)
    if tensors is None:
        return Rows(array.reshape(shape), None, owned)
    axes = tensors.permutation or range(len(tensors.shape))
    array = array.reshape(shape[0], *tensors.shape).transpose(0, *(axis + 1 for axis in axes))
    return Rows(array, None, owned)


def _arrow_items(source: Any, name: str) -> tuple[Any, int] | None:
    """The items of an array of lists, and how many each list has; None for numbers."""
    from pyarrow import types

    kind, nulls = source.type, source.null_count
    fixed = types.is_fixed_size_list(kind)
    lists = fixed or types.is_list(kind) or types.is_large_list(kind)
    if not (lists or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)):
        raise DataError(f"{name} holds {kind}, which no tensor can hold. {_way_out(source)} it as numbers.")
    if nulls:
        raise DataError(f"{name} has {nulls} nulls, which no tensor can hold. Call .fill_null or .drop_null first.")
    if fixed:
        start, size = source.offset * kind.list_size, kind.list_size  # .values also has the items before this slice
    elif not lists:
        return None
    elif not len(source):
        start, size = 0, 0
    else:
        offsets = source.offsets.to_numpy()
        lengths = np.diff(offsets)
        start, size = int(offsets[0]), int(lengths[0])
        if (lengths != size).any():
            raise DataError(
                f"{name} has lists of {lengths.min()} to {lengths.max()} items; a tensor needs one length. "
                "Pad them, or give a map-style dataset with a collate_fn."
            )
    return source.values.slice(start, len(source) * size), size


def _way_out(source: Any) -> str:
    """What makes numbers of an Arrow array that has none, as the begin of a sentence."""
    from pyarrow import types

    kind = source.type
    if hasattr(source, "storage"):
        call = "Take its .storage"
    elif types.is_dictionary(kind):
        call = "Call .dictionary_decode()"
    elif types.is_temporal(kind) and not types.is_interval(kind):
        call = f"Call .cast(pa.int{kind.bit_width}())"
    elif types.is_decimal(kind) or types.is_string(kind) or types.is_large_string(kind):
        call = "Call .cast(pa.float64())"
    else:
        return "Encode"
    return f"{call}, or encode"
