"""Random numbers that a seed determines, the same on every machine, from any position of the sequence."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np

_WORD_NBYTES = 8  # PCG64 gives 64 bits in each step
_DRAW_BITS = 32  # of every number that is not drawn as plain bytes
_DRAW_NBYTES = _DRAW_BITS // 8
_FRACTION_BITS = 24  # that a float32 can store exactly


class Draws:
    """An endless sequence of random bytes that ``seed`` and ``key`` determine.

    It uses only PCG64's own words, which NumPy does not change; it may change how its Generator uses them. Positions
    are counted in numbers from the start of the sequence, so any part of it can be drawn alone.
    """

    def __init__(self, seed: int, *key: int) -> None:
        self._seed = np.random.SeedSequence(seed, spawn_key=key)

    def whole(self, dtype: np.dtype[Any], start: int, stop: int) -> np.ndarray:
        """Numbers of an integer ``dtype``, or bools, each value equally likely."""
        drawn = self._bytes(start * dtype.itemsize, stop * dtype.itemsize)
        if dtype.kind == "b":
            return (drawn & 1).view(dtype)
        return drawn.view(dtype.newbyteorder("<")).astype(dtype, copy=False)

    def fractions(self, start: int, stop: int) -> np.ndarray:
        """float32 from 0 to below 1 in steps of 2**-24: integers scaled by a power of two, so without rounding."""
        whole = self._draws(start, stop) >> np.uint32(_DRAW_BITS - _FRACTION_BITS)
        scaled = whole.astype(np.float32)
        scaled *= np.float32(2.0**-_FRACTION_BITS)
        return scaled

    def below(self, end: int | np.ndarray, start: int, stop: int) -> np.ndarray:
        """int64 from 0 to below ``end``, which is at most 2**32, and may differ from draw to draw."""
        products = self._draws(start, stop).astype(np.uint64) * np.asarray(end, np.uint64)
        return (products >> np.uint64(_DRAW_BITS)).astype(np.int64)

    def weighted(self, weights: Sequence[float], start: int, stop: int) -> np.ndarray:
        """int64 below ``len(weights)``, with probabilities in proportion to the weights."""
        sums = list(accumulate(map(Fraction, weights)))
        ends = [int(part / sums[-1] * 2**_DRAW_BITS) for part in sums[:-1]]
        draws = self._draws(start, stop).astype(np.uint64)
        return np.searchsorted(np.asarray(ends, np.uint64), draws, side="right").astype(np.int64)

    def order(self, samples: int) -> np.ndarray:
        """An int64 permutation of ``range(samples)``."""
        return np.argsort(self.whole(np.dtype(np.uint64), 0, samples), kind="stable").astype(np.int64, copy=False)

    def _draws(self, start: int, stop: int) -> np.ndarray:
        return self._bytes(start * _DRAW_NBYTES, stop * _DRAW_NBYTES).view("<u4")

    def _bytes(self, start: int, stop: int) -> np.ndarray:
        first = start // _WORD_NBYTES
        words = np.random.PCG64(self._seed).advance(first).random_raw(-(-stop // _WORD_NBYTES) - first)
        begin = start - first * _WORD_NBYTES
        return words.astype("<u8", copy=False).view(np.uint8)[begin : begin + stop - start]
