"""What samples are made of: containers and their parts, numbers and arrays, and how two samples differ."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, MutableSequence, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache, partial
from itertools import zip_longest
from operator import attrgetter, itemgetter, setitem
from typing import Any

import numpy as np
import torch

from pytest_loaderperf.data.arrays.fields import Field, array_over, buffer_dtypes, field_of, is_plain
from pytest_loaderperf.errors import DataError


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
    return has_parts(type(sample))


def _has_parts(kind: type) -> bool:
    return (issubclass(kind, Mapping | Sequence) and not issubclass(kind, str | bytes)) or is_dataclass(kind)


has_parts: Callable[[Any], bool] = lru_cache(_has_parts)  # else mypy asks for a Hashable, which no type is to it


def is_nest(node: object) -> bool:
    """Whether it has parts that may be more than numbers."""
    return is_container(node) and not isinstance(node, bytearray | memoryview | range)


def mapped(nest: Any, function: Callable[[Any], Any], is_leaf: Callable[[Any], bool]) -> Any:
    """``nest`` with ``function`` applied to its leaves. A container is made anew where something in it changes."""
    if is_leaf(nest):
        return function(nest)
    if not is_nest(nest):
        return nest
    old = parts(nest).values()
    new = [mapped(part, function, is_leaf) for part in old]
    return nest if all(one is other for one, other in zip(new, old, strict=True)) else rebuilt(nest, new, tuples=True)


def parts(container: Any) -> dict[Any, Any]:
    """Its parts, by key, index or the name of a dataclass's field."""
    if type(container) is not dict and isinstance(container, Sequence):
        return dict(enumerate(container))
    if isinstance(container, Mapping):
        return {key: container[key] for key in container.keys()}  # noqa: SIM118 iterating a TensorDict gives its rows
    return {field.name: getattr(container, field.name) for field in fields(container)}


def labelled(container: Any) -> list[tuple[str, Any]]:
    """Its parts, each with the expression that reaches it."""
    if type(container) is not dict and isinstance(container, Sequence):
        names = getattr(container, "_fields", None) if isinstance(container, tuple) else None
        if names is None:
            return [(f"[{i}]", part) for i, part in enumerate(container)]
        return [(f".{name}", part) for name, part in zip(names, container, strict=True)]
    if isinstance(container, Mapping):
        return [(f"[{key!r}]", part) for key, part in parts(container).items()]
    return [(f".{name}", part) for name, part in parts(container).items()]


def kind_of(sample: Any) -> Any:
    """The types of its containers, nested in the same way; None for anything that is not a container."""
    return (type(sample), *map(kind_of, parts(sample).values())) if is_container(sample) else None


def carrying(sample: Any) -> str | None:
    """The name of a type in it whose instance has attributes besides its parts; None if there is none."""
    if not is_container(sample):
        return None
    own = vars(sample) if hasattr(sample, "__dict__") else {}
    names = parts(sample)
    builtin = isinstance(sample, dict | list | tuple) or is_dataclass(sample)
    if builtin and own.keys() - (names.keys() if is_dataclass(sample) else ()):
        return type(sample).__name__
    return next(filter(None, map(carrying, names.values())), None)


