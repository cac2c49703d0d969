"""Arrays and tensors as columns that a batch can be gathered from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import TensorDataset

from pytest_loaderperf.errors import DataError
from pytest_loaderperf.loader.order import Order

Rebuild = Callable[[Sequence[torch.Tensor]], Any]
_TORCH_KINDS = "biufc"
_PIECE_NBYTES = 64 << 10  # of rows that are converted at once
_WIDEST_ITEM = 16  # bytes: complex128
# An unsigned view of the same width stands in for a torch dtype that NumPy lacks, such as bfloat16.
_CARRIER = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Rows to gather from: ``rows`` shares the caller's memory; batches have ``dtype`` (None: that of ``rows``).

    ``takes_in_place``: NumPy can gather from these rows without first copying all of them.
    """

    rows: np.ndarray
    dtype: torch.dtype | None
    takes_in_place: bool

    @property
    def batch_dtype(self) -> np.dtype[Any]:
        return self.rows.dtype.newbyteorder("=")

    def gather(self, indices: Order, out: np.ndarray) -> None:
        """Copy the rows at ``indices`` into ``out``, which is C-contiguous and in the machine's byte order."""
        rows = self.rows
        if isinstance(indices, range):
            np.copyto(out, rows[indices.start : indices.stop])
        elif self.takes_in_place:
            # Without mode="clip" NumPy gathers into a buffer of its own first. Indices come from epoch_order: in range.
            rows.take(indices, 0, out, "clip")
        else:
            # Such rows go through a copy of NumPy's own: in pieces, so that it stays small beside the buffers.
            step = max(1, _PIECE_NBYTES // max(1, out[:1].nbytes))
            for start in range(0, len(out), step):
                out[start : start + step] = rows[indices[start : start + step]]

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor if self.dtype is None else tensor.view(self.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Columns of equal length, and ``rebuild``, which puts one tensor a column into the caller's structure."""

    columns: tuple[Column, ...]
    rebuild: Rebuild

    def __len__(self) -> int:
        return len(self.columns[0].rows)

    @property
    def sample_nbytes(self) -> int:
        return sum(column.batch_dtype.itemsize * int(np.prod(column.rows.shape[1:])) for column in self.columns)

    def batch_maker(self) -> Callable[[Sequence[np.ndarray]], Any]:
        """A function from one array a column to the batch of tensors that share their memory."""
        rebuild = self.rebuild
        if all(column.dtype is None for column in self.columns):
            wrap = torch.from_numpy
            if rebuild is tuple:
                return lambda arrays: tuple(map(wrap, arrays))
            if rebuild is list:
                return lambda arrays: list(map(wrap, arrays))
            return lambda arrays: rebuild(list(map(wrap, arrays)))
        columns = self.columns
        return lambda arrays: rebuild([c.tensor(a) for c, a in zip(columns, arrays, strict=True)])


def as_columns(dataset: object) -> Columns | None:
    """Columns over a dict or tuple of arrays or tensors, one array or tensor, or a TensorDataset; else None.

    The batch has the structure of ``dataset``; that of a TensorDataset is a list, as torch's own collate makes it.

    Raises DataError where a field is not numeric, has no rows, or differs in length from the others.
    """
    fields: dict[Any, object]
    rebuild: Rebuild
    if type(dataset) is TensorDataset:  # a subclass may have a __getitem__ of its own
        fields = dict(enumerate(dataset.tensors))
        rebuild = list
    elif isinstance(dataset, (np.ndarray, torch.Tensor)):
        fields = {0: dataset}
        rebuild = _first
    elif isinstance(dataset, Mapping):
        fields = dict(dataset)
        rebuild = _DictOf(tuple(dataset))
    elif type(dataset) is tuple or (isinstance(dataset, tuple) and hasattr(dataset, "_make")):
        fields = dict(enumerate(dataset))
        rebuild = getattr(dataset, "_make", tuple)
    else:
        return None
    if not fields:
        raise DataError("the dataset has no fields. Expected at least one array or tensor.")
    columns = tuple(_column(str(name), field) for name, field in fields.items())
    lengths = {name: len(column.rows) for name, column in zip(fields, columns, strict=True)}
    if len(set(lengths.values())) > 1:
        raise DataError(f"all fields must have the same number of samples, but {lengths} came. Cut them to one length.")
    return Columns(columns, rebuild)


def _first(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    return tensors[0]


@dataclass(frozen=True, slots=True)
class _DictOf:
    names: tuple[Any, ...]

    def __call__(self, tensors: Sequence[torch.Tensor]) -> dict[Any, torch.Tensor]:
        return dict(zip(self.names, tensors, strict=True))


def _column(name: str, field: object) -> Column:
    dtype: torch.dtype | None = None
    if isinstance(field, torch.Tensor):
        rows, dtype = _tensor_rows(name, field)
    elif isinstance(field, np.ma.MaskedArray):
        raise DataError(f"field {name!r} is a masked array, whose mask no tensor can hold. Call .filled(value) first.")
    elif isinstance(field, np.ndarray):
        rows = np.asarray(field)
    else:
        raise DataError(f"field {name!r} must be a NumPy array or a torch tensor, but {type(field).__name__} came.")
    if rows.ndim == 0:
        raise DataError(f"field {name!r} is a single number; expected rows along its first dimension.")
    if rows.dtype.kind not in _TORCH_KINDS or rows.dtype.itemsize > _WIDEST_ITEM:
        raise DataError(
            f"field {name!r} has dtype {rows.dtype}, which no tensor can hold. "
            "Expected bool, int, float or complex numbers: encode it, or give a map-style dataset with a collate_fn."
        )
    if rows.dtype.kind in "fc":
        torch.empty(0, dtype=_torch_dtype(name, rows))
    flags = rows.flags
    return Column(rows, dtype, flags.c_contiguous and flags.aligned and rows.dtype.isnative)


def _torch_dtype(name: str, rows: np.ndarray) -> torch.dtype:
    try:
        return torch.from_numpy(np.empty(0, rows.dtype.newbyteorder("="))).dtype
    except TypeError as error:
        raise DataError(f"field {name!r} has dtype {rows.dtype}, which torch lacks. Convert it to float64.") from error


def _tensor_rows(name: str, tensor: torch.Tensor) -> tuple[np.ndarray, torch.dtype | None]:
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise DataError(
            f"field {name!r} is a {tensor.layout} tensor on {tensor.device}; expected a dense one on the CPU. "
            "Call .cpu() or .to_dense() first."
        )
    tensor = tensor.detach().resolve_conj().resolve_neg()
    try:
        return tensor.numpy(), None
    except TypeError:
        carrier = torch.from_numpy(np.empty(0, _CARRIER[tensor.element_size()])).dtype
        return tensor.view(carrier).numpy(), tensor.dtype
