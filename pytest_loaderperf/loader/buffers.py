"""Reused batch buffers that are never overwritten while somebody can still see them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import chain
from sys import getrefcount

import numpy as np

from pytest_loaderperf.loader.columns import Columns


class Slab:
    """One buffer a column, for ``batches`` consecutive batches, and the per-batch views of them.

    A tensor made from a view keeps that view alive, and so does everything derived from the tensor: views, NumPy
    arrays, saved activations. Hence the views' reference counts tell whether a consumer still holds a batch.
    """

    __slots__ = ("_idle_count", "_watched", "arrays", "views")

    def __init__(self, columns: Columns, batch_size: int, batches: int) -> None:
        self.arrays = [
            np.empty((batches * batch_size, *column.rows.shape[1:]), column.batch_dtype) for column in columns.columns
        ]
        self.views = [[array[i * batch_size : (i + 1) * batch_size] for array in self.arrays] for i in range(batches)]
        # A short last batch is a view whose base NumPy sets to the whole buffer: so the buffers are watched as well.
        self._watched = [*chain.from_iterable(self.views), *self.arrays]
        self._idle_count = self._count()

    def _count(self) -> int:
        return sum(map(getrefcount, self._watched))

    def held(self) -> bool:
        """Whether anything outside still refers to a batch of this slab."""
        return self._count() != self._idle_count

    def batch(self, index: int, rows: int) -> Sequence[np.ndarray]:
        """Views of batch ``index``, cut to ``rows`` if it is the short last one."""
        views = self.views[index]
        return views if len(views[0]) == rows else [view[:rows] for view in views]


class Ring:
    """At most ``size`` slabs, each handed out again once nobody holds a batch of it.

    A slab that is still held when its turn comes is left to its holder, and a new one takes its place.
    """

    def __init__(self, columns: Columns, batch_size: int, batches: int, size: int) -> None:
        self._columns, self._batch_size, self._batches, self._size = columns, batch_size, batches, size
        self._made = 0
        self._returned: deque[Slab] = deque()

    def take(self) -> Slab:
        """A slab that nobody holds: the one returned longest ago, or a new one."""
        if self._made < self._size:
            self._made += 1
        elif self._returned:
            slab = self._returned.popleft()
            if not slab.held():
                return slab
        return Slab(self._columns, self._batch_size, self._batches)

    def put(self, slab: Slab) -> None:
        """Return a slab whose batches have all been delivered; consumers may go on holding them."""
        if len(self._returned) < self._size:
            self._returned.append(slab)
