"""Samples that are written to the rows of a batch one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
import torch

from pytest_loaderperf.data.arrays.fields import Field, tensor_over
from pytest_loaderperf.data.arrays.structure import (
    SampleMismatchError,
    filled,
    is_container,
    kind_of,
    parts,
    rebuilder,
    sample_leaves,
    write,
)


class Rows:
    """Writes samples like ``sample``, with ``fields``, to the rows of a batch, each while it is in a core's cache.

    If it can be written ``into`` a row by whoever makes it, that one is given, beside its index, what has the structure
    of the sample: a tensor over the row for a tensor, an array over it for an array, and None for a number.
    """

    def __init__(self, sample: Any, fields: Sequence[Field], *, into: bool) -> None:
        self._sample, self.fields, self._into = sample, fields, into
        self._names, leaves = map(list, zip(*sample_leaves(sample), strict=True))
        self._views = [_views_of(leaf, field) for leaf, field in zip(leaves, fields, strict=True)]
        self._numbers = [
            type(leaf) if view is _no_views else None for leaf, view in zip(leaves, self._views, strict=True)
        ]
        self._keys = list(sample) if type(sample) is dict else None
        self._is_flat = type(sample) in (dict, tuple) and not any(map(is_container, parts(sample).values()))

    def fill(self, arrays: Sequence[np.ndarray], indices: Sequence[Any], make: Callable[..., Any]) -> Any:
        """Write what ``make`` gives for each of ``indices`` to a row of ``arrays``, and give the first sample.

        Raises SampleMismatchError where one differs from those before it.
        """
        first = kind = None
        is_nested = False
        given: Iterable[Sequence[Any]] = self._given(arrays) if self._into else repeat(())
        for row, (index, own) in enumerate(zip(indices, given, strict=False)):
            sample = make(index, self._out(own)) if self._into else make(index)
            if not row:
                names = [name for name, _ in sample_leaves(sample)]
                if names != self._names:  # the tensors of a dict in another order would be mixed up
                    raise SampleMismatchError("the parts come in another order", row)
                first, kind = sample, kind_of(sample)
                is_nested = isinstance(kind, tuple) and any(kind[1:])
            elif type(sample) is not type(first) or (is_nested and kind_of(sample) != kind):
                raise SampleMismatchError("the containers are of several types", row)
            if not (self._is_flat and self._into and self._is_written(sample, own, arrays, row)):
                write(sample, self.fields, arrays, row, own)
        return first

    def batch(self, firsts: Sequence[Any], arrays: Sequence[np.ndarray]) -> Any:
        """A batch over ``arrays`` of samples like the ``firsts``, one of each part that was filled.

        Raises SampleMismatchError where they differ.
        """
        if any(kind_of(first) != kind_of(firsts[0]) for first in firsts[1:]):
            raise SampleMismatchError("the containers are of several types")
        tensors = [tensor_over(a, f.torch_dtype) for f, a in zip(self.fields, arrays, strict=True)]
        return rebuilder(firsts[0])(tensors)

    def _given(self, arrays: Sequence[np.ndarray]) -> Iterable[Sequence[Any]]:
        """For each row what its leaves can be written to."""
        return zip(*(views(array) for views, array in zip(self._views, arrays, strict=True)), strict=False)

    def _out(self, own: Sequence[Any]) -> Any:
        if not self._is_flat:
            return filled(self._sample, own, tuples=True)
        return own if self._keys is None else dict(zip(self._keys, own, strict=True))

    def _is_written(self, sample: Any, own: Sequence[Any], arrays: Sequence[np.ndarray], row: int) -> bool:
        """Whether the flat ``sample`` came back in what was given, as nearly all do; its numbers are written then.

        It costs a sixth of `write`, which decides where this does not.
        """
        if self._keys is not None:
            if type(sample) is not dict or list(sample) != self._keys:
                return False
            sample = sample.values()
        elif type(sample) is not tuple or len(sample) != len(own):
            return False
        for leaf, there, number, array in zip(sample, own, self._numbers, arrays, strict=True):
            if number is None:
                if leaf is not there:
                    return False
            elif type(leaf) is not number:
                return False
            else:
                try:
                    array[row] = leaf
                except OverflowError:
                    return False
        return True


def _views_of(leaf: Any, field: Field) -> Callable[[Any], Iterable[Any]]:
    """What gives views of an array's rows, of the type of ``leaf``; of numbers None."""
    if isinstance(leaf, np.ndarray):
        return _views
    if not isinstance(leaf, torch.Tensor):
        return _no_views
    return partial(_tensors, field.torch_dtype)


def _views(array: np.ndarray) -> Iterator[np.ndarray]:
    return iter(array) if array.ndim > 1 else (array[row, ...] for row in range(len(array)))


def _tensors(torch_dtype: torch.dtype | None, array: np.ndarray) -> Iterable[torch.Tensor]:
    if torch_dtype is None:
        return map(torch.from_numpy, _views(array))
    return (tensor_over(view, torch_dtype) for view in _views(array))


def _no_views(_array: np.ndarray) -> Iterable[None]:
    return repeat(None)
