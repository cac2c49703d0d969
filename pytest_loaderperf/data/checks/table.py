"""Checks of the rows of a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain
from math import prod
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_loaderperf.data.arrow.lists import COMPLEX, decoded, is_list, is_number, items_of, value_type
from pytest_loaderperf.data.arrow.ome_arrow import is_ome_arrow
from pytest_loaderperf.data.checks.findings import CheckResult, Expected, Findings, Problem, inspected_in_order
from pytest_loaderperf.data.checks.pictures import picture_masks
from pytest_loaderperf.data.workloads.kinds import LABEL
from pytest_loaderperf.errors import DataError, LoaderPerfError

if TYPE_CHECKING:
    import pyarrow as pa

    from pytest_loaderperf.data.formats.protocol import Table

_BATCH_NBYTES = 8 << 20  # of one batch; several batches are checked at the same time
_MOST_ROWS = 1 << 14  # of a batch of small samples
_GUESSED_ITEMS = 1 << 10  # of a list, whose length the schema does not have
_GUESSED_NBYTES = 1 << 16  # of a value of no fixed width, such as a struct that may hold an image
Shape = tuple[int | None, ...]  # None: rows differ along this axis


def check_table(table: Table, kind: str, findings: Findings, expected: Expected) -> CheckResult:
    """Stream all rows of ``table``. ``shape`` and ``dtype``, if given, are those of every column of arrays.

    Raises DataError if ``classes`` are given without a column ``label``, or a shape or dtype without an array.
    """
    total, checked, file = len(table), 0, str(table.path)
    classes, shape, dtype = expected.classes, expected.shape, expected.dtype
    pictures = _picture_columns(table)
    findings.add(_schema_problems(table.schema, file, expected, pictures))
    if not total:
        findings.add([Problem(file, None, None, "has no rows")])

    def inspect(numbered: tuple[int, pa.RecordBatch]) -> tuple[int, list[Problem], int]:
        start, batch = numbered
        batch.validate(full=True)  # else reading a damaged file might leave its memory
        masks = chain.from_iterable(
            picture_masks(name, column, expected, table.path.parent)
            if name in pictures
            else _masks(name, column, classes, shape)
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        )
        wrong = [(np.flatnonzero(rows), name, what) for name, rows, what in masks]
        first = sorted(
            ((int(row), name, what) for rows, name, what in wrong for row in rows[: findings.most]), key=itemgetter(0)
        )
        problems = [Problem(file, start + row, name, what(row)) for row, name, what in first[: findings.most]]
        return len(batch), problems, sum(len(rows) for rows, _, _ in wrong)

    try:
        with closing(inspected_in_order(_numbered(_batches(table)), inspect, expected.workers)) as batches:
            while not (expected.stop and findings.full) and (inspected := next(batches, None)) is not None:
                checked += inspected[0]
                findings.add(*inspected[1:])
                expected.progress(f"{checked:,} of {total:,} rows checked")
    except LoaderPerfError as error:
        if not isinstance(error, DataError):
            raise
        findings.add([Problem(file, None, None, str(error).removeprefix(f"{file} "))])
    except Exception as error:  # noqa: BLE001 libraries raise anything for a damaged file
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


def _batches(table: Table) -> Iterator[pa.RecordBatch]:
    """All rows in batches of about 8 MB, by the first row and the schema."""
    first = next(table.stream(1), None)
    yield from table.stream(rows_at_once(table.schema, first.nbytes if first is not None else 0))


def rows_at_once(schema: pa.Schema, first_nbytes: int = 0) -> int:
    """The number of rows in about 8 MB, estimated from the schema and the first row."""
    row_nbytes = 1
    for field in schema:
        shape, item = laid_out(field.type)
        try:
            item_nbytes = -(-item.bit_width // 8)
        except ValueError:  # types with values of different widths: structs, texts
            item_nbytes = _GUESSED_NBYTES
        row_nbytes += prod(size or _GUESSED_ITEMS for size in shape) * item_nbytes
    return max(1, min(_MOST_ROWS, _BATCH_NBYTES // max(row_nbytes, first_nbytes)))


def _numbered(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[int, pa.RecordBatch]]:
    start = 0
    for batch in batches:
        yield start, batch
        start += len(batch)


def _picture_columns(table: Table) -> list[str]:
    """The columns of encoded pictures, as far as they can be read."""
    from pytest_loaderperf.data.encoded.columns import picture_columns

    try:
        return picture_columns(table, table.schema.names)
    except Exception:  # noqa: BLE001 the check itself reports it
        return []


def _schema_problems(schema: pa.Schema, file: str, expected: Expected, pictures: list[str]) -> list[Problem]:
    """What is wrong with columns as a whole."""
    from pyarrow import types

    classes, shape, dtype = expected.classes, expected.shape, expected.dtype
    arrays = {field.name: _seen(field) for field in schema if _seen(field)[0]}
    if (shape or dtype) and not arrays and not pictures:
        raise DataError(f"{file} has no column of arrays with a shape or dtype to check; columns: {_names(schema)}.")
    if classes and LABEL not in schema.names:
        raise DataError(f"{file} has no column {LABEL!r} with classes to check; columns: {_names(schema)}.")
    found = []
    if classes and not types.is_integer(value_type(schema.field(LABEL).type)):
        found.append(Problem(file, None, LABEL, f"has type {schema.field(LABEL).type}; expected integers"))
    for name, (got, item) in arrays.items():
        if shape and (len(got) != len(shape) or any(a not in (None, b) for a, b in zip(got, shape, strict=True))):
            shown = "(" + ", ".join("any" if size is None else str(size) for size in got) + ")"
            found.append(Problem(file, None, name, f"has shape {shown}; expected {shape}"))
        if dtype and item != dtype:
            found.append(Problem(file, None, name, f"has dtype {item}; expected {dtype}"))
    return found


def _names(schema: pa.Schema) -> str:
    return ", ".join(schema.names)


def laid_out(kind: pa.DataType) -> tuple[Shape, pa.DataType]:
    """The shape of one value of an Arrow type, () if it is not an array, and the type of its items."""
    import pyarrow as pa

    shape: Shape = ()
    if isinstance(kind, pa.FixedShapeTensorType):
        sizes = kind.shape
        axes = kind.permutation or range(len(sizes))
        return tuple(sizes[axis] for axis in axes), kind.value_type
    while is_list(kind := value_type(kind)):
        shape += (kind.list_size if isinstance(kind, pa.FixedSizeListType) else None,)
        kind = kind.value_type
    return shape, kind


def _seen(field: pa.Field) -> tuple[Shape, str]:
    """The shape of one value and the dtype of its items, as `optimize` gives them."""
    shape, item = laid_out(field.type)
    if COMPLEX.encode() in (field.metadata or {}):
        from pytest_loaderperf.data.arrow.columns import complex_dtype

        if dtype := complex_dtype(field):
            return shape[:-1], dtype
    return shape, _dtype(item)


def _dtype(item: pa.DataType) -> str:
    try:
        return str(np.dtype(item.to_pandas_dtype()))
    except (NotImplementedError, TypeError):
        return str(item)


def _masks(
    name: str, column: pa.Array, classes: int | None, shape: tuple[int, ...] | None
) -> Iterator[tuple[str, np.ndarray, Callable[[int], str]]]:
    """The column's name, its rows with a problem, and the problem of each."""
    from pyarrow import types

    valid = decoded(column).is_valid().to_numpy(zero_copy_only=False)
    yield name, ~valid, lambda _: "is null"
    yield name, unusable(column), lambda _: "holds NaN, infinity or a null; expected finite numbers"
    if classes and name == LABEL and types.is_integer(value_type(column.type)):
        labels = decoded(column).fill_null(0).to_numpy()
        yield name, (labels < 0) | (labels >= classes), lambda row: f"is {labels[row]}; expected 0 to {classes - 1}"
    lengths, jagged = _lengths(column)
    if lengths is not None:
        yield name, jagged & valid, lambda _: "has lists of several lengths; expected one along each axis"
    if shape and lengths is not None and lengths.shape[1] == len(shape) and None in laid_out(column.type)[0]:
        unlike = (lengths != np.array(shape)).any(axis=1) & valid & ~jagged

        def what(row: int) -> str:
            if len(shape) == 1:
                return f"has {lengths[row, 0]} items; expected {shape[0]}"
            return f"has shape {tuple(lengths[row].tolist())}; expected {shape}"

        yield name, unlike, what