def sample_leaves(sample: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in it that is not a container, with the expression that reaches it."""
    if is_container(sample):
        for label, part in labelled(sample):
            yield from sample_leaves(part, name + label)
    else:
        yield name, sample


def write(
    sample: Any, fields: Sequence[Field], arrays: Sequence[np.ndarray], row: int, there: Sequence[Any] = ()
) -> None:
    """Copy the leaves of ``sample`` into one row of ``arrays``, one for each field, except those already ``there``.

    Raises SampleMismatchError.
    """
    found = dict(sample_leaves(sample))
    for field, array, own in zip_longest(fields, arrays, there):
        leaf = found.pop(field.name, None)
        if own is not None and leaf is own:
            continue
        if (got := field_of(leaf, field.name)) != field:
            raise _unlike(field, got, row)
        try:
            array[row] = array_over(leaf) if isinstance(leaf, torch.Tensor) else leaf
        except OverflowError:
            raise SampleMismatchError(f"expected {field.dtype}, got {leaf}.", row) from None
    for name, leaf in found.items():
        raise _unlike(None, field_of(leaf, name), row)


def _unlike(expected: Field | None, got: Field | None, row: int) -> SampleMismatchError:
    wanted, found = (f"{f.torch_dtype or f.dtype} of shape {f.shape}" if f else "no numbers" for f in (expected, got))
    error = SampleMismatchError(f"expected {wanted}, got {found}.", row)
    error.name = (expected or got or Field("", (), np.dtype(bool), None)).name
    return error


def columns(containers: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """Every part of all of them, in the order of ``parts``. Raises if they differ."""
    first = containers[0]
    if len(set(map(type, containers))) > 1:
        raise TypeError("the containers are of several types")
    if type(first) is not dict and isinstance(first, Sequence):
        return zip(*containers, strict=True)
    if not isinstance(first, Mapping):
        return [list(map(attrgetter(field.name), containers)) for field in fields(first)]
    if len(set(map(len, containers))) > 1:
        raise ValueError("the mappings are of several lengths")
    return [list(map(itemgetter(key), containers)) for key in first.keys()]  # noqa: SIM118 as in parts


def rebuilt(container: Any, values: list[Any], *, tuples: bool = False) -> Any:
    """A container like this one, with ``values`` in the order of ``parts``; a list or dict if it cannot be made.

    Plain tuples become lists, as in torch's collate, unless they are to stay ``tuples``. Other content of a mutable
    container or a dataclass is kept.
    """
    kind = type(container)
    if kind is dict or kind is list:
        return values if kind is list else dict(zip(container, values, strict=True))
    if isinstance(container, tuple):
        if hasattr(container, "_fields"):
            made = kind(*values)
            if own := getattr(container, "__dict__", None):  # of a subclass
                made.__dict__.update(own)
            return made
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


def rebuilder(sample: Any) -> Callable[[Iterable[Any]], Any]:
    """A function that puts a tensor in place of each leaf of ``sample``."""
    is_flat = type(sample) in (tuple, list) and not any(map(is_container, sample))
    return list if is_flat else partial(filled, sample)


def filled(sample: Any, tensors: Iterable[Any], *, tuples: bool = False) -> Any:
    """Such a sample with ``tensors`` for its leaves. Plain tuples become lists, unless they stay ``tuples``."""
    tensors = iter(tensors)
    if is_container(sample):
        values = [filled(part, tensors, tuples=tuples) for part in parts(sample).values()]
        return rebuilt(sample, values, tuples=tuples)
    return next(tensors)


def described(sample: Any, *, ragged: bool = False) -> str:
    """A description of what samples must have in common; ``ragged``: the number of dimensions, but not the shape."""
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


def mismatch(position: int, expected: str, got: str, way_out: str = "") -> SampleMismatchError:
    """The error about the sample at ``position``."""
    way_out = way_out or "Make the samples alike in the dataset, or pass a collate_fn."
    return SampleMismatchError(f"expected {expected}, got {got}. {way_out}", position)


def check(samples: Sequence[Any], *, ragged: bool = False) -> None:
    """Raise SampleMismatchError if a sample differs from the first, or is an integer that no tensor can store."""
    expected = described(samples[0], ragged=ragged)
    for position, sample in enumerate(samples):
        got = described(sample, ragged=ragged)
        if isinstance(sample, int) and not -(1 << 63) <= sample < 1 << 63:
            got = str(sample)
        if got != expected:
            only_shape = hasattr(sample, "shape") and described(sample, ragged=True) == described(
                samples[0], ragged=True
            )
            way_out = 'Pass collate_fn=Collate(ragged="pad"), or "list", or one of your own.' if only_shape else ""
            raise mismatch(position, expected, got, way_out) from None
