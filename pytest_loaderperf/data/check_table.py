"""Checks of the rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain
from math import prod
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_loaderperf.data.findings import CheckResult, Expected, Findings, Problem, in_order
from pytest_loaderperf.data.kinds import LABEL
from pytest_loaderperf.errors import DataError, LoaderPerfError

if TYPE_CHECKING:
    import pyarrow as pa

    from pytest_loaderperf.data.formats.protocol import Table

_BATCH_NBYTES = 8 << 20  # that are read at once, for each of the batches in work
_MOST_ROWS = 1 << 14  # of a batch of small samples
_GUESSED_ITEMS = 1 << 10  # of a list, whose length the schema does not tell
_GUESSED_NBYTES = 1 << 16  # of a value of no fixed width, such as a struct that may hold an image
Shape = tuple[int | None, ...]  # None: rows differ along this axis


def check_table(table: Table, kind: str, findings: Findings, expected: Expected) -> CheckResult:
    """Stream all rows of ``table``. ``shape`` and ``dtype``, where given, are those of every column of arrays.

    Raises DataError where ``classes`` are given and there is no column ``label``, or a shape or dtype and no array.
    """
    total, checked, file = len(table), 0, str(table.path)
    classes, shape, dtype = expected.classes, expected.shape, expected.dtype
    findings.add(_schema_problems(table.schema, file, classes, shape, dtype))
    if not total:
        findings.add([Problem(file, None, None, "has no rows")])

    def inspect(numbered: tuple[int, pa.RecordBatch]) -> tuple[int, list[Problem], int]:
        start, batch = numbered
        batch.validate(full=True)  # of a damaged file, what follows would read beyond its memory
        masks = chain.from_iterable(
            _masks(name, column, classes, shape) for name, column in zip(batch.schema.names, batch.columns, strict=True)
        )
        wrong = [(np.flatnonzero(rows), name, what) for name, rows, what in masks]
        first = sorted(
            ((int(row), name, what) for rows, name, what in wrong for row in rows[: findings.most]), key=itemgetter(0)
        )
        problems = [Problem(file, start + row, name, what(row)) for row, name, what in first[: findings.most]]
        return len(batch), problems, sum(len(rows) for rows, _, _ in wrong)

    try:
        with closing(
            in_order(_numbered(table.stream(rows_at_once(table.schema))), inspect, expected.workers)
        ) as batches:
            while not (expected.stop and findings.full) and (inspected := next(batches, None)) is not None:
                checked += inspected[0]
                findings.add(*inspected[1:])
                expected.progress(f"{checked:,} of {total:,} rows checked")
    except LoaderPerfError as error:
        if not isinstance(error, DataError):
            raise
        findings.add([Problem(file, None, None, str(error).removeprefix(f"{file} "))])
    except Exception as error:  # noqa: BLE001 libraries raise whatever they met in a damaged file
        what = str(error).removeprefix(f"{file} ")
        findings.add([Problem(file, None, None, f"cannot be read: {what or type(error).__name__}")])
    return CheckResult(
        path=file,
        kind=kind,
        total=total,
        checked=checked,
        found=findings.found,
        problems=tuple(findings.problems),
        stopped_early=expected.stop and findings.full and checked < total,
        shape=shape,
        dtype=dtype,
    )


def rows_at_once(schema: pa.Schema) -> int:
    """Rows of about 8 MB, as far as the schema tells."""
    row_nbytes = 1
    for field in schema:
        shape, item = laid_out(field.type)
        try:
            item_nbytes = -(-item.bit_width // 8)
        except ValueError:  # of types whose values differ in width: structs, texts
            item_nbytes = _GUESSED_NBYTES
        row_nbytes += prod(size or _GUESSED_ITEMS for size in shape) * item_nbytes
    return max(1, min(_MOST_ROWS, _BATCH_NBYTES // row_nbytes))


def _numbered(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    start = 0
    for batch in batches:
        yield start, batch
        start += len(batch)


def _schema_problems(
    schema: pa.Schema, file: str, classes: int | None, shape: tuple[int, ...] | None, dtype: str | None
) -> list[Problem]:
    """What is wrong with columns as a whole."""
    from pyarrow import types

    arrays = {field.name: laid_out(field.type) for field in schema if laid_out(field.type)[0]}
    if (shape or dtype) and not arrays:
        raise DataError(f"{file} has no column of arrays for a shape or dtype to hold of; columns: {_names(schema)}.")
    if classes and LABEL not in schema.names:
        raise DataError(f"{file} has no column {LABEL!r} to hold classes; columns: {_names(schema)}.")
    found = []
    if classes and not types.is_integer(schema.field(LABEL).type):
        found.append(Problem(file, None, LABEL, f"has type {schema.field(LABEL).type}; expected whole numbers"))
    for name, (came, item) in arrays.items():
        if shape and (len(came) != len(shape) or any(a not in (None, b) for a, b in zip(came, shape, strict=True))):
            shown = "(" + ", ".join("any" if size is None else str(size) for size in came) + ")"
            found.append(Problem(file, None, name, f"has shape {shown}; expected {shape}"))
        if dtype and _dtype(item) != dtype:
            found.append(Problem(file, None, name, f"has dtype {_dtype(item)}; expected {dtype}"))
    return found


def _names(schema: pa.Schema) -> str:
    return ", ".join(schema.names)


def laid_out(kind: pa.DataType) -> tuple[Shape, pa.DataType]:
    """The shape of one value of an Arrow type, () for what is no array, and the type of its items."""
    import pyarrow as pa

    shape: Shape = ()
    if isinstance(kind, pa.FixedShapeTensorType):
        sizes = kind.shape
        axes = kind.permutation or range(len(sizes))
        return tuple(sizes[axis] for axis in axes), kind.value_type
    while isinstance(kind, (pa.FixedSizeListType, pa.ListType, pa.LargeListType)):
        shape += (kind.list_size if isinstance(kind, pa.FixedSizeListType) else None,)
        kind = kind.value_type
    return shape, kind


def _dtype(item: pa.DataType) -> str:
    try:
        return str(np.dtype(item.to_pandas_dtype()))
    except (NotImplementedError, TypeError):
        return str(item)


def _masks(
    name: str, column: pa.Array, classes: int | None, shape: tuple[int, ...] | None
) -> Iterator[tuple[str, np.ndarray, Callable[[int], str]]]:
    """The column's name, which rows of it have a problem, and what it is there."""
    from pyarrow import types

    valid = column.is_valid().to_numpy(zero_copy_only=False)
    yield name, ~valid, lambda _: "is null"
    yield name, unusable(column) & valid, lambda _: "holds NaN, infinity or a null; expected finite numbers"
    if classes and name == LABEL and types.is_integer(column.type):
        labels = column.fill_null(0).to_numpy()
        yield name, (labels < 0) | (labels >= classes), lambda row: f"is {labels[row]}; expected 0 to {classes - 1}"
    if shape and len(shape) == 1 and (types.is_list(column.type) or types.is_large_list(column.type)):
        lengths = column.value_lengths().fill_null(shape[0]).to_numpy()
        yield name, lengths != shape[0], lambda row: f"has {lengths[row]} items; expected {shape[0]}"