def _lengths(column: pa.Array) -> tuple[np.ndarray | None, np.ndarray]:
    """The lengths of the lists of each level, (rows, levels), and the rows in which they differ within a level.

    None for anything but nested lists of numbers. Lists without items have length 0 along the inner axes.
    """
    array = decoded(column)
    none: np.ndarray = np.zeros(len(array), bool)
    levels, counts, jagged = [], np.ones(len(array), np.int64), none
    while is_list(array.type):
        empty = array.is_null().to_numpy(zero_copy_only=False)
        array, sizes = items_of(array)
        owner = np.repeat(np.arange(len(counts)), counts)
        least = np.full(len(counts), np.iinfo(np.int64).max)
        most = np.zeros(len(counts), np.int64)
        np.minimum.at(least, owner[~empty], sizes[~empty])
        np.maximum.at(most, owner[~empty], sizes[~empty])
        jagged = jagged | (least < most)
        levels.append(most)
        counts = np.bincount(owner, sizes, len(counts)).astype(np.int64)
        array = decoded(array)
    if not levels or not is_number(array.type):
        return None, none
    return np.stack(levels, axis=1), jagged


def unusable(array: Any) -> np.ndarray:
    """Which values of an Arrow array, except nulls, contain a float that is not finite or a null, at any depth.

    For OME-Arrow images, whose other fields may be null, only the pixels count.
    """
    valid: np.ndarray = decoded(array).is_valid().to_numpy(zero_copy_only=False)
    bad: np.ndarray = _bad(array, may_be_null=is_ome_arrow(array.type)) & valid
    return bad


