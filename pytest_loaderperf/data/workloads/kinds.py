"""The kinds of workloads: the required and optional keys of each, and their valid values."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pytest_loaderperf.data.arrays.indices import is_count
from pytest_loaderperf.errors import DataError

FLOATS = ("float32", "float16", "float64")
INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")
PIXELS = ("uint8", "uint16", "float32")
LABEL = "label"  # the field with a sample's class
REAL = "real images"  # the name of the kind that is not generated
DEFAULT_CLASSES = 10
Refuse = Callable[[dict[str, Any]], str | None]  # of a spec's values -> the expected value of a key, if it has another
_MOST_DRAWN = 2**32  # values that 32 random bits can choose from
_MOST_COUNT = 2**40  # samples: more than any disk holds
_MOST_AXES = 31  # of an array in NumPy 1, besides the axis of its rows
_MOST_VALUES = 2**31 - 1  # of one field of one sample: an Arrow list of fixed size counts in 32 bits
_MOST_SAMPLE_NBYTES = 4 << 30  # one sample is made in memory
_MOST_NBYTES = 1 << 50  # of all samples: no machine makes or keeps more
_MOST_SEED = 2**128 - 1  # bits of NumPy's entropy pool
_SHOWN = reprlib.Repr()
_SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxdict = 8
_SHOWN.maxstring = _SHOWN.maxlong = _SHOWN.maxother = 60  # characters


@dataclass(frozen=True, slots=True)
class Kind:
    """The keys that a factory needs and takes besides the common ones, its dtypes (first: the default), and ``axes``.

    ``axes`` are the lengths that ``shape`` may have; empty: any.
    """

    name: str
    needs: tuple[str, ...]
    takes: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    axes: tuple[int, ...] = ()


_ARRAYS = Kind("arrays", ("shape",), ("dtype", "classes", "class_weights"), (*FLOATS, *INTEGERS, "bool"))
KINDS = {
    "arrays": _ARRAYS,
    "uniform": _ARRAYS,
    "images": Kind("images", ("shape",), ("dtype", "classes", "class_weights"), PIXELS, (2, 3)),
    "volumes": Kind("volumes", ("shape", "inputs", "targets"), ("dtype",), PIXELS, (3,)),
    "tables": Kind("tables", ("columns",), ("classes", "class_weights"), (*FLOATS, *INTEGERS, "bool")),
    "tokens": Kind("tokens", ("lengths", "vocabulary"), ("dtype", "classes", "class_weights"), ("int64", "int32")),
    "digits": Kind(REAL, ("shape",), ("dtype", "classes"), FLOATS),
    "photos": Kind(REAL, ("shape",), ("dtype", "classes"), ("uint8", "float32"), (3,)),
    "tiffs": Kind(REAL, ("shape", "folder"), ("dtype",), ("uint8", *INTEGERS[1:], *FLOATS), (2,)),
}
NEEDED_BY_ALL = ("factory", "samples")
TAKEN_BY_ALL = ("seed", "batch_size", "batches")


def check_values(where: str, factory: str, values: dict[str, Any]) -> None:
    """Raise DataError, whose text begins with ``where``, for the first of a spec's ``values`` that is not valid."""
    kind = KINDS.get(factory)
    if kind is None:
        raise DataError(f"{where}: unknown factory {shown(factory)}. Known: {', '.join(sorted(KINDS))}.")
    for key in (*TAKEN_BY_ALL, "samples", *kind.needs, *kind.takes):
        refused = _EXPECTED[key](values)
        if refused is not None:
            raise DataError(f"{where}, {key}: expected {refused}, got {shown(values[key])}.")
    _check_sizes(where, factory, values)


def _check_sizes(where: str, factory: str, values: dict[str, Any]) -> None:
    """Raise DataError if one sample, or all of them, would be larger than can be made."""
    items = values["lengths"][1] if factory == "tokens" else math.prod(values["shape"])
    if items > _MOST_VALUES:
        raise DataError(f"{where}: expected at most {_MOST_VALUES:,} values in one sample, got {shown(items)}.")
    columns, fields = values["columns"], len(values["inputs"]) + len(values["targets"])
    sizes = [_nbytes(kind) for _, kind in columns] or [items * _nbytes(values["dtype"])] * max(1, fields)
    for nbytes, most, what in (
        (sum(sizes), _MOST_SAMPLE_NBYTES, "one sample"),
        (sum(sizes) * values["samples"], _MOST_NBYTES, "all samples"),
    ):
        if nbytes > most:
            raise DataError(f"{where}: expected at most {most:,} bytes for {what}, got {nbytes:,}. Make it smaller.")


def _nbytes(dtype: str) -> int:
    """Bytes of one value, from the bits at the end of its dtype's name."""
    bits = dtype.lstrip("abcdefghijklmnopqrstuvwxyz")
    return int(bits) // 8 if bits else 1


