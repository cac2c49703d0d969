"""Reused batch buffers that are never overwritten while somebody can still see them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import chain, count
from sys import getrefcount
from typing import Any

import numpy as np

from pytest_loaderperf.data.arrays.fields import Sized, nbytes
from pytest_loaderperf.loader.plan import SPARE_BATCHES, Plan, within

Empty = Callable[[tuple[int, ...], np.dtype[Any]], np.ndarray]


class Slab:
    """One buffer a field, for ``batches`` consecutive batches, and the per-batch views of them.

    A tensor made from a view keeps that view alive, and so does everything derived from the tensor: views, NumPy
    arrays, saved activations. Hence the views' reference counts tell whether a consumer still holds a batch.
    """

    __slots__ = ("_idle_count", "_watched", "arrays", "layout", "views")

    def __init__(self, fields: Sequence[Sized], batch_size: int, batches: int, empty: Empty = np.empty) -> None:
        self.layout = (fields, batch_size, empty)
        self.arrays = [empty((batches * batch_size, *field.shape), field.dtype) for field in fields]
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
        """Views of batch ``index``, cut to ``rows`` if it is shorter than the others."""
        views = self.views[index]
        return views if len(views[0]) == rows else [view[:rows] for view in views]


class Ring:
    """At most ``size`` slabs of one layout, each handed out again once nobody holds a batch of it.

    A slab that is still held when its turn comes is left to its holder, and a new one takes its place. Any thread may
    take a slab; only the consumer's returns one.
    """

    def __init__(
        self, fields: Sequence[Sized], batch_size: int, batches: int, size: int, empty: Empty = np.empty
    ) -> None:
        self.layout = (fields, batch_size, empty)
        self._batches, self._size = batches, size
        self._taken = count()
        self._returned: deque[Slab] = deque()

    def take(self, *, cached: bool) -> Slab:
        """A slab that nobody holds: the one returned longest ago, or a new one.

        ``cached``: the one returned before the latest, which the consumer may hold; it may still be in a core's cache.
        """
        # No lock, which a fork could leave taken for ever: each of these steps is one of the interpreter's own.
        if next(self._taken) >= self._size:
            try:
                if cached and len(self._returned) > 1:
                    slab = self._returned[-2]
                    del self._returned[-2]
                else:
                    slab = self._returned.popleft()
            except IndexError:
                slab = None
            if slab is not None and not slab.held():
                return slab
        fields, batch_size, empty = self.layout
        return Slab(fields, batch_size, self._batches, empty)

    def put(self, slab: Slab) -> None:
        """Return a slab whose batches have all been delivered; consumers may go on holding them."""
        if len(self._returned) < self._size and slab.layout == self.layout:
            self._returned.append(slab)


_NO_RING = Ring((), 0, 0, 0)  # fits nothing


class Buffers:
    """The ring that a plan asks for, made once the batches' fields are known, and anew where others come.

    ``batch_nbytes``: of one batch, None until one is known. ``empty``: makes their memory.
    """

    def __init__(self, plan: Plan, budget: int | None, batch_nbytes: int | None = None) -> None:
        self.plan, self.batch_nbytes = plan, batch_nbytes
        self.empty: Empty = np.empty
        self._budget = budget
        self._ring = _NO_RING

    def take(self, fields: Sequence[Sized], rows: int, *, cached: bool = False) -> Slab:
        """A slab for ``plan.chunk`` batches of up to ``rows`` rows. Raises DataError beyond the budget."""
        ring, fields = self._ring, tuple(fields)
        held_fields, held_rows, empty = ring.layout
        if held_rows < rows or empty is not self.empty or held_fields != fields:
            self.batch_nbytes = nbytes(fields, rows)
            self.plan = within(self.plan, self.batch_nbytes, self._budget)
            ring = self._ring = Ring(fields, rows, self.plan.chunk, self.plan.ahead + SPARE_BATCHES, self.empty)
        return ring.take(cached=cached)

    def put(self, slab: Slab) -> None:
        """Return a slab whose batches have all been delivered."""
        self._ring.put(slab)

    def close(self) -> None:
        """Free the slabs."""
        self._ring = _NO_RING