def _bad(array: Any, *, may_be_null: bool) -> np.ndarray:
    """Which values are null (if not allowed), or not finite, or contain such values."""
    from pyarrow import types

    array = decoded(array)
    kind = array.type
    bad: np.ndarray = np.zeros(len(array), bool)
    if types.is_struct(kind):
        for index in range(kind.num_fields):
            bad |= _bad(array.field(index), may_be_null=may_be_null and kind.field(index).name != "pixels")
    elif types.is_union(kind):
        bad = _bad_of_union(array, may_be_null=may_be_null)
    elif is_list(kind) or types.is_map(kind):
        items, lengths = items_of(array)
        before = np.concatenate([[0], np.cumsum(_bad(items, may_be_null=may_be_null))])
        ends = np.cumsum(lengths)
        bad = before[ends] > before[ends - lengths]
    elif types.is_floating(kind):
        bad = np.logical_not(np.isfinite(array.to_numpy(zero_copy_only=False)))
    if array.null_count:
        bad[array.is_null().to_numpy(zero_copy_only=False)] = not may_be_null
    return bad


def _bad_of_union(array: Any, *, may_be_null: bool) -> np.ndarray:
    bad: np.ndarray = np.zeros(len(array), bool)
    codes = array.type_codes.to_numpy()
    for index, code in enumerate(array.type.type_codes):
        rows = np.flatnonzero(codes == code)
        places = array.offsets.to_numpy()[rows] if array.type.mode == "dense" else rows
        bad[rows] = _bad(array.field(index), may_be_null=may_be_null)[places]
    return bad
