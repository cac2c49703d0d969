"""A workload: its spec, its arrays, and a torch dataset from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from pytest_loaderperf.data.arrays.columns import BatchDataset, RowDataset
from pytest_loaderperf.data.arrays.ragged import Ragged
from pytest_loaderperf.data.workloads.datasets import ArrayDataset, BatchedArrayDataset, RaggedDataset
from pytest_loaderperf.data.workloads.pictures import picture_fields
from pytest_loaderperf.data.workloads.spec import WorkloadSpec, load_spec, spec_of
from pytest_loaderperf.data.workloads.synthetic import LABEL_DTYPE, Tokens, WorkloadField, synthetic_fields
from pytest_loaderperf.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_NBYTES = 8 << 20  # of a record batch: large enough for disks, small compared with any machine's memory
_MOST_BATCH_ROWS = 1 << 16  # of a record batch of small samples
_MOST_LISTED = 2**31 - 1  # items of an Arrow list array, whose offsets have 32 bits
_COUNTED_ROWS = 1 << 20  # whose lengths are added up together


@dataclass(frozen=True, eq=False)
class Workload:
    """The samples that ``spec`` describes, generated on the first request: in memory, or as a stream of batches.

    With the same seed, a smaller workload is the beginning of a larger one (except labels of the factory ``uniform``).
    """

    spec: WorkloadSpec

    def __len__(self) -> int:
        return self.spec.samples

    @cached_property
    def fields(self) -> tuple[WorkloadField, ...]:
        """The arrays that each sample consists of. Raises DataError if real images cannot be read."""
        return picture_fields(self.spec) if self.spec.is_real else synthetic_fields(self.spec)

    @cached_property
    def columns(self) -> dict[str, Any]:
        """All samples, in memory: an array ``(samples, *shape)`` for each field, Ragged for tokens. Made once and kept.

        Raises DataError if they take more than the available memory.
        """
        nbytes, available = self.most_nbytes, psutil.virtual_memory().available
        if nbytes > available:
            raise DataError(
                f"workload {self.spec.name!r}: expected at most the {available:,} bytes of memory that are available, "
                f"got {nbytes:,} for all samples. Take fewer samples, or stream them by batches()."
            )
        return {field.name: field.rows(0, len(self)) for field in self.fields}

    @property
    def features(self) -> Any:
        """The array ``(samples, *shape)``, or Ragged tokens, of a workload whose samples are one array and a label.

        Raises DataError for volumes and tables, which have ``columns``.
        """
        return self.columns[self._pair()[0]]

    @property
    def labels(self) -> np.ndarray:
        """The int64 labels ``(samples,)`` of such a workload. Raises DataError as ``features`` does."""
        labels: np.ndarray = self.columns[self._pair()[1]]
        return labels

    def _pair(self) -> list[str]:
        names = [field.name for field in self.fields]
        if self.spec.factory in ("volumes", "tables"):
            raise DataError(
                f"workload {self.spec.name!r} has the fields {', '.join(names)}, not one of features. Use .columns."
            )
        return names

    @property
    def arrays(self) -> Any:
        """The argument for ReferenceLoader: ``(features, labels)``, or the dict of ``columns`` (volumes, tables)."""
        return self.columns if self.spec.factory in ("volumes", "tables") else (self.features, self.labels)

    @property
    def most_nbytes(self) -> int:
        """Bytes of all samples if each were as long as the longest; nothing is generated."""
        return len(self) * sum(map(_most_nbytes, self.fields))

    @cached_property
    def nbytes(self) -> int:
        """Bytes of the arrays; for Ragged rows only the values count. Only lengths are generated for it."""
        if self.spec.is_real:  # known without reading them
            image_nbytes = prod(self.spec.shape) * np.dtype(self.spec.dtype).itemsize
            return len(self) * (image_nbytes + LABEL_DTYPE.itemsize)
        return sum(map(self._nbytes, self.fields))

    def _nbytes(self, field: WorkloadField) -> int:
        if isinstance(field, Tokens):
            starts = range(0, len(self), _COUNTED_ROWS)
            values = sum(int(field.counts(i, min(i + _COUNTED_ROWS, len(self))).sum()) for i in starts)
        else:
            values = len(self) * prod(field.shape or ())
        return values * field.dtype.itemsize

    def dataset(self, *, batched: bool = False) -> ArrayDataset | RaggedDataset | RowDataset:
        """A map-style torch dataset: samples ``(features, label)``, or dicts of volumes and tables.

        With ``batched`` it also has ``__getitems__``, for use with ``collate_fn=as_is``. Tokens raise DataError then,
        because they cannot be one array.
        """
        if self.spec.factory == "tokens":
            if batched:
                raise DataError(f"workload {self.spec.name!r} has rows of different lengths. Use batched=False.")
            return RaggedDataset(self.features, self.labels)
        if self.spec.factory in ("volumes", "tables"):
            return (BatchDataset if batched else RowDataset)(self.columns)
        return (BatchedArrayDataset if batched else ArrayDataset)(self.features, self.labels)

    def batches(self, rows: int | None = None) -> pa.RecordBatchReader:
        """All samples in order as Arrow record batches of at most ``rows``, generated one by one, in bounded memory.

        Fields with a shape are fixed-shape tensors, Ragged ones are lists, others plain columns. Any ``rows`` give the
        same samples; None: about 8 MB.
        """
        import pyarrow as pa

        if rows is None:
            rows = max(1, min(_MOST_BATCH_ROWS, _BATCH_NBYTES // max(1, sum(map(_most_nbytes, self.fields)))))
        elif rows < 1:
            raise DataError(f"rows: expected an integer of at least 1 or None, got {rows!r}.")
        rows = min(
            rows,
            *(_MOST_LISTED // field.lengths[1] or 1 for field in self.fields if isinstance(field, Tokens)),
            len(self),
        )
        schema = pa.schema([pa.field(field.name, arrow_type(field)) for field in self.fields])

        def made() -> Iterator[pa.RecordBatch]:
            for start in range(0, len(self), rows):
                drawn = [field.rows(start, min(start + rows, len(self))) for field in self.fields]
                yield pa.record_batch(list(map(arrow_array, drawn)), schema=schema)

        return pa.RecordBatchReader.from_batches(schema, made())


def _most_nbytes(field: WorkloadField) -> int:
    return field.dtype.itemsize * (field.lengths[1] if isinstance(field, Tokens) else prod(field.shape or ()))


def arrow_type(field: WorkloadField) -> pa.DataType:
    """The Arrow type of a field's column."""
    import pyarrow as pa

    value = pa.from_numpy_dtype(field.dtype)
    if field.shape is None:
        return pa.list_(value)
    return pa.fixed_shape_tensor(value, field.shape) if field.shape else value


def arrow_array(rows: np.ndarray | Ragged) -> pa.Array:
    """Rows as an Arrow array over the same memory, except bools, of which Arrow stores eight in a byte."""
    import pyarrow as pa

    if isinstance(rows, Ragged):
        return pa.ListArray.from_arrays(rows.offsets.astype(np.int32), rows.values)
    if rows.ndim == 1:
        return pa.array(rows)
    values = pa.array(rows.reshape(-1))
    kind = pa.fixed_shape_tensor(values.type, rows.shape[1:])
    return pa.ExtensionArray.from_storage(kind, pa.FixedSizeListArray.from_arrays(values, prod(rows.shape[1:])))


def workload(name: str | None = None, **keys: Any) -> Workload:
    """The workload ``name`` (or the spec at the path ``name``), with ``keys`` replacing the spec's own.

    Without a name, ``keys`` are the whole spec: ``workload(factory="images", samples=100, shape=[64, 64])``.
    Raises DataError as ``load_spec`` does, and if real images cannot be read.
    """
    made = Workload(spec_of(str(keys.get("factory")), keys) if name is None else load_spec(name, **keys))
    made.fields  # noqa: B018 missing libraries raise here, not during a measurement
    return made
