"""Samples made into a batch: one vectorized copy a field, straight into the memory that the batch lies in."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence
from torch.utils.data import get_worker_info
from torch.utils.data._utils import collate as torchs

from pytest_loaderperf.data.arrays import structure
from pytest_loaderperf.data.arrays.fields import (
    Field,
    array_over,
    buffer_dtypes,
    field_of,
    is_plain,
    nbytes,
    tensor_over,
)
from pytest_loaderperf.data.arrays.structure import SampleMismatchError
from pytest_loaderperf.errors import DataError

Allocate = Callable[[Sequence[Field], int], Sequence[np.ndarray]]  # fields, rows -> C-contiguous (rows, *field.shape)
Buffer = tuple[np.ndarray, torch.Tensor]  # the two share memory
Buffers = Iterator[Buffer] | None  # one a field, or fresh memory for each

_ARRAY = {np.ndarray}
SHARED_NBYTES = 512 << 10  # a smaller tensor is sent by value in a fifth of the time that handing over a file takes
HUGE_NBYTES = 4 << 20  # of fresh memory: from here on NumPy asks for huge pages, and takes a third of torch's time
_NUMBERS = (torchs.collate_int_fn, torchs.collate_float_fn, torchs.collate_numpy_scalar_fn, None)  # None: complex


class Collate:
    """Makes the batch that torch's ``default_collate`` makes, in less time. Threads may share it.

    It also takes dataclasses, None and unknown objects (listed), big-endian arrays and, by ``ragged``, arrays and
    tensors of differing shape: "pad" fills up their ends with ``pad_value``, "list" makes a list of copies.

    Raises SampleMismatchError where a sample differs from the first in structure, shape or dtype.
    """

    def __init__(self, ragged: Literal["raise", "pad", "list"] = "raise", pad_value: float = 0) -> None:
        if ragged not in ("raise", "pad", "list"):
            raise DataError(f'ragged must be "raise", "pad" or "list", got {ragged!r}.')
        self._ragged, self._may_differ, self._pad_value = ragged, ragged != "raise", pad_value
        self._handlers: dict[Any, Any] = {}
        self._makers: dict[type, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._ragged, self._pad_value)

    def __call__(self, samples: Sequence[Any], allocate: Allocate | None = None) -> Any:
        """The batch of ``samples``: in memory from ``allocate``, else fresh; in torch's workers large ones are shared.

        ``allocate`` is asked at most once, and not for what may be ragged, which always lies in fresh memory.
        """
        if type(samples) is not list and type(samples) is not tuple:
            samples = list(samples)
        if not samples:
            raise DataError("the batch has no samples. Expected at least one.")
        self._heed_handlers()
        buffers: Buffers = None
        if allocate is not None or get_worker_info() is not None:
            fields = [field for field in self._fields(samples[0], "", []) if field is not None]
            buffers = iter(_buffers(fields, len(samples), allocate))
        return self._batch(samples, buffers)

    def fields(self, sample: Any) -> tuple[Field, ...] | None:
        """The array fields of samples like this one; None where a part has no fixed size."""
        self._heed_handlers()
        fields = self._fields(sample, "", [])
        return None if None in fields else tuple(fields)  # type: ignore[arg-type]  # no None is left

    def _heed_handlers(self) -> None:
        """Forget what was for other handlers: users may add their own at any time."""
        if self._handlers != torchs.default_collate_fn_map:
            self._handlers, self._makers = dict(torchs.default_collate_fn_map), {}

    def _fields(self, sample: Any, name: str, fields: list[Field | None]) -> list[Field | None]:
        """Append the fields of ``sample``, whose name is ``name``; None for a part that has none."""
        make = self._maker(sample)
        if make is Collate._container:
            for label, part in structure.labelled(sample):
                self._fields(part, name + label, fields)
        else:
            fields.append(field_of(sample, name) if make in _BUFFERED else None)
        return fields

    def _maker(self, sample: Any) -> Callable[..., Any]:
        make = self._makers.get(type(sample)) or self._new_maker(sample)
        if make is Collate._arrays or make is Collate._tensors:
            if not is_plain(sample):
                return Collate._handled
            if self._may_differ and sample.ndim:
                return Collate._uneven
        return make

    def _new_maker(self, sample: Any) -> Callable[..., Any]:
        handler = _handler(sample)
        if handler in _NUMBERS and buffer_dtypes(type(sample)) is not None:
            make = Collate._numbers
        elif handler is None and isinstance(sample, PackedSequence):
            make = Collate._refused
        elif handler is None and structure.is_container(sample):
            make = Collate._container
        else:
            make = _MAKERS.get(handler, Collate._handled)
        self._makers[type(sample)] = make
        return make

    def _batch(self, samples: Sequence[Any], buffers: Buffers) -> Any:
        make = self._maker(samples[0])
        try:
            return make(self, samples, buffers)
        except Exception as error:
            if make not in (Collate._handled, Collate._refused) and not isinstance(error, SampleMismatchError):
                structure.check(samples, ragged=self._may_differ)
            raise

    def _container(self, samples: Sequence[Any], buffers: Buffers) -> Any:
        values: list[Any] = []
        try:
            for column in structure.columns(samples):
                values.append(self._batch(column, buffers))  # noqa: PERF401 - how many there are says which failed
        except SampleMismatchError as error:
            error.name = structure.labelled(samples[0])[len(values)][0] + error.name
            raise
        return structure.rebuilt(samples[0], values)

    def _handled(self, samples: Sequence[Any], buffers: Buffers) -> Any:
        return _handler(samples[0])(samples, collate_fn_map=torchs.default_collate_fn_map)

    def _kept(self, samples: Sequence[Any], buffers: Buffers) -> Any:
        if len(set(map(type, samples))) > 1:
            for position, sample in enumerate(samples):
                if self._maker(sample) is not Collate._kept:
                    raise structure.mismatch(position, structure.described(samples[0]), structure.described(sample))
        return samples

    def _refused(self, samples: Sequence[Any], buffers: Buffers) -> Any:
        raise TypeError(
            f"expected samples that make a batch, got {type(samples[0]).__name__}: its lengths belong to one batch. "
            "Give the sequences as samples, and pack them in a collate_fn."
        )

    def _numbers(self, samples: Sequence[Any], buffers: Buffers) -> torch.Tensor:
        dtypes = buffer_dtypes(type(samples[0]))
        kinds = set(map(type, samples))
        if len(kinds) > 1 and set(map(buffer_dtypes, kinds)) != {dtypes}:
            raise TypeError("the numbers are of several dtypes")
        if buffers is None:
            return torch.from_numpy(np.array(samples, dtypes[0]))
        array, tensor = next(buffers)
        array[:] = samples
        return tensor

    def _arrays(self, samples: Sequence[Any], buffers: Buffers) -> torch.Tensor:
        if set(map(type, samples)) != _ARRAY:
            if not all(isinstance(sample, np.ndarray) for sample in samples):
                raise TypeError("the arrays are of several types")
            samples = list(map(np.asarray, samples))  # a subclass may join in its own way
        shape, dtype = samples[0].shape, samples[0].dtype
        array, tensor = next(buffers) if buffers is not None else _fresh((len(samples), *shape), dtype)
        if not shape:
            samples, rows = [sample[None] for sample in samples], array
        elif len(set(map(len, samples))) > 1:
            raise ValueError("the arrays are of several lengths")
        else:
            rows = array.reshape(array.shape[0] * array.shape[1], *array.shape[2:])
        # Faster than np.stack, and than row by row up to 256 kB a row (at 1 MB it is 5 % slower). It compares the other
        # dimensions and, by "equiv", the dtypes.
        np.concatenate(samples, 0, rows, casting="equiv")
        return tensor

    def _tensors(self, samples: Any, buffers: Buffers) -> Any:
        first = samples[0]
        if len({(type(sample), sample.dtype, sample.requires_grad) for sample in samples}) > 1:
            raise TypeError("the tensors are of several types or dtypes, or some of them require gradients")
        tensor: Any = None  # torch has less to do without a buffer
        if buffers is not None or not first.ndim or first.nbytes * len(samples) >= HUGE_NBYTES:
            array, tensor = next(buffers) if buffers else _fresh((len(samples), *first.shape), first.dtype)
            if not first.ndim and buffer_dtypes(first.dtype)[1] is None:
                array[:] = list(map(torch.Tensor.tolist, samples))  # takes half the time of torch.stack
                return tensor
        tensor = torch.stack(samples, 0, out=tensor)
        if type(tensor) is not torch.Tensor or tensor.requires_grad:
            raise TypeError("the tensors are not all plain ones")
        return tensor

    def _uneven(self, samples: Sequence[Any], buffers: Buffers) -> Any:
        """Arrays or tensors whose shapes may differ: padded or listed, in fresh memory."""
        shapes = [sample.shape for sample in samples]
        if len(set(shapes)) == 1:
            return (self._arrays if isinstance(samples[0], np.ndarray) else self._tensors)(samples, None)
        if len({(sample.dtype, sample.ndim) for sample in samples}) > 1:
            structure.check(samples, ragged=True)
        dtype, torch_dtype = buffer_dtypes(samples[0].dtype)
        rows = map(array_over, samples)
        if self._ragged == "list":
            return [tensor_over(np.array(row, dtype), torch_dtype) for row in rows]
        if torch_dtype is None and dtype.kind in "biu" and not _holds(dtype, self._pad_value):
            raise DataError(
                f"pad_value must fit every ragged field, got {self._pad_value}, and one of them is {dtype}. "
                'Choose another, or ragged="list", or pass a collate_fn.'
            )
        array, tensor = _fresh((len(samples), *map(max, zip(*shapes, strict=True))), samples[0].dtype)
        tensor.fill_(self._pad_value)
        for padded, row in zip(array, rows, strict=True):
            padded[tuple(map(slice, row.shape))] = row
        return tensor


_MAKERS: dict[Any, Any] = {
    torchs.collate_tensor_fn: Collate._tensors,  # noqa: SLF001 - of this module
    torchs.collate_numpy_array_fn: Collate._arrays,  # noqa: SLF001
    torchs.collate_str_fn: Collate._kept,  # noqa: SLF001
    None: Collate._kept,  # noqa: SLF001
}
_BUFFERED = (Collate._numbers, Collate._arrays, Collate._tensors)  # noqa: SLF001


def _handler(sample: object) -> Any:
    handlers: Any = torchs.default_collate_fn_map
    return handlers.get(type(sample)) or next((handlers[base] for base in handlers if isinstance(sample, base)), None)


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    with suppress(ValueError, OverflowError):
        return bool(dtype.type(value) == value)
    return False


def _fresh(shape: tuple[int, ...], kind: Any) -> Buffer:
    dtype, torch_dtype = buffer_dtypes(kind)
    array = np.empty(shape, dtype)
    return array, tensor_over(array, torch_dtype)


def _to_send(rows: int, field: Field) -> Buffer:
    """Memory that the main process can share, as torch's own collate takes it, where it is too much to send a copy."""
    _, shape, dtype, torch_dtype = field
    if nbytes([field], rows) < SHARED_NBYTES:
        return _fresh((rows, *shape), torch_dtype or dtype)
    new_shared: Any = torch.UntypedStorage._new_shared  # noqa: SLF001 - there is no public way that does not copy
    tensor: Any = torch.empty(0, dtype=getattr(torch, dtype.name))
    tensor.set_(new_shared(rows * math.prod(shape) * dtype.itemsize), 0, (rows, *shape))
    return tensor.numpy(), tensor if torch_dtype is None else tensor.view(torch_dtype)


def _buffers(fields: list[Field], rows: int, allocate: Allocate | None) -> list[Buffer]:
    if allocate is None:
        return list(map(partial(_to_send, rows), fields))
    arrays = allocate(fields, rows) if fields else ()
    return [(array, tensor_over(array, field.torch_dtype)) for array, field in zip(arrays, fields, strict=True)]


_collate = Collate()


def vectorized_collate(samples: Sequence[Any]) -> Any:
    """``Collate()(samples)``: a faster ``collate_fn`` for torch's own DataLoader, in its worker processes, too."""
    return _collate(samples)
