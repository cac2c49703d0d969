"""The fields of workloads, which a seed determines; any rows can be generated."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np

from pytest_loaderperf.data.arrays.ragged import Ragged, offsets_of
from pytest_loaderperf.data.workloads.draws import Draws
from pytest_loaderperf.data.workloads.kinds import LABEL
from pytest_loaderperf.data.workloads.spec import WorkloadSpec

_LABEL_KEY = 1 << 16  # of the labels' draws; other fields have their positions
_LENGTH_KEY = _LABEL_KEY + 1
LABEL_DTYPE = np.dtype(np.int64)  # as torch's losses need it


class WorkloadField(Protocol):
    """One array of each sample. ``shape`` is that of one sample; None: lengths differ.

    A row is always the same, whatever other rows are requested with it.
    """

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...] | None: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def rows(self, start: int, stop: int) -> np.ndarray | Ragged:
        """Rows ``start`` to below ``stop``: an array ``(stop - start, *shape)``, or Ragged if ``shape`` is None."""
        ...


@dataclass(frozen=True, slots=True)
class Numbers:
    """Equally likely numbers: floats from 0 to below 1, integers of the dtype's full range, bools."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    draws: Draws

    def rows(self, start: int, stop: int) -> np.ndarray:
        """An array ``(stop - start, *shape)``."""
        size = prod(self.shape)
        if self.dtype.kind == "f":
            drawn = self.draws.fractions(start * size, stop * size).astype(self.dtype, copy=False)
        else:
            drawn = self.draws.whole(self.dtype, start * size, stop * size)
        return drawn.reshape(stop - start, *self.shape)


@dataclass(frozen=True, slots=True)
class Labels:
    """int64 labels below ``classes``, equally likely or by ``weights``; ``skipped`` draws precede the first one."""

    classes: int
    weights: tuple[float, ...]
    draws: Draws
    skipped: int = 0
    name: str = LABEL
    shape: tuple[int, ...] = ()
    dtype: np.dtype[Any] = LABEL_DTYPE

    def rows(self, start: int, stop: int) -> np.ndarray:
        """An array ``(stop - start,)``."""
        start, stop = start + self.skipped, stop + self.skipped
        if self.weights:
            return self.draws.weighted(self.weights, start, stop)
        return self.draws.below(self.classes, start, stop)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids below ``vocabulary``, ``lengths`` (least, most) of them in each sample, each length equally likely."""

    lengths: tuple[int, ...]
    vocabulary: int
    dtype: np.dtype[Any]
    draws: Draws
    length_draws: Draws
    name: str = "tokens"
    shape: None = None

    def counts(self, start: int, stop: int) -> np.ndarray:
        """int64 lengths of the rows."""
        least, most = self.lengths
        return self.length_draws.below(most - least + 1, start, stop) + least

    def rows(self, start: int, stop: int) -> Ragged:
        """Each row has space for the most tokens in the draws, so its position does not depend on earlier lengths."""
        counts, most = self.counts(start, stop), self.lengths[1]
        drawn = self.draws.below(self.vocabulary, start * most, stop * most).reshape(-1, most)
        kept = drawn[np.arange(most) < counts[:, None]]
        shapes = counts[:, None]
        return Ragged(kept.astype(self.dtype, copy=False), offsets_of(shapes), shapes)


def synthetic_fields(spec: WorkloadSpec) -> tuple[WorkloadField, ...]:
    """The fields of a generated workload: arrays, images, volumes, tables or tokens."""
    if spec.factory == "tokens":
        draws = Draws(spec.seed), Draws(spec.seed, _LENGTH_KEY)
        return Tokens(spec.lengths, spec.vocabulary, np.dtype(spec.dtype), *draws), _labels(spec)
    if spec.factory == "volumes":
        pairs = [(name, spec.dtype) for name in (*spec.inputs, *spec.targets)]
    elif spec.factory == "tables":
        pairs = list(spec.columns)
    else:
        pairs = [("image" if spec.factory == "images" else "features", spec.dtype)]
    numbers = [
        Numbers(name, spec.shape, np.dtype(dtype), Draws(spec.seed, *([key] if key else [])))
        for key, (name, dtype) in enumerate(pairs)
    ]
    return (*numbers, _labels(spec)) if spec.classes else tuple(numbers)


def _labels(spec: WorkloadSpec) -> Labels:
    if spec.factory == "uniform":
        # These come from the same draws after the features, because results and users rely on these bytes.
        return Labels(spec.classes, spec.class_weights, Draws(spec.seed), spec.samples * prod(spec.shape))
    return Labels(spec.classes, spec.class_weights, Draws(spec.seed, _LABEL_KEY))