def unusable(array: Any, *, in_list: bool = False) -> np.ndarray:
    """Which values of an Arrow array hold a float that is not finite, or a null number inside a list, at any depth."""
    import pyarrow as pa
    from pyarrow import types

    if isinstance(array, pa.ExtensionArray):
        return unusable(array.storage, in_list=in_list)
    kind = array.type
    bad: np.ndarray = np.zeros(len(array), bool)
    if types.is_struct(kind):
        for index in range(kind.num_fields):
            bad |= unusable(array.field(index))
    elif types.is_fixed_size_list(kind):
        # .values also has what lies before a slice
        items = array.values.slice(array.offset * kind.list_size, len(array) * kind.list_size)
        bad = np.any(unusable(items, in_list=True).reshape(len(array), kind.list_size), axis=1, keepdims=True)[:, 0]
    elif types.is_list(kind) or types.is_large_list(kind):
        offsets = array.offsets.to_numpy()
        items = array.values.slice(offsets[0], offsets[-1] - offsets[0])
        before = np.concatenate([[0], np.cumsum(unusable(items, in_list=True))])
        bad = np.diff(before[offsets - offsets[0]]) > 0
    elif types.is_floating(kind):
        bad = np.logical_not(np.isfinite(array.to_numpy(zero_copy_only=False)))
    if array.null_count:
        nulls = array.is_null().to_numpy(zero_copy_only=False)
        bad[nulls] = in_list and types.is_primitive(kind)
    return bad