def shown(value: object) -> str:
    """A value as text in an error, shortened if it is long or deep."""
    listed = isinstance(value, tuple) and all(type(v) in (int, float) for v in value)
    return _SHOWN.repr(list(value) if listed else value)  # type: ignore[call-overload]


def _all(values: object, good: Callable[[Any], bool]) -> bool:
    return isinstance(values, tuple) and len(values) > 0 and all(map(good, values))


def _count(key: str) -> Refuse:
    def refused(values: dict[str, Any]) -> str | None:
        if not is_count(values[key]):
            return "an integer of at least 1"
        return None if values[key] <= _MOST_COUNT else f"an integer of at most {_MOST_COUNT:,}"

    return refused


def _seed(values: dict[str, Any]) -> str | None:
    if not is_count(values["seed"], 0):
        return "an integer of at least 0"
    return None if values["seed"] <= _MOST_SEED else "an integer below 2**128"


def _shape(values: dict[str, Any]) -> str | None:
    shape, kind = values["shape"], KINDS[values["factory"]]
    if not isinstance(shape, tuple):
        return "a list of sizes"
    if not all(map(is_count, shape)):
        return "a list of integers of at least 1"
    if len(shape) > _MOST_AXES:
        return f"a list of at most {_MOST_AXES} sizes"
    if kind.axes and len(shape) not in kind.axes:
        return f"a list of {' or '.join(map(str, kind.axes))} sizes for {values['factory']}"
    if values["factory"] == "photos" and shape[-1] != 3:  # noqa: PLR2004 red, green and blue
        return "[height, width, 3] for photos"
    return None


def _dtype(values: dict[str, Any]) -> str | None:
    dtypes = KINDS[values["factory"]].dtypes
    return None if values["dtype"] in dtypes else f"one of {', '.join(dtypes)} for {values['factory']}"


def _class_weights(values: dict[str, Any]) -> str | None:
    weights, classes = values["class_weights"], values["classes"]
    if weights == ():
        return None
    if not _all(weights, lambda weight: type(weight) in (int, float) and 0 < weight < math.inf):
        return "a list of numbers above 0"
    return None if len(weights) == classes else f"{classes} numbers, one a class"


def _names(key: str, other: str) -> Refuse:
    def refused(values: dict[str, Any]) -> str | None:
        names = values[key]
        if not _all(names, _is_name):
            return "a list of names"
        twice = _twice([*names, *(values[other] if isinstance(values[other], tuple) else ())])
        return f"names that differ from each other and from {other}" if twice else None

    return refused


def _is_name(name: object) -> bool:
    """Whether it is text that a file can store: lone surrogates cannot be written."""
    return isinstance(name, str) and name != "" and not any("\ud800" <= char <= "\udfff" for char in name)


def _twice(names: Iterable[str]) -> bool:
    names = list(names)
    return len(set(names)) < len(names)


def _columns(values: dict[str, Any]) -> str | None:
    columns, dtypes = values["columns"], KINDS["tables"].dtypes
    if not _all(columns, lambda pair: isinstance(pair, tuple) and len(pair) == 2 and pair[1] in dtypes):  # noqa: PLR2004
        return f"a table of names and dtypes out of {', '.join(dtypes)}"
    if not all(_is_name(name) for name, _ in columns):
        return "a table of names, which are texts, and dtypes"
    return f"names other than {LABEL!r}, which the labels have" if LABEL in dict(columns) else None


def _lengths(values: dict[str, Any]) -> str | None:
    lengths = values["lengths"]
    good = _all(lengths, is_count) and len(lengths) == 2 and lengths[0] <= lengths[1]  # noqa: PLR2004 least and most
    return None if good else "[least, most], integers of at least 1"


def _vocabulary(values: dict[str, Any]) -> str | None:
    most = 2**31 if values["dtype"] == "int32" else _MOST_DRAWN
    good = is_count(values["vocabulary"]) and values["vocabulary"] <= most
    return None if good else f"an integer from 1 to {most} for {values['dtype']}"


def _classes(values: dict[str, Any]) -> str | None:
    good = is_count(values["classes"]) and values["classes"] <= _MOST_DRAWN
    return None if good else "an integer of at least 1"


def _folder(values: dict[str, Any]) -> str | None:
    folder = values["folder"]
    return None if isinstance(folder, str) and folder and "\0" not in folder else "the path of a folder"


_EXPECTED: dict[str, Refuse] = {
    "samples": _count("samples"),
    "batch_size": _count("batch_size"),
    "batches": _count("batches"),
    "seed": _seed,
    "shape": _shape,
    "dtype": _dtype,
    "classes": _classes,
    "class_weights": _class_weights,
    "inputs": _names("inputs", "targets"),
    "targets": _names("targets", "inputs"),
    "columns": _columns,
    "lengths": _lengths,
    "vocabulary": _vocabulary,
    "folder": _folder,
}
